"""Between the safe and the ledger: a secret as a row of `secrets`, and back; keys are `worker.safe`'s alone."""

from __future__ import annotations

from rules.secret import Secret
from worker.ledger.rows import SealedSecret
from worker.safe import Safe, Sealed, new_secret_id

SECOND = 1_000_000

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
    return SealedSecret(
        id=secret_id,
        kind=kind,
        fingerprint=sealed.fingerprint,
        fingerprint_key=sealed.fingerprint_key,
        version=sealed.version,
        algorithm=sealed.algorithm,
        key_id=sealed.key_id,
        nonce=sealed.nonce,
        ciphertext=sealed.ciphertext,
        created_at=now,
        shred_by=now + int(shred_after * SECOND),
    )


def open_row(safe: Safe, row: SealedSecret, *, owner: str, now: int) -> Secret:
    """Open a row for its own owner; raises SafeError with a sentence where that cannot be."""
    sealed = Sealed(
        version=row.version,
        algorithm=row.algorithm,
        key_id=row.key_id,
        nonce=row.nonce,
        ciphertext=row.ciphertext,
        fingerprint=row.fingerprint,
        fingerprint_key=row.fingerprint_key,
    )
    return safe.open(sealed, secret_id=row.id, owner=owner, kind=row.kind, shred_by=row.shred_by, now=now)
