"""Between the safe and the ledger: a secret as a row of `secrets`, and back; keys are `worker.safe`'s alone."""

from __future__ import annotations

from dataclasses import asdict, fields

from rules.secret import Secret
from rules.units import SECOND
from worker.ledger.rows import SealedSecret
from worker.safe import Safe, Sealed, new_secret_id

TOKEN_KIND = "token"  # noqa: S105 - the kind of row that holds the credential itself
EXTRACTED = "extracted"
VARIABLE = "variable"


def owner_of(rule: str, connection: str, fingerprint: str) -> str:
    """What a job's secrets are bound to: its credential, by what never changes about it."""
    return f"{rule}|{connection}|{fingerprint}"


def seal_row(safe: Safe, secret: Secret, *, owner: str, kind: str, now: int, shred_after: float) -> SealedSecret:
    """Seal a secret for the ledger; `now` in microseconds, `shred_after` in seconds."""
    secret_id = new_secret_id()
    sealed = safe.seal(secret, secret_id=secret_id, owner=owner, kind=kind)
    shred_by = now + int(shred_after * SECOND)
    return SealedSecret(id=secret_id, kind=kind, created_at=now, shred_by=shred_by, **asdict(sealed))


def open_row(safe: Safe, row: SealedSecret, *, owner: str, now: int) -> Secret:
    """Open a row for its own owner; raises SafeError with a sentence where that cannot be."""
    sealed = Sealed(**{field.name: getattr(row, field.name) for field in fields(Sealed)})
    return safe.open(sealed, secret_id=row.id, owner=owner, kind=row.kind, shred_by=row.shred_by, now=now)
