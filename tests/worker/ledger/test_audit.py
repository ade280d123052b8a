"""The audit trail: whoever edits, removes, inserts, cuts or swaps rows is found, and where."""

from __future__ import annotations

import json
import time

import pytest
from sqlalchemy import select, text

from rules.lifecycle import Outcome, Verdict
from rules.secret import Secret
from tests.worker.ledger.samples import acted, at_once, claimed, execute, findings, looked, new_job
from worker.ledger import audit, moves, reads
from worker.ledger.audit import Fault, Tally
from worker.ledger.database import Database
from worker.ledger.rows import Claim, Head
from worker.ledger.tables import audit as rows
from worker.ledger.tables import seals


@pytest.fixture
def claim(db: Database) -> Claim:
    """A job with six rows, among jobs whose chains are whole."""
    claimed(db)
    claim = claimed(db)
    looked(db, claim)
    moves.record(db, claim, acted(db, claim), outcome=Outcome.OK, says="yes")
    claimed(db)
    unlock(db)
    return claim


def unlock(db: Database) -> None:
    """Drop the triggers, as an attacker with the password would."""
    for table in ("audit", "seals"):
        names = ["append_only", "not_emptied"] if db.on_postgres else ["no_update", "no_delete", "no_replace"]
        for name in names:
            execute(db, f"DROP TRIGGER {table}_{name}" + (f" ON {table}" if db.on_postgres else ""))


def put(db: Database, claim: Claim, number: int, row: bytes, row_hash: str) -> None:
    """Write a row over another."""
    execute(
        db,
        "UPDATE audit SET row = :row, hash = :hash WHERE job = :job AND number = :number",
        job=claim.job.id,
        number=number,
        row=row,
        hash=row_hash,
    )


def get(db: Database, claim: Claim, number: int) -> tuple[bytes, str]:
    """The stored bytes and the hash of a row."""
    with db.read() as conn:
        query = select(rows.c.row, rows.c.hash).where(rows.c.job == claim.job.id, rows.c.number == number)
        found = conn.execute(query).one()
        return bytes(found.row), str(found.hash)


def rewrite(db: Database, claim: Claim, first: int, **changes: object) -> None:
    """Change one row and hash all rows anew from there on, the job's memory included: a thorough attacker."""
    previous = get(db, claim, first - 1)[1]
    for number in range(first, claim.head.number + 1):
        row, _ = get(db, claim, number)
        if number == first:
            row = audit.canonical({**json.loads(row), **changes})
        previous = audit.link(previous, row)
        put(db, claim, number, row, previous)
    execute(db, "UPDATE jobs SET audit_hash = :hash WHERE id = :job", hash=previous, job=claim.job.id)


def fold(db: Database, limit: int = 1000) -> int:
    """Let the sealer do its round."""
    with db.begin() as conn:
        return audit.fold(conn, limit, db.now())


def found(db: Database) -> list[tuple[str, int, Fault]]:
    """What a check finds, without its sentences."""
    return [(finding.chain, finding.number, finding.fault) for finding in findings(db)]


# ── what a row is ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_canonical() -> None:
    """There is one way to write a row."""
    assert '{"a":[1,null],"b":"é"}'.encode() == audit.canonical({"b": "é", "a": [1, None]})
    assert json.loads(audit.canonical({"x": "\ud800\\ud800"})) == {"x": "\ud800\\ud800"}


def test_no_secret_can_be_written() -> None:
    """A Secret among the facts is an error, not a row of dots."""
    with pytest.raises(TypeError, match="Secret is not JSON serializable"):
        audit.entry(audit.GENESIS, job="j", at=1, event="x", token=Secret("s3cret"))


def test_link_is_stable() -> None:
    """The hash can be worked out with `sha256sum`: the hash before, then the stored bytes."""
    first = audit.entry(audit.GENESIS, job="j", at=1, event="→queued", actor="ada")
    assert first.row == b'{"actor":"ada","at":1,"event":"\xe2\x86\x92queued","job":"j","number":1}'
    assert first.hash[:12] == "887ba0ebe70f"


def test_append(db: Database) -> None:
    """`append` writes one row and gives the hash that the next one follows."""
    with db.begin() as conn:
        previous = audit.GENESIS.hash
        for number in (1, 2):
            previous = audit.append(
                conn, job=audit.GLOBAL, number=number, previous=previous, at=number, event="x", actor="ada"
            )
    assert findings(db) == []


# ── a whole trail ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_whole_trail(db: Database, claim: Claim, monkeypatch: pytest.MonkeyPatch) -> None:
    """A trail that nobody touched has no findings and is counted, page by page."""
    monkeypatch.setattr(audit, "PAGE", 3)
    moves.hold_on(db, "prod", actor="ada", why="x")
    fold(db, 4)
    tally = Tally()
    with db.read() as conn:
        assert list(audit.verify(conn, tally)) == []
    assert Tally(rows=2 + 6 + 2 + 1, chains=4, seals=4, unsealed=7, unsigned=4) == tally


def test_writers_at_once(db: Database) -> None:
    """The chain that belongs to no job has many writers, and no gap: each waits for the transaction before it."""

    def write() -> None:
        with db.begin() as conn:
            audit.append_global(conn, at=1, event="x", actor="ada")
            time.sleep(0.05)

    assert at_once(*[write] * 5) == [None] * 5
    assert [row.number for row in reads.audit_rows(db, "revoq", 100)] == [1, 2, 3, 4, 5]
    assert findings(db) == []


# ── somebody was here ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_edited_content(db: Database, claim: Claim) -> None:
    """Another content under the old hash."""
    row, row_hash = get(db, claim, 3)
    put(db, claim, 3, row.replace(b'"w1"', b'"w2"'), row_hash)
    assert [(claim.job.id, 3, Fault.EDITED)] == found(db)


def test_edited_content_and_hash(db: Database, claim: Claim) -> None:
    """Another content with a hash that fits it: the next row does not follow."""
    row, _ = get(db, claim, 3)
    row = row.replace(b'"w1"', b'"w2"')
    put(db, claim, 3, row, audit.link(get(db, claim, 2)[1], row))
    assert [(claim.job.id, 4, Fault.EDITED)] == found(db)


def test_edited_to_the_end(db: Database, claim: Claim) -> None:
    """Everything hashed anew, but for what the job remembers."""
    rewrite(db, claim, 3, actor="mallory")
    execute(db, "UPDATE jobs SET audit_hash = :hash WHERE id = :job", hash=claim.head.hash, job=claim.job.id)
    assert [(claim.job.id, claim.head.number, Fault.EDITED)] == found(db)


def test_edited_after_sealing(db: Database, claim: Claim) -> None:
    """Everything hashed anew, the job's memory included: the seals know better."""
    fold(db)
    rewrite(db, claim, 3, actor="mallory")
    assert [(claim.job.id, 3, Fault.EDITED)] == found(db)


def test_edited_before_sealing(db: Database, claim: Claim) -> None:
    """The limit: what was rewritten as a whole before it was sealed cannot be told; it was counted as unsealed."""
    rewrite(db, claim, 3, actor="mallory")
    assert found(db) == []


@pytest.mark.parametrize("junk", [b"", b"nonsense", b"[]", b"\xff\xfe", b'{"at":1}'])
def test_junk(db: Database, claim: Claim, junk: bytes) -> None:
    """Bytes that are no row."""
    put(db, claim, 3, junk, audit.link(get(db, claim, 2)[1], junk))
    assert [(claim.job.id, 3, Fault.EDITED)] == found(db)
    assert claim.head.number == len(reads.audit_rows(db, claim.job.id, 100))


def test_edited_time(db: Database, claim: Claim) -> None:
    """The column that lists are sorted by says what the row says."""
    execute(db, "UPDATE audit SET at = at - 1 WHERE job = :job AND number = 3", job=claim.job.id)
    assert [(claim.job.id, 3, Fault.EDITED)] == found(db)


@pytest.mark.parametrize("first", [1, 3])
def test_removed(db: Database, claim: Claim, first: int) -> None:
    """Rows are missing at the beginning or in the middle."""
    execute(db, "DELETE FROM audit WHERE job = :job AND number IN (:n, :n + 1)", job=claim.job.id, n=first)
    assert [(claim.job.id, first + 2, Fault.MISSING)] == found(db)
    [finding] = findings(db)
    assert f"the rows {first} to {first + 1} before it are gone" == finding.says


def test_cut(db: Database, claim: Claim) -> None:
    """Rows are missing at the end."""
    execute(db, "DELETE FROM audit WHERE job = :job AND number > 4", job=claim.job.id)
    assert [(claim.job.id, 5, Fault.CUT)] == found(db)


def test_cut_after_sealing(db: Database, claim: Claim) -> None:
    """Rows are missing at the end, and the job was made to forget them: the seals were not."""
    fold(db)
    execute(db, "DELETE FROM audit WHERE job = :job AND number > 4", job=claim.job.id)
    forget = "UPDATE jobs SET audit_number = 4, audit_hash = :hash WHERE id = :job"
    execute(db, forget, hash=get(db, claim, 4)[1], job=claim.job.id)
    assert [(claim.job.id, 5, Fault.MISSING)] == found(db)


def test_global_chain_cut(db: Database, claim: Claim) -> None:
    """The chain that belongs to no job has its end in the seals alone."""
    for _ in range(3):
        moves.hold_on(db, "prod", actor="ada", why="x")
    fold(db)
    execute(db, "DELETE FROM audit WHERE job = 'revoq' AND number > 1")
    assert found(db) == [("revoq", 2, Fault.MISSING)]


def test_appended(db: Database, claim: Claim) -> None:
    """A row behind the end that the job remembers."""
    with db.begin() as conn:
        audit.write(conn, audit.entry(claim.head, job=claim.job.id, at=1, event="running→done"))
    assert [(claim.job.id, claim.head.number + 1, Fault.INSERTED)] == found(db)


def test_inserted(db: Database, claim: Claim) -> None:
    """A row in the middle, with all others pushed back one by one, and the job's memory adjusted."""
    for number in range(claim.head.number, 2, -1):
        execute(db, "UPDATE audit SET number = number + 1 WHERE job = :job AND number = :n", job=claim.job.id, n=number)
    with db.begin() as conn:
        audit.write(conn, audit.entry(Head(2, get(db, claim, 2)[1]), job=claim.job.id, at=1, event="step →done"))
    execute(db, "UPDATE jobs SET audit_number = audit_number + 1 WHERE id = :job", job=claim.job.id)
    assert [(claim.job.id, 4, Fault.MOVED)] == found(db)


def test_inserted_before_the_first(db: Database, claim: Claim) -> None:
    """A row number 0."""
    with db.begin() as conn:
        audit.write(conn, audit.entry(Head(-1, "0" * 64), job=claim.job.id, at=1, event="→queued"))
    assert [(claim.job.id, 0, Fault.INSERTED)] == found(db)


def test_swapped(db: Database, claim: Claim) -> None:
    """Two rows in each other's place, hashes and times and all."""
    job = claim.job.id
    for before, after in ((3, 100), (4, 3), (100, 4)):
        execute(db, "UPDATE audit SET number = :b WHERE job = :job AND number = :a", job=job, a=before, b=after)
    assert [(job, 3, Fault.MOVED)] == found(db)
    assert f"it was written as row 4 of {job}: rows were inserted, removed or swapped" == findings(db)[0].says


def test_other_jobs_row(db: Database, claim: Claim) -> None:
    """A row of another job's chain in this one."""
    other = claimed(db)
    row, row_hash = get(db, other, 2)
    execute(
        db,
        "UPDATE audit SET at = (SELECT at FROM audit WHERE job = :other AND number = 2) "
        "WHERE job = :job AND number = 2",
        other=other.job.id,
        job=claim.job.id,
    )
    put(db, claim, 2, row, row_hash)
    assert [(claim.job.id, 2, Fault.MOVED)] == found(db)


def test_job_without_rows(db: Database, claim: Claim) -> None:
    """All rows of a job are gone."""
    execute(db, "DELETE FROM audit WHERE job = :job", job=claim.job.id)
    assert [(claim.job.id, 1, Fault.BARE)] == found(db)


def test_rows_without_job(db: Database, claim: Claim) -> None:
    """The job is gone, and its rows are there."""
    execute(db, "DELETE FROM steps WHERE job = :job", job=claim.job.id)
    execute(db, "DELETE FROM jobs WHERE id = :job", job=claim.job.id)
    assert [(claim.job.id, 1, Fault.ORPHAN)] == found(db)


def test_each_broken_chain_once(db: Database, claim: Claim) -> None:
    """Of each broken chain the first wrong row is told; whole ones are not."""
    other = claimed(db)
    looked(db, other)
    for number in (2, 4):
        put(db, claim, number, b"{}", "x")
    put(db, other, 3, b"{}", "x")
    assert {(claim.job.id, 2, Fault.EDITED), (other.job.id, 3, Fault.EDITED)} == set(found(db))
    assert len(found(db)) == 2


# ── the seals ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_fold(db: Database, claim: Claim) -> None:
    """Every row is folded once, oldest first, in parts of the given size."""
    assert [fold(db, 4) for _ in range(4)] == [4, 4, 2, 0]
    moves.finish(db, claim, Verdict.REVOKED, "dead")
    assert fold(db) == 1
    with db.read() as conn:
        numbers = list(conn.scalars(select(seals.c.number).order_by(seals.c.number)))
        times = list(conn.scalars(select(rows.c.at).join(seals, audit.PLACE).order_by(seals.c.number)))
    assert list(range(1, 12)) == numbers
    assert sorted(times) == times
    assert findings(db) == []


def test_fold_at_once(db: Database, claim: Claim) -> None:
    """Several sealers at once make one sequence."""

    def fold_slowly() -> int:
        with db.begin() as conn:
            count = audit.fold(conn, 1000, 1)
            time.sleep(0.05)
            return count

    assert sorted(at_once(*[fold_slowly] * 4)) == [0, 0, 0, 10]
    assert findings(db) == []


def test_fold_takes_late_rows(db: Database, claim: Claim) -> None:
    """A row that was committed late, with an early time, is folded all the same."""
    fold(db)
    with db.begin() as conn:
        audit.append_global(conn, at=1, event="late", actor="ada")
    assert fold(db) == 1


@pytest.mark.parametrize(
    ("statement", "number", "fault"),
    [
        ("UPDATE seals SET head = 'x' WHERE number = 3", 3, Fault.EDITED),
        ("UPDATE seals SET audit_number = 100 WHERE number = 3", 3, Fault.EDITED),
        ("DELETE FROM seals WHERE number = 3", 4, Fault.MISSING),
        ("UPDATE seals SET number = 0 WHERE number = 3", 0, Fault.INSERTED),
    ],
)
def test_seals(db: Database, claim: Claim, statement: str, number: int, fault: Fault) -> None:
    """The seals' own sequence is checked too."""
    fold(db)
    execute(db, statement)
    assert ("seals", number, fault) in found(db)


def test_memory_stays_flat(db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """A check asks for a page at a time, however many rows there are."""
    monkeypatch.setattr(audit, "PAGE", 50)
    with db.begin() as conn:
        head = audit.GENESIS
        for number in range(1000):
            entry = audit.entry(head, job=audit.GLOBAL, at=number, event="x")
            audit.write(conn, entry)
            head = entry.head
    fold(db, 600)
    tally = Tally()
    with db.read() as conn:
        walked = audit.verify(conn, tally)
        assert list(walked) == []
        assert conn.scalar(text("SELECT count(*) FROM audit")) == 1000
    assert Tally(rows=1000, chains=1, seals=600, unsealed=400, unsigned=600) == tally


def test_new_jobs_do_not_disturb(db: Database) -> None:
    """A check that takes a while finds nothing wrong with jobs that move meanwhile."""
    claim = claimed(db)
    with db.read() as conn:
        walked = audit.verify(conn)
        looked(db, claim)
        moves.submit(db, new_job())
        assert list(walked) == []
