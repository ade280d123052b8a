"""What a report reads, on both databases: every job that a batch has or counts, once, with all that was seen of it."""

from __future__ import annotations

from rules.lifecycle import Outcome
from tests.worker.ledger.samples import claimed, looked, new_job
from worker.ledger import audit, batches, moves, reads, reports
from worker.ledger.database import Database


def loaded(db: Database, source: str, *letters: str) -> str:
    """An open batch with credentials of these names."""
    batch = batches.begin(db, name="leavers.csv", source=source, actor="ada").id
    batches.stage(db, batch, [new_job(fingerprint=letter * 64, inputs={"NAME": letter}) for letter in letters])
    batches.release(db, batch, actor="ada")
    return batch


def read(db: Database, batch: str) -> list[reports.Entry]:
    """All entries of a batch."""
    with db.read() as conn:
        return list(reports.entries(conn, batch))


def test_own_and_joined_jobs_each_once(db: Database) -> None:
    """A job that was open before counts in every batch that named it, and is told apart from the batch's own."""
    before = moves.submit(db, new_job(fingerprint="a" * 64)).job_id
    one, two = loaded(db, "one", "a", "b"), loaded(db, "two", "a", "b", "c")

    first, second = read(db, one), read(db, two)

    assert [(entry.job.id == before, entry.joined) for entry in first] == [(True, True), (False, False)]
    assert [entry.joined for entry in second] == [True, True, False]
    assert [entry.inputs.get("NAME") for entry in second] == [None, "b", "c"]
    for batch, entries in ((one, first), (two, second)):
        assert len(entries) == sum(count.count for count in batches.counts(db, batch))
        assert {entry.credential.id for entry in entries} == {entry.job.credential for entry in entries}


def test_pages_leave_nothing_out(db: Database) -> None:
    """More jobs than one page holds come once each, in order, and nothing of another batch among them."""
    many = reports.PAGE * 2 + 1
    batch = batches.begin(db, name="many.csv", source="many", actor="ada").id
    batches.stage(db, batch, [new_job() for _ in range(many)])
    loaded(db, "other", "z")

    found = [entry.job.id for entry in read(db, batch)]

    assert (len(found), len(set(found)), found) == (many, many, sorted(found))


def test_steps_come_with_their_job(db: Database) -> None:
    """What was seen of a credential is read with its evidence, in order; what another job saw is not."""
    batch = loaded(db, "one", "a", "b")
    first, second = (entry.job.id for entry in read(db, batch))
    held = moves.claim(db, first, lease=60, worker="w1")
    assert held is not None
    looked(db, held, evidence={"status": 200})
    looked(db, held, Outcome.DEAD, evidence={"status": 401}, credential={"subject": "ada"})
    looked(db, claimed(db))

    with_steps, without = read(db, batch)

    assert [(step.outcome, (step.evidence or {})["status"]) for step in with_steps.steps] == [
        (Outcome.ALIVE, 200),
        (Outcome.DEAD, 401),
    ]
    assert with_steps.steps == reads.steps(db, first)
    assert with_steps.credential.subject == "ada"
    assert (without.job.id, without.steps, without.looks) == (second, [], [])


def test_the_anchor_is_the_last_seal(db: Database) -> None:
    """The head that a report names is the sealer's last one, and what it does not cover yet is counted."""
    batch = loaded(db, "one", "a")
    with db.read() as conn:
        bare = reports.anchor(conn, batch)
    with db.begin() as conn:
        folded = audit.fold(conn, 1000, db.now())
    loaded(db, "two", "a")

    with db.read() as conn:
        sealed = reports.anchor(conn, batch)
        total = audit.count_unsealed(conn)

    assert (bare.number, bare.head, bare.rows, bare.rows_unsealed) == (0, None, 1, 1)
    assert sealed.number == folded
    assert sealed.head is not None
    assert (sealed.rows, sealed.rows_unsealed) == (2, 1), "the other batch joined the same job, which is a row"
    assert sealed.unsealed == total > 1


def test_residuals_are_none_where_none_were_noted(db: Database) -> None:
    """A batch with which nothing was noted of a subject has no residuals; that is no error."""
    batch = loaded(db, "one", "a")

    with db.read() as conn:
        assert reports.residuals(conn, batch) == []


def test_a_cancelled_batch_keeps_what_goes_on(db: Database) -> None:
    """What had changed something when its batch was cancelled leaves the gate, and is in the report all the same."""
    batch = loaded(db, "one", "a", "b")
    first, second = (entry.job.id for entry in read(db, batch))
    assert moves.claim(db, first, lease=60, worker="w1") is not None

    batches.cancel(db, batch, actor="ada", why="a mistake")

    assert [(entry.job.id, entry.job.state.value, entry.joined) for entry in read(db, batch)] == [
        (first, "running", True),
        (second, "cancelled", False),
    ]
