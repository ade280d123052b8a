"""Signed heads in the ledger, on both databases: who signs, what a forger with the password cannot do, what leaves."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from sqlalchemy import delete, insert, select, update
from sqlalchemy.exc import DBAPIError

from rules.errors import BadInput
from rules.lifecycle import Reason, Verdict
from tests.worker.ledger.samples import at_once, claimed, delivered, ended, execute, findings, looked, sealed
from worker.errors import SafeError
from worker.ledger import archives, audit, heads, moves
from worker.ledger.audit import Fault, Tally
from worker.ledger.database import Database
from worker.ledger.heads import Signed
from worker.ledger.tables import audit as rows
from worker.ledger.tables import deliveries, seals, seams
from worker.ledger.tables import heads as stored
from worker.signing import Signer

ONE, OTHER = Signer.generate(), Signer.generate()


def unlock(db: Database) -> None:
    """Drop every trigger, as an attacker with the password would."""
    for table in ("audit", "seals", "heads", "seams"):
        for name in ["append_only", "not_emptied"] if db.on_postgres else ["no_update", "no_delete", "no_replace"]:
            execute(db, f"DROP TRIGGER {table}_{name}" + (f" ON {table}" if db.on_postgres else ""))


def found(db: Database, anchor: Signer = ONE, known: Sequence[Signed] = ()) -> list[tuple[str, int, Fault]]:
    """What a check finds, without its sentences."""
    with db.read() as conn:
        return [
            (each.chain, each.number, each.fault)
            for each in audit.verify(conn, anchors=[anchor.public], delivered=known)
        ]


# ── signing ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_signed_once(db: Database) -> None:
    """The first head introduces the key; nothing new is signed where nothing new is sealed."""
    claimed(db)
    for _ in range(3):
        sealed(db, ONE)
    (head,) = delivered(db)
    assert head.said is not None
    assert (head.number, head.said.seal, head.said.announces) == (1, 2, ONE.public)
    assert found(db) == []


def test_signers_at_once(db: Database) -> None:
    """Two sealers make one chain of heads."""
    claimed(db)
    assert at_once(*[lambda: sealed(db, ONE)] * 4) == [None] * 4
    assert found(db) == []


def test_rotated(db: Database) -> None:
    """A new key is announced by the old one: by either of them the whole trail is known."""
    for signers in ([ONE], [OTHER, ONE], [OTHER]):
        claimed(db)
        sealed(db, *signers)
    signed_by = [head.said.key for head in delivered(db) if head.said is not None]
    assert [ONE.public] * 2 + [OTHER.public] == signed_by
    assert found(db, ONE) == found(db, OTHER) == []
    assert found(db, Signer.generate()) == [("heads", 1, Fault.FORGED)]


def test_a_new_key_cannot_introduce_itself(db: Database) -> None:
    """Without the old key nothing is signed; what is sealed waits."""
    claimed(db)
    sealed(db, ONE)
    claimed(db)
    with pytest.raises(SafeError, match=f"signed with the key {ONE.public}, which is not among ours"):
        sealed(db, OTHER)
    tally = Tally()
    with db.read() as conn:
        assert list(audit.verify(conn, tally)) == []
    assert (tally.unsealed, tally.unsigned) == (0, 2)


# ── a forger with the database's password ─────────────────────────────────────────────────────────────────────────────


def test_written_anew(db: Database) -> None:
    """A whole new trail under another key: not signed by ours, and not what was delivered."""
    claimed(db)
    sealed(db, ONE)
    known = delivered(db)
    unlock(db)
    with db.begin() as conn:
        for table in (stored, seals):
            conn.execute(delete(table))
    sealed(db, OTHER)
    assert ("heads", 1, Fault.FORGED) in found(db)
    assert found(db, OTHER, known) == [("heads", 1, Fault.FORGED)]


def test_cut_back(db: Database) -> None:
    """An older state of the whole database is sound in itself, and lacks a head that was delivered."""
    claimed(db)
    sealed(db, ONE)
    moves.hold_on(db, "prod", actor="ada", why="x")
    sealed(db, ONE)
    known = delivered(db)
    unlock(db)
    with db.begin() as conn:
        conn.execute(delete(stored).where(stored.c.number == 2))
        conn.execute(delete(seals).where(seals.c.job == audit.GLOBAL))
        conn.execute(delete(rows).where(rows.c.job == audit.GLOBAL))
    assert found(db) == []
    assert found(db, ONE, known) == [("heads", 2, Fault.CUT)]


@pytest.mark.parametrize(
    ("statement", "number", "fault"),
    [
        ("UPDATE heads SET signature = '00' WHERE number = 2", 2, Fault.FORGED),
        ("UPDATE heads SET signature = upper(signature) WHERE number = 2", 2, Fault.FORGED),
        ("DELETE FROM heads WHERE number = 2", 3, Fault.MISSING),
        ("UPDATE heads SET number = 9 WHERE number = 3", 9, Fault.MOVED),
    ],
)
def test_changed_heads(db: Database, statement: str, number: int, fault: Fault) -> None:
    """The heads' own chain is checked, too."""
    for _ in range(3):
        claimed(db)
        sealed(db, ONE)
    unlock(db)
    execute(db, statement)
    assert found(db) == [("heads", number, fault)]


def test_changed_statement(db: Database) -> None:
    """What was signed is signed byte by byte."""
    claimed(db)
    sealed(db, ONE)
    unlock(db)
    (head,) = delivered(db)
    with db.begin() as conn:
        conn.execute(update(stored).values(statement=head.statement.replace(b'"seal":2', b'"seal":1')))
    assert found(db)[0] == ("heads", 1, Fault.FORGED)


def test_seals_after_signing(db: Database) -> None:
    """Seals that were hashed anew are not those that were signed."""
    claimed(db)
    sealed(db, ONE)
    unlock(db)
    with db.begin() as conn:
        conn.execute(update(seals).where(seals.c.number == 2).values(head="0" * 64))
    assert ("seals", 2, Fault.EDITED) in found(db)
    with db.begin() as conn:
        conn.execute(delete(seals).where(seals.c.number == 2))
    assert ("seals", 2, Fault.CUT) in found(db)


# ── what leaves ───────────────────────────────────────────────────────────────────────────────────────────────────────


def test_archived(db: Database, tmp_path: Path) -> None:
    """Rows of ended jobs leave through a signed seam; what is told of such a job later follows them."""
    old, opened = ended(db), claimed(db)
    sealed(db, ONE)
    recent = ended(db)
    archived = archives.archive(db, [ONE], db.now(), tmp_path / "old.jsonl", actor="ada")
    assert archived is not None
    assert archived.rows == 5
    with db.begin() as conn:
        moves.tell(conn, old.job.id, db.now(), "restored")
    looked(db, opened)
    sealed(db, ONE)
    tally = Tally()
    with db.read() as conn:
        assert list(audit.verify(conn, tally, anchors=[ONE.public])) == []
        there = {(row.job, row.number) for row in conn.execute(select(rows.c.job, rows.c.number))}
    assert tally.left == 5
    assert {(old.job.id, 6), (opened.job.id, 1), (recent.job.id, 1)} < there
    assert (old.job.id, 5) not in there


def test_archived_twice(db: Database, tmp_path: Path) -> None:
    """What has left does not leave again, and no archive is written over."""
    ended(db)
    sealed(db, ONE)
    path = tmp_path / "old.jsonl"
    assert archives.archive(db, [ONE], db.now(), path, actor="ada") is not None
    assert archives.archive(db, [ONE], db.now(), tmp_path / "none.jsonl", actor="ada") is None
    ended(db)
    sealed(db, ONE)
    with pytest.raises(BadInput, match="is there already"):
        archives.archive(db, [ONE], db.now(), path, actor="ada")
    assert sorted(each.name for each in tmp_path.iterdir() if each.suffix == ".jsonl") == ["old.jsonl"]
    assert found(db) == []


def test_archive_without_the_key(db: Database, tmp_path: Path) -> None:
    """A seam that cannot be signed is none: the rows stay, and no file is left that could be taken for theirs."""
    ended(db)
    sealed(db, ONE)
    with pytest.raises(SafeError):
        archives.archive(db, [OTHER], db.now(), tmp_path / "old.jsonl", actor="ada")
    assert not (tmp_path / "old.jsonl").exists()
    assert found(db) == []


def test_only_the_seams_rows_may_go(db: Database, tmp_path: Path) -> None:
    """After an archive, too, the database refuses to let go of any other row, and of seals, heads and seams."""
    ended(db)
    sealed(db, ONE)
    assert archives.archive(db, [ONE], db.now(), tmp_path / "old.jsonl", actor="ada") is not None
    claimed(db)
    sealed(db, ONE)
    for statement in (
        "DELETE FROM audit",
        "UPDATE audit SET at = 1",
        "DELETE FROM seals",
        "DELETE FROM heads",
        "DELETE FROM seams",
        "UPDATE seams SET last = last + 1",
        "UPDATE heads SET signature = ''",
    ):
        with pytest.raises(DBAPIError, match="is append-only"):
            execute(db, statement)
    assert found(db) == []


def test_forged_seam(db: Database) -> None:
    """Whoever makes a seam by hand lets rows go, and is found: no signed head tells of it."""
    ended(db)
    sealed(db, ONE)
    with db.begin() as conn:
        conn.execute(insert(seams), {"first": 1, "last": 5, "head": 1})
        conn.execute(delete(rows))
    assert ("seams", 1, Fault.FORGED) in found(db)


def test_a_seam_needs_its_head(db: Database) -> None:
    """No seam without a head."""
    ended(db)
    with pytest.raises(DBAPIError), db.begin() as conn:
        conn.execute(insert(seams), {"first": 1, "last": 5, "head": 1})


def test_archived_rows_do_not_come_back(db: Database, tmp_path: Path) -> None:
    """A row that left and stands there again was inserted by somebody."""
    claim = ended(db)
    sealed(db, ONE)
    with db.read() as conn:
        (first,) = conn.execute(select(rows).where(rows.c.job == claim.job.id, rows.c.number == 1)).mappings()
    archives.archive(db, [ONE], db.now(), tmp_path / "old.jsonl", actor="ada")
    with db.begin() as conn:
        conn.execute(insert(rows), dict(first))
    assert (claim.job.id, 1, Fault.INSERTED) in found(db)


# ── deliveries ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_deliveries(db: Database) -> None:
    """How far each sink is, how old its last head is, and how long the next one waits."""
    claimed(db)
    sealed(db, ONE)
    (before,) = heads.delivered(db, ["log"])
    assert (before.number, before.age(db.now())) == (0, None)
    assert before.lag(db.now()) > 0
    heads.note_failed(db, "log", "disk full")
    heads.note_delivered(db, "log", 1)
    heads.note_failed(db, "log", "disk full")
    (after,) = heads.delivered(db, ["log"])
    assert (after.number, after.says, after.lag(db.now())) == (1, "disk full", 0)
    assert (after.age(db.now()) or 0) > 0
    assert heads.undelivered(db, "log", 10) == []
    with db.read() as conn:
        assert len(conn.execute(select(deliveries)).all()) == 1


# ── no row, no move ───────────────────────────────────────────────────────────────────────────────────────────────────


def refuse_rows(db: Database) -> None:
    """Let no audit row be written."""
    if db.on_postgres:
        execute(
            db,
            "CREATE FUNCTION full_disk() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'the disk is full'; END $$",
        )
        execute(db, "CREATE TRIGGER full_disk BEFORE INSERT ON audit FOR EACH ROW EXECUTE FUNCTION full_disk()")
    else:
        execute(
            db, "CREATE TRIGGER full_disk BEFORE INSERT ON audit BEGIN SELECT RAISE(ABORT, 'the disk is full'); END"
        )


def test_without_its_row_nothing_moves(db: Database) -> None:
    """Where the audit row cannot be written, no verb of a worker or a person changes anything."""
    claim, parked = claimed(db), claimed(db)
    moves.park(db, parked, Reason.DENIED, "no right")
    refuse_rows(db)

    def dump() -> list[object]:
        with db.read() as conn:
            tables = ("jobs", "steps", "credentials", "secrets", "accounts", "audit", "seals", "heads")
            return [conn.exec_driver_sql(f"SELECT * FROM {table} ORDER BY 1").all() for table in tables]  # noqa: S608

    before = dump()
    for move in (
        lambda: moves.intend(db, claim, name="x", purpose="act", mutating=True, request={}),
        lambda: moves.finish(db, claim, Verdict.REVOKED, "dead"),
        lambda: moves.park(db, claim, Reason.DENIED, "no right"),
        lambda: claimed(db),
        lambda: moves.retry(db, parked.job.id, actor="ada", why="again"),
        lambda: moves.cancel(db, parked.job.id, actor="ada", why="no"),
        lambda: moves.hold_on(db, "prod", actor="ada", why="x"),
    ):
        with pytest.raises(DBAPIError, match="the disk is full"):
            move()
    assert dump() == before
    execute(db, "DROP TRIGGER full_disk" + (" ON audit" if db.on_postgres else ""))
    assert findings(db) == []
