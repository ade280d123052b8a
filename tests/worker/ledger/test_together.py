"""Writes that belong together, on both databases: all of them or none, each with its own values, in few messages."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
from sqlalchemy import Connection, event, select

from rules.lifecycle import Intent, Outcome, State, StepState, Verdict
from rules.recheck import Due, Found, Kind
from tests.worker.ledger.samples import at_once, claimed, column, execute, findings, looked, new_job, new_secret
from worker.ledger import batches, moves, reads, rechecks
from worker.ledger import statements as sql
from worker.ledger.database import Database
from worker.ledger.rechecks import Watch
from worker.ledger.rows import Claim, NewJob
from worker.ledger.tables import credentials, jobs, secrets, steps
from worker.ledger.together import Write, change, write

LATER = 10**18
MANY = 300
"""Rows enough for a look at all of them to be seen."""


def says(claim: Claim, text: str, fence: int | None = None) -> Write:
    """The sentence of a claimed job, as long as the fence is the claim's."""
    return Write(
        sql.CHANGE_MINE, {"this": claim.job.id, "my_fence": claim.fence if fence is None else fence, "says": text}
    )


def step(claim: Claim, number: int, **changes: Any) -> Write:
    """A step that was intended."""
    row = {
        "job": claim.job.id,
        "number": number,
        "drive": 1,
        "fence": claim.fence,
        "name": "probe",
        "purpose": "before",
        "mutating": False,
        "state": StepState.INTENDED,
        "request": {"method": "GET", "url": "https://example.com/%(this)s?a=100%&b=:c"},
        "started_at": 1,
        "taken": None,
    }
    return Write(sql.ADD_STEP, {**row, **changes})


@contextmanager
def telling(db: Database) -> Iterator[list[str]]:
    """The statements that are sent meanwhile."""
    with db.begin() as conn:
        engine = conn.engine
    sent: list[str] = []

    def note(_conn: Connection, _cursor: object, statement: str, *_: object) -> None:
        sent.append(statement)

    event.listen(engine, "before_cursor_execute", note)
    try:
        yield sent
    finally:
        event.remove(engine, "before_cursor_execute", note)


def test_all_follow_the_first(db: Database) -> None:
    """Every write has values of its own, also under one name; JSON, a per cent sign and nothing stay what they are."""
    claim = claimed(db)
    with db.begin() as conn:
        learn = Write(sql.LEARN, {"this": claim.job.credential, "subject": "50 % of %s"})
        lock = Write(sql.LOCK_CREDENTIAL, {"this": claim.job.credential})
        done = change(conn, says(claim, "first"), step(claim, 1), step(claim, 2, request={}), learn)
        assert (done, change(conn, says(claim, "second"), step(claim, 3), lock)) == (True, True)
    first, second, third = reads.steps(db, claim.job.id)
    assert (column(db, claim.job.id, "says"), second.request, third.number) == ("second", {}, 3)
    assert first.request == {"method": "GET", "url": "https://example.com/%(this)s?a=100%&b=:c"}
    assert (first.taken, first.state) == (None, StepState.INTENDED)
    assert reads.credential(db, claim.job.credential).subject == "50 % of %s"


def test_none_follows_where_nothing_was_changed(db: Database) -> None:
    """Another fence: not one of the others is done."""
    claim = claimed(db)
    with db.single() as conn:
        learn = Write(sql.LEARN, {"this": claim.job.credential, "subject": "ben"})
        assert not change(conn, says(claim, "nobody's", fence=7), step(claim, 1), learn)
        assert not change(conn, says(claim, "nobody's", fence=7))
    assert (column(db, claim.job.id, "says"), reads.steps(db, claim.job.id)) == (None, [])
    assert reads.credential(db, claim.job.credential).subject is None


def test_nothing_is_kept_where_one_fails(db: Database) -> None:
    """A step that is there already: the job's own change is gone with it, also where no transaction was begun."""
    claim = claimed(db)
    looked(db, claim)
    for scope in (db.begin, db.single):
        with pytest.raises(Exception, match=r"(?i)unique"), scope() as conn:
            change(conn, says(claim, "half"), step(claim, 1))
    assert column(db, claim.job.id, "says") is None


def test_each_without_a_first(db: Database) -> None:
    """Writes that nothing decides about are all done."""
    one, other = claimed(db), claimed(db)
    with db.begin() as conn:
        write(conn, says(one, "one"), says(other, "other"), says(one, "nobody's", fence=9))
    assert [column(db, claim.job.id, "says") for claim in (one, other)] == ["one", "other"]


def test_only_an_update_goes_first(postgres_url: str) -> None:
    """An INSERT would not tell whether there was anything to change."""
    database = Database(postgres_url)
    with pytest.raises(TypeError, match="an UPDATE goes first, and not Insert"), database.begin() as conn:
        change(conn, Write(sql.ADD_STEP, {"job": "j"}), Write(sql.ADD_STEP, {"job": "j"}))
    database.dispose()


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_a_look_is_one_message(db: Database) -> None:
    """What a step came to and what comes next is one statement, which is a transaction by itself."""
    claim = claimed(db)
    with telling(db) as sent:
        number = moves.intend(db, claim, name="read", purpose="read", mutating=False, request={})
        moves.note(db, claim, number, outcome=Outcome.OK, says="it answered", credential={"subject": "ben"})
        moves.wait(db, claim, db.now(), "later")
    assert [statement.split()[0] for statement in sent] == ["WITH", "WITH"]
    assert (column(db, claim.job.id, "state"), findings(db)) == (State.WAITING, [])


def kept(new: NewJob, db: Database) -> dict[str, int]:
    """Until when each secret of a credential is kept, by the job that it was given to."""
    same = select(secrets.c.job, secrets.c.shred_by).join(jobs, jobs.c.id == secrets.c.job).join(credentials)
    with db.read() as conn:
        return {row.job: row.shred_by for row in conn.execute(same.where(credentials.c.fingerprint == new.fingerprint))}


def test_an_end_goes_with_what_ends_by_it(db: Database) -> None:
    """One message ends the job, its credential's series and what was kept for that; what is at work keeps its own."""
    new = replace(new_job(), secrets=[new_secret(LATER)])
    watch = Watch((Due(Kind.LOOK, LATER), Due(Kind.LOOK, LATER + 1)), kinds=frozenset({"token"}), until=LATER, within=7)
    first = claimed(db, new)
    moves.finish(db, first, Verdict.REVOKED, "dead", also=partial(watch.begin, job=first.job))
    assert kept(new, db) == {first.job.id: 8}
    execute(db, "UPDATE secrets SET shred_by = :later", later=LATER)
    other = claimed(db, replace(new, intent=Intent.RESTORE, secrets=[new_secret(LATER)]))
    claim = claimed(db, replace(new, secrets=[new_secret(LATER)]))
    credential, now = claim.job.credential, db.now()
    with telling(db) as sent:
        moves.finish(db, claim, Verdict.REVOKED, "dead", shred_by=now, beside=rechecks.nothing_follows(credential, now))
    assert [row.found for row in rechecks.of_credential(db, credential)] == [Found.STOPPED] * 2
    assert kept(new, db) == {first.job.id: now, claim.job.id: now, other.job.id: LATER}
    assert (column(db, claim.job.id, "state"), findings(db)) == (State.DONE, [])
    assert not db.on_postgres or [statement.split()[0] for statement in sent] == ["WITH"]


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_the_longest_end_is_remembered(db: Database) -> None:
    """Psycopg reads a statement of more than 50 parameters or 4,096 characters anew whenever it is executed."""
    claim = claimed(db, replace(new_job(), secrets=[new_secret(LATER)]))
    now = db.now()
    number = moves.intend(db, claim, name="delete", purpose="act", mutating=True, request={})
    with telling(db) as sent:
        moves.note(db, claim, number, outcome=Outcome.OK, says="deleted", credential={"subject": "ben"})
        follows = rechecks.nothing_follows(claim.job.credential, now)
        moves.finish(db, claim, Verdict.REVOKED, "dead", shred_by=now, beside=follows)
    (statement,) = sent
    assert len(set(re.findall(r"%\(\w+\)s", statement))) <= 50
    assert len(statement) <= 4096


def test_a_word_that_stays_the_same_is_told_as_it_is(db: Database) -> None:
    """It may hold what the driver or SQL reads as its own."""
    odd = "100%(this)s % ' \\\" :x ?"
    claim = claimed(db)
    only = sql.CHANGE_MINE.where(jobs.c.says == odd)
    with db.begin() as conn:
        assert not change(conn, Write(only, says(claim, "no").values), says(claim, "no"))
        assert change(conn, says(claim, odd))
        assert change(conn, Write(only, says(claim, "found").values), step(claim, 1))
    assert column(db, claim.job.id, "says") == "found"


def test_a_series_goes_on_where_the_last_one_stopped(db: Database) -> None:
    """Its rows are numbered on, and written in one piece; what was to come of the one before is stopped."""
    new = new_job()
    for _ in range(2):
        claim = claimed(db, new)
        watch = Watch((Due(Kind.LOOK, 5), Due(Kind.AGAIN, 6), Due(Kind.LOOK, 7)), lapsed_at=6)
        moves.finish(db, claim, Verdict.REVOKED, "dead", also=partial(watch.begin, job=claim.job))
    rows = rechecks.of_credential(db, claim.job.credential)
    assert [row.number for row in rows] == [1, 2, 3, 4, 5, 6]
    assert [(row.kind, row.due, row.lapsed_at) for row in rows[3:]] == [(due.kind, due.at, 6) for due in watch.series]
    assert [row.found for row in rows] == [Found.STOPPED] * 3 + [None] * 3
    assert {row.after for row in rows[3:]} == {claim.job.id}


def test_who_joins_does_not_lose_the_claim(db: Database) -> None:
    """A submission that joins moves the head of the chain: the claim's next write finds the new one, in any number."""
    new = new_job()
    claim = claimed(db, new)
    for _ in range(3):
        results = at_once(
            *[lambda: moves.submit(db, new).joined] * 3,
            lambda: moves.intend(db, claim, name="read", purpose="read", mutating=True, request={}),
        )
        assert results[:3] == [True] * 3
        moves.record(db, claim, results[3], outcome=Outcome.OK, says="it answered")
    assert ([each.number for each in reads.steps(db, claim.job.id)], findings(db)) == ([1, 2, 3], [])


def test_one_of_many_claims(db: Database) -> None:
    """Bells that were doubled: the job is read by all, and taken by one."""
    for _ in range(5):
        job = moves.submit(db, new_job()).job_id
        claims = at_once(*[lambda job=job: moves.claim(db, job, lease=60, worker="w") for _ in range(6)])
        assert [claim.fence for claim in claims if claim is not None] == [1]
    assert findings(db) == []


# ── what is looked at ─────────────────────────────────────────────────────────────────────────────────────────────────


def looks_at(conn: Connection, table: str) -> int:
    """How many rows of a table this transaction has read, by an index or by going through it."""
    found = conn.exec_driver_sql(
        "SELECT seq_tup_read + coalesce(idx_tup_fetch, 0) FROM pg_stat_xact_user_tables WHERE relname = %s", (table,)
    )
    return int(found.scalar_one())


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_a_load_does_not_look_at_what_is_open(db: Database) -> None:
    """Each step of it costs the same, however much was loaded, by a connection that has seen the tables empty."""
    batch = batches.begin(db, name="leavers.csv", source="s", actor="ada").id
    for _ in range(12):
        batches.stage(db, batch, [new_job() for _ in range(MANY // 12)])
    with db.begin() as conn:
        wanted = conn.execute(select(jobs.c.credential, jobs.c.connection, jobs.c.intent).limit(5)).all()
        before = looks_at(conn, "jobs")
        assert len(batches._open_jobs(conn, {tuple(row) for row in wanted})) == 5  # noqa: SLF001 - one look of many
        assert looks_at(conn, "jobs") - before < MANY / 3
        known = (credentials.c.fingerprint, credentials.c.rule, credentials.c.connection)
        keys = {tuple(row) for row in conn.execute(select(*known).limit(5))}
        before = looks_at(conn, "credentials")
        assert len(list(batches._look_up(conn, known, keys, credentials.c.id))) == 5  # noqa: SLF001 - as above
        assert looks_at(conn, "credentials") - before < MANY / 3


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_an_end_does_not_look_at_all_that_is_sealed(db: Database) -> None:
    """What a job's end shreds is found by its job, though the dates of everything that is sealed have an index."""
    batch = batches.begin(db, name="leavers.csv", source="s", actor="ada").id
    for _ in range(3):
        batches.stage(db, batch, [new_job(secrets=[new_secret(10**18)]) for _ in range(MANY // 3)])
    claim = claimed(db, new_job(secrets=[new_secret(10**18)]))
    with db.begin() as conn:
        before = looks_at(conn, "secrets")
        write(conn, Write(sql.HASTEN, {"this": claim.job.id, "sooner": 5, "shred_by": 5}))
        assert looks_at(conn, "secrets") - before <= 3
        assert conn.execute(select(steps)).all() == []
    assert [secret.shred_by for secret in reads.secrets_of(db, claim.job.id)] == [5]


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_an_end_does_not_look_at_all_that_is_to_come(db: Database) -> None:
    """What is stopped is found by its credential, though what was not begun has an index; also while tables are new."""
    watch = Watch(tuple(Due(Kind.LOOK, LATER + place) for place in range(MANY)))
    for _ in range(2):
        claim = claimed(db)
        moves.finish(db, claim, Verdict.REVOKED, "dead", also=partial(watch.begin, job=claim.job))
    claim = claimed(db)
    with db.begin() as conn:
        for _ in range(9):
            before = looks_at(conn, "rechecks")
            write(conn, *rechecks.nothing_follows(claim.job.credential, db.now()))
            assert looks_at(conn, "rechecks") == before
