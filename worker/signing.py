"""The keys that sign the heads of the audit trail: parsed, made, used; what is signed is `worker.ledger.heads`'.

Only the sealer, in the clock's process, needs them; who verifies needs a public key alone, which is 64 hexadecimal
characters. A text of keys has one a line, the newest first; an empty line or one that starts with `#` says nothing:

    ed25519 BASE64URL        the first one signs; one further down introduces it, where the trail does not know it yet
"""

from __future__ import annotations

import base64
import binascii
import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Self

from rules.secret import Secret
from worker.errors import SafeError
from worker.files import change, write_first

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

ALGORITHM = "ed25519"
SEED_BYTES = 32
PUBLIC = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Signer:
    """One key that signs, and the public one by which that is checked."""

    seed: bytes = field(repr=False)

    @classmethod
    def generate(cls) -> Self:
        return cls(os.urandom(SEED_BYTES))

    @property
    def public(self) -> str:
        return self._key.public_key().public_bytes_raw().hex()

    def sign(self, statement: bytes) -> str:
        return self._key.sign(statement).hex()

    @property
    def line(self) -> str:
        return f"{ALGORITHM} {base64.urlsafe_b64encode(self.seed).decode().rstrip('=')}\n"

    @property
    def _key(self) -> Ed25519PrivateKey:
        # Loaded with its first use: everybody who reads the ledger comes past here, and few sign.
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey  # noqa: PLC0415

        return Ed25519PrivateKey.from_private_bytes(self.seed)


def has_signed(public: str, statement: bytes, signature: str) -> bool:
    """Whether the owner of this public key has signed exactly these bytes."""
    from cryptography.exceptions import InvalidSignature  # noqa: PLC0415
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey  # noqa: PLC0415

    try:
        Ed25519PublicKey.from_public_bytes(bytes.fromhex(public)).verify(bytes.fromhex(signature), statement)
    except (InvalidSignature, ValueError):
        return False
    return True


def read_signers(text: Secret) -> tuple[Signer, ...]:
    """The keys of a text; raises SafeError with every mistake, each with its line and never with its text."""
    found: list[Signer] = []
    mistakes: list[str] = []
    for number, line in enumerate(text.reveal().splitlines(), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        algorithm, _, key = line.strip().partition(" ")
        try:
            seed = base64.b64decode(key + "=" * (-len(key) % 4), altchars=b"-_", validate=True)
        except (binascii.Error, ValueError):
            seed = b""
        if algorithm != ALGORITHM or len(seed) != SEED_BYTES:
            mistakes.append(f"line {number}: expected `{ALGORITHM} KEY` with {SEED_BYTES} bytes as base64url")
        else:
            found.append(Signer(seed))
    if not mistakes and not found:
        mistakes = ["expected at least one key: revoq keys generate makes one"]
    if mistakes:
        raise SafeError("the keys of the audit trail cannot be used: " + "; ".join(mistakes))
    return tuple(found)


def read_public(text: str) -> str:
    """A public key as it is handed in; raises SafeError where it is none."""
    if not PUBLIC.fullmatch(text.strip().lower()):
        raise SafeError("expected a public key of 64 hexadecimal characters, as revoq keys generate and doctor say it")
    return text.strip().lower()


# ── the file ──────────────────────────────────────────────────────────────────────────────────────────────────────


def write_signer(path: Path) -> Signer:
    """Make a first key and write its file; raises SafeError where there is one."""
    signer = Signer.generate()
    write_first(path, Secret(signer.line), taken="holds a key already: revoq keys rotate --audit adds a new one")
    return signer


def rotate_signer(path: Path) -> Signer:
    """Put a new key first in the file; the old one has to introduce it."""
    signer = Signer.generate()

    def put_in_front(before: Secret) -> Secret:
        read_signers(before)
        return Secret(signer.line + before.reveal())

    change(path, put_in_front)
    return signer
