"""Sealed secrets: shredded by their date, and never in the trail."""

from __future__ import annotations

from sqlalchemy import select

from rules.lifecycle import Reason, Verdict
from tests.worker.ledger.samples import (
    MINUTE,
    claimed,
    looked,
    new_job,
    new_secret,
)
from worker.ledger import moves, reads
from worker.ledger.database import Database
from worker.ledger.tables import audit, credentials, secrets


def test_shred(db: Database) -> None:
    """What is past its date is destroyed, parked job or not; its fingerprint stays, and the trail says how many."""
    old, fresh = new_secret(1), new_secret(db.now() + MINUTE, kind="variable:X")
    claim = claimed(db, new_job(secrets=[old, fresh]))
    moves.park(db, claim, Reason.DENIED, "no")
    assert moves.shred(db, 10) == 1
    assert moves.shred(db, 10) == 0
    with db.read() as conn:
        rows = {row.id: row for row in conn.execute(select(secrets))}
    assert (rows[old.id].ciphertext, rows[old.id].nonce) == (None, None)
    assert old.fingerprint == rows[old.id].fingerprint
    assert rows[old.id].shredded_at is not None
    assert fresh.ciphertext == rows[fresh.id].ciphertext
    assert reads.audit_rows(db, "revoq", 10)[0].facts["count"] == 1


def test_shred_in_parts(db: Database) -> None:
    """No more than the limit at once."""
    moves.submit(db, new_job(secrets=[new_secret(1, kind=f"variable:{n}") for n in range(5)]))
    assert [moves.shred(db, 2) for _ in range(4)] == [2, 2, 1, 0]


def test_no_secret_in_the_trail(db: Database) -> None:
    """Sealed bytes and nonces are in the secrets' table alone."""
    claim = claimed(db, new_job(secrets=[new_secret(1, ciphertext=b"c1pher", nonce=b"n0nce")]))
    looked(db, claim, secrets=[new_secret(1, ciphertext=b"c1pher", nonce=b"n0nce")])
    moves.finish(db, claim, Verdict.REVOKED, "dead")
    with db.read() as conn:
        rows = b"".join(conn.scalars(select(audit.c.row)))
        known = conn.execute(select(credentials)).all()
    assert b"c1pher" not in rows
    assert b"n0nce" not in rows
    assert "c1pher" not in repr(known)
