"""Batches on the ledger, on both databases: one gate, one UPDATE, a bounded window, and no incident held up."""

from __future__ import annotations

import pytest

from rules.errors import BadInput, MoveRefused
from rules.lifecycle import BatchState, Intent, Reason, State, Verdict
from tests.worker.ledger.samples import at_once, column, findings, lapse, new_job, new_secret
from worker.ledger import batches, moves, reads
from worker.ledger.database import Database
from worker.ledger.rows import NewJob


def begin(db: Database, source: str = "s1") -> str:
    """A batch that is loading."""
    return batches.begin(db, name="leavers.csv", source=source, actor="ada").id


def loaded(db: Database, *news: NewJob) -> str:
    """A batch that is open, with these jobs."""
    batch = begin(db)
    batches.stage(db, batch, list(news))
    batches.release(db, batch, actor="ada")
    return batch


def some(count: int) -> list[NewJob]:
    """Jobs as a file brings them."""
    return [new_job(priority=7, queue="bulk") for _ in range(count)]


def states(db: Database, batch: str) -> dict[str, int]:
    """How many jobs of a batch are in each state."""
    return {count.state.value: count.count for count in batches.counts(db, batch)}


def take(db: Database, job: str) -> bool:
    """Whether a worker gets the job."""
    return moves.claim(db, job, lease=60, worker="w1") is not None


def test_staged_jobs_appear_together(db: Database) -> None:
    """Nothing of a batch that is loading is due or claimed; one UPDATE shows all of it, and each has its chain."""
    batch = begin(db)
    secret = new_secret(10**18)
    staged = batches.stage(db, batch, [*some(3), new_job(secrets=[secret])])
    found = [line.id for line in reads.jobs(db, batch=batch)]
    assert staged == batches.Staged(4, 0, 0)
    assert (batches.ring_due(db, 10, 60), any(take(db, job) for job in found)) == ([], False)

    batches.release(db, batch, actor="ada")

    assert {ring.job_id for ring in batches.ring_due(db, 10, 60)} == set(found)
    assert all(take(db, job) for job in found)
    assert [each.id for job in found for each in reads.secrets_of(db, job)] == [secret.id]
    assert findings(db) == []


def test_a_credential_has_one_open_job(db: Database) -> None:
    """What stands there twice is one job; what was open before is counted, not gated, and told on its own chain."""
    before = moves.submit(db, new_job(fingerprint="a" * 64)).job_id
    batch = begin(db)
    first = batches.stage(db, batch, [new_job(fingerprint=letter * 64, priority=7) for letter in "abb"])
    again = batches.stage(db, batch, [new_job(fingerprint=letter * 64, priority=7) for letter in "abc"])

    assert (first, again) == (batches.Staged(1, 1, 1), batches.Staged(1, 1, 1))
    assert states(db, batch) == {"queued": 3}
    assert take(db, before)
    assert [row.facts["event"] for row in reads.audit_rows(db, before, 10)][:3] == ["→queued", "joined", "joined"]
    assert findings(db) == []


def test_what_a_submission_says_of_its_credential_is_kept(db: Database) -> None:
    """Id and subject stand with the credential, as for a single job; what was known before is not written over."""
    known = moves.submit(db, new_job(fingerprint="a" * 64, subject="ann")).job_id
    batch = loaded(
        db,
        new_job(fingerprint="a" * 64, intent=Intent.PROBE, subject="bob", provider_id="k1"),
        new_job(fingerprint="b" * 64, subject="ben", provider_id="k2"),
        new_job(fingerprint="c" * 64),
    )

    jobs = [reads.job(db, line.id) for line in reads.jobs(db, batch=batch)]
    found = {each.fingerprint[0]: each for each in (reads.credential(db, job.credential) for job in jobs)}

    assert [(found[name].subject, found[name].provider_id) for name in "abc"] == [
        ("ann", "k1"),
        ("ben", "k2"),
        (None, None),
    ]
    assert found["a"].id == reads.job(db, known).credential


def test_two_loaders_at_once(db: Database) -> None:
    """Two files with the same credentials, loaded at the same time: each credential has one job, and both count it."""
    one, two = begin(db, "one"), begin(db, "two")
    prints = [f"{number:064x}" for number in range(60)]

    def stage(batch: str, order: list[str]) -> batches.Staged:
        return batches.stage(db, batch, [new_job(fingerprint=each, priority=7) for each in order])

    results = at_once(lambda: stage(one, prints), lambda: stage(two, prints[::-1]))

    assert all(isinstance(result, batches.Staged) for result in results), results
    assert sorted((result.opened, result.joined) for result in results) == [(0, 60), (60, 0)]
    assert states(db, one) == states(db, two) == {"queued": 60}
    assert findings(db) == []


def test_an_incident_passes_the_gate(db: Database) -> None:
    """A more urgent request takes its job out of the gate of a batch that is loading; the batch counts it still."""
    batch = begin(db)
    batches.stage(db, batch, [new_job(fingerprint="a" * 64, priority=7, queue="bulk")])
    (line,) = reads.jobs(db, batch=batch)

    joined = moves.submit(db, new_job(fingerprint="a" * 64, queue="urgent"))

    assert joined == (line.id, True)
    assert [ring.queue for ring in moves.ring(db, [line.id])] == ["urgent"]
    assert take(db, line.id)
    assert states(db, batch) == {"running": 1}
    assert batches.cancel(db, batch, actor="ada", why="wrong file") == 0
    assert column(db, line.id, "state") == State.RUNNING


def test_the_window(db: Database) -> None:
    """At most so many of a batch are rung and unfinished; each that rests makes room for another."""
    batch = loaded(db, *some(7))
    first = [ring.job_id for ring in batches.ring_due(db, 3, 60)]
    assert len(first) == 3
    assert batches.ring_due(db, 3, 60) == []
    claim = moves.claim(db, first[0], lease=60, worker="w1")
    assert claim is not None
    assert batches.ring_due(db, 3, 60) == []
    moves.finish(db, claim, Verdict.REVOKED, "proved")

    second = [ring.job_id for ring in batches.ring_due(db, 3, 60)]

    assert len(second) == 1
    assert not set(second) & set(first)
    # Bells that count as lost are rung again, and take no room from others.
    assert {ring.job_id for ring in batches.ring_due(db, 3, 0)} == {*first[1:], *second}
    assert moves.ring_due(db, 100, 60) == []
    assert states(db, batch) == {"done": 1, "queued": 6}


def test_waiting_jobs_make_room(db: Database) -> None:
    """A job that waits until later is not with the workers; when it is due it takes its turn again."""
    loaded(db, *some(2))
    (first,) = batches.ring_due(db, 1, 60)
    claim = moves.claim(db, first.job_id, lease=60, worker="w1")
    assert claim is not None
    moves.wait(db, claim, db.now() + 10**12, "the provider asks for patience")

    (second,) = batches.ring_due(db, 1, 60)

    assert second.job_id != first.job_id
    lapse(db, first.job_id)
    assert batches.ring_due(db, 1, 60) == []
    assert take(db, second.job_id)


def test_a_batch_ends_with_its_last_job(db: Database) -> None:
    """It is open while a job of it is parked, and ended when all have ended, those too that it only counts."""
    before = moves.submit(db, new_job(fingerprint="a" * 64)).job_id
    batch = loaded(db, new_job(fingerprint="a" * 64, priority=7), new_job(priority=7))
    (own,) = [line.id for line in reads.jobs(db, batch=batch)]
    for job in (before, own):
        claim = moves.claim(db, job, lease=60, worker="w1")
        assert claim is not None
        assert batches.end_finished(db) == 0
        if job == own:
            moves.park(db, claim, Reason.DENIED, "a permission is missing")
            assert batches.end_finished(db) == 0
            assert batches.parked(db, batch, Reason.DENIED) == [own]
            moves.cancel(db, own, actor="ada", why="enough")
        else:
            moves.finish(db, claim, Verdict.REVOKED, "proved")

    assert batches.end_finished(db) == 1
    assert batches.find(db, batch).state is BatchState.ENDED
    with pytest.raises(MoveRefused, match="is ended"):
        batches.pause(db, batch, actor="ada", why="late")


def test_cancelled_while_it_loads(db: Database) -> None:
    """The loader is told so at its next chunk, and nothing of what it staged is left open."""
    batch = begin(db)
    batches.stage(db, batch, some(450))

    assert batches.cancel(db, batch, actor="ada", why="wrong file") == 450

    with pytest.raises(MoveRefused, match="loading no more"):
        batches.stage(db, batch, some(1))
    with pytest.raises(MoveRefused, match="can become open only from loading"):
        batches.release(db, batch, actor="ada")
    assert states(db, batch) == {"cancelled": 450}
    assert batches.cancel(db, batch, actor="ada", why="again") == 0
    assert findings(db) == []


def test_one_loader_for_one_file(db: Database) -> None:
    """A second loader of the same file is refused while the first one lives, and goes on with it when it is gone."""
    batch = begin(db)
    with pytest.raises(MoveRefused, match="right now"):
        begin(db)
    assert begin(db, "another") != batch
    batches.abandon(db, batch)
    assert batches.find(db, batch[6:]).abandoned
    assert begin(db) == batch
    assert not batches.find(db, batch).abandoned
    with pytest.raises(BadInput, match="there is no batch none"):
        batches.find(db, "none")
