"""Provider accounts on both databases: budgets that two clocks share, patience, turns, and the breaker."""

from __future__ import annotations

from typing import Any

import pytest

from rules.budget import REQUEST, Limits, capacity
from rules.lifecycle import State
from rules.trouble import FAILURES
from rules.units import SECOND
from tests.worker.ledger.samples import at_once, column, execute, findings, looked, new_job
from worker.ledger import accounts, batches, moves, reads
from worker.ledger.database import Database
from worker.ledger.rows import Ring

HOURLY = Limits.model_validate({"requests": 50, "per": "24h"})
"""Ten requests at once, and then none for half an hour."""


def hourly(account: str, _rule: str) -> Limits | None:
    """What these tests' providers allow: one account of them is limited."""
    return HOURLY if account == "slow" else None


def submit(db: Database, **changes: Any) -> str:
    """A job; its id."""
    return moves.submit(db, new_job(**changes)).job_id


def names(rings: list[Ring]) -> list[str]:
    """The jobs that were rung."""
    return [ring.job_id for ring in rings]


def take(db: Database, job: str, lease: float = 60) -> Any:
    """The claim, or None."""
    return moves.claim(db, job, lease=lease, worker="w1")


def open_batch(db: Database, *jobs: Any) -> str:
    """An open batch with these jobs."""
    batch = batches.begin(db, name="leavers.csv", source="s", actor="ada").id
    batches.stage(db, batch, list(jobs))
    batches.release(db, batch, actor="ada")
    return batch


def test_a_budget_is_spent_by_bells(db: Database) -> None:
    """As many are rung as the limit has room for, less the share of incidents; the others wait, and do not circle."""
    jobs = [submit(db, connection="slow", cost=2) for _ in range(9)]
    free = submit(db, connection="fast", cost=2)

    first = names(moves.ring_due(db, 100, 60, hourly))

    assert sorted(first) == sorted([*jobs[:4], free])
    assert moves.ring_due(db, 100, 60, hourly) == []
    assert moves.ring(db, jobs[4:], hourly) == []
    # A bell that was lost was paid for already.
    assert sorted(names(moves.ring_due(db, 100, 0, hourly))) == sorted(first)
    bucket = accounts.standings(db)["slow"].bucket
    assert bucket is not None
    assert bucket.tokens == capacity(HOURLY) - 8 * REQUEST
    assert all(column(db, job, "rung_at") is None for job in jobs[4:])


def test_an_incident_has_its_share(db: Database) -> None:
    """It is rung when bulk may spend no more, and before bulk that came earlier."""
    open_batch(db, *(new_job(connection="slow", cost=1, priority=7) for _ in range(30)))
    assert len(batches.ring_due(db, 100, 60, hourly)) == 8

    urgent = [submit(db, connection="slow", cost=1, queue="urgent") for _ in range(2)]

    assert names(moves.ring(db, urgent[:1], hourly)) == urgent[:1]
    bulk = submit(db, connection="slow", cost=1, priority=0)
    assert names(moves.ring_due(db, 100, 60, hourly)) == urgent[1:]
    assert column(db, bulk, "rung_at") is None


def test_two_clocks_spend_one_budget(db: Database) -> None:
    """Both ring at the same moment, a batch and single jobs: together no more than the budget has."""
    open_batch(db, *(new_job(connection="slow", cost=1, priority=7) for _ in range(30)))
    for _ in range(30):
        submit(db, connection="slow", cost=1)
    other = Database(str(db.url.render_as_string(hide_password=False)))

    results = at_once(
        *(lambda each=each: moves.ring_due(each, 100, 60, hourly) for each in (db, other)),
        *(lambda each=each: batches.ring_due(each, 100, 60, hourly) for each in (db, other)),
    )

    other.dispose()
    assert all(isinstance(result, list) for result in results), results
    rung = [name for result in results for name in names(result)]
    assert len(rung) == len(set(rung)) == 8


def test_accounts_take_turns(db: Database) -> None:
    """A provider with a thousand jobs does not keep one with a few waiting, in a batch or outside of one."""
    many = [new_job(connection="big", priority=7) for _ in range(20)]
    few = [new_job(connection="small", priority=7) for _ in range(3)]
    open_batch(db, *many, *few)
    rung = {column(db, name, "connection") for name in names(batches.ring_due(db, 4, 60))}
    assert rung == {"big", "small"}
    for connection in ("big", "big", "big", "small"):
        submit(db, connection=connection)
    assert [column(db, name, "connection") for name in names(moves.ring_due(db, 2, 60))] in (
        ["big", "small"],
        ["small", "big"],
    )


def test_patience_is_asked_of_all(db: Database) -> None:
    """Nothing of the account is rung or begins before the time; then what was rung in vain is rung again."""
    job, waiting, other = submit(db), submit(db), submit(db, connection="other")
    assert names(moves.ring(db, [job])) == [job]
    accounts.put_off(db, "prod", db.now() + 3600 * SECOND)
    accounts.put_off(db, "prod", db.now() + 60 * SECOND)

    assert take(db, job) is None
    assert column(db, job, "state") == State.QUEUED
    assert names(moves.ring_due(db, 100, 0)) == [other]
    assert (accounts.standings(db)["prod"].retry_at or 0) > db.now() + 3000 * SECOND

    execute(db, "UPDATE accounts SET retry_at = :at", at=db.now())

    assert names(moves.ring_due(db, 100, 60)) == [job, waiting]
    assert take(db, job) is not None


def break_down(db: Database) -> int | None:
    """So many failures that the account is left alone."""
    return [accounts.fail(db, "prod", 0.5, actor="w1", says="503") for _ in range(FAILURES)][-1]


def test_the_breaker_rests_the_account_and_not_the_queue(db: Database) -> None:
    """Enough failures in a row, and nothing of the account begins; others do; after the rest one job tries."""
    jobs = [submit(db) for _ in range(3)]
    assert sorted(names(moves.ring_due(db, 100, 60))) == sorted(jobs)
    assert break_down(db) is not None
    assert accounts.fail(db, "prod", 0.5, actor="w2", says="late") is None
    # However slow this machine is, the rest is not over yet.
    execute(db, "UPDATE accounts SET broken_until = :at", at=db.now() + 3600 * SECOND)
    assert [take(db, job) for job in jobs] == [None, None, None]
    assert take(db, submit(db, connection="other")) is not None

    execute(db, "UPDATE accounts SET broken_until = :at", at=db.now())

    assert len(moves.ring_due(db, 100, 60)) == 1
    trial = take(db, jobs[0])
    assert (trial.trial, trial.troubled) == (True, True)
    assert take(db, jobs[1]) is None
    # The trial goes wrong: a longer rest. The next goes well: all go on, and at once.
    assert accounts.fail(db, "prod", 0.5, actor="w1", says="503", trial=True) is not None
    execute(db, "UPDATE accounts SET broken_until = :at", at=db.now())
    assert take(db, jobs[1]).trial
    assert accounts.succeed(db, "prod", actor="w1")
    assert names(moves.ring_due(db, 100, 60)) == [jobs[2]]
    rows = reads.audit_rows(db, "revoq", 10)
    assert [row.facts["event"] for row in rows] == ["breaker closed→open", "breaker tried→open", "breaker open→closed"]
    short, long = (row.facts["until"] - row.at for row in rows[:2])
    assert long == 2 * short
    assert findings(db) == []


def test_one_of_two_tries(db: Database) -> None:
    """Two workers at the same moment after a rest: one begins; a job that is not due gives the trial back."""
    jobs = [submit(db) for _ in range(2)]
    parked = submit(db)
    moves.cancel(db, parked, actor="ada", why="no")
    break_down(db)
    execute(db, "UPDATE accounts SET broken_until = :at", at=db.now())
    assert take(db, parked) is None

    claims = at_once(*(lambda job=job: take(db, job) for job in jobs))

    assert sorted(claim is None for claim in claims) == [False, True], claims


def test_a_success_forgets(db: Database) -> None:
    """Failures count in a row only; a claim knows whether there were any."""
    for _ in range(FAILURES - 1):
        assert accounts.fail(db, "prod", 0.5, actor="w1", says="503") is None
    claim = take(db, submit(db))
    assert (claim.troubled, claim.trial) == (True, False)
    assert not accounts.succeed(db, "prod", actor="w1")
    assert accounts.fail(db, "prod", 0.5, actor="w1", says="503") is None
    assert accounts.standings(db)["prod"].failures == 1
    assert take(db, submit(db, connection="other")).troubled is False


@pytest.mark.parametrize("drive", [1, 2])
def test_what_was_sent_is_not_paid_again(db: Database, drive: int) -> None:
    """A job that waited pays for the rest of its plan; one that is driven again pays for all of it."""
    job = submit(db, connection="slow", cost=3)
    moves.ring(db, [job], hourly)
    claim = take(db, job)
    looked(db, claim)
    looked(db, claim)
    before = accounts.standings(db)["slow"].bucket
    if drive == 1:
        moves.wait(db, claim, db.now(), "settling")
    else:
        moves.park(db, claim, "denied", "no")  # type: ignore[arg-type]
        moves.retry(db, job, actor="ada", why="now")

    assert names(moves.ring(db, [job], hourly)) == [job]

    after = accounts.standings(db)["slow"].bucket
    assert before is not None
    assert after is not None
    assert round((before.tokens - after.tokens) / REQUEST) == (1 if drive == 1 else 3)
