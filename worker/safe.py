"""The sealed secrets: seal, open, fingerprint; the only file that knows a key. Where the envelopes lie is the ledger's.

A secret is sealed with AES-256-GCM under the first seal key of the ring. The envelope's version, algorithm and key id,
the secret's own id, its owner (a credential or a job) and its kind are bound in: an envelope that was copied to another
row does not open. Before it is sealed, a secret is filled up with zeros to a multiple of 64 bytes, so that the length
of what is stored tells little about what it is.

A key ring is a text with one key a line, the newest first; an empty line or one that starts with `#` says nothing:

    seal k2026-11-21-ab12 BASE64URL         the first one seals, all of them open
    open o2026-11-21-77d3 BASE64URL         an X25519 private key: opens what was sealed to its public half
    public o2026-11-21-77d3 BASE64URL       that half alone, for who only submits: the first one seals, none opens
    fingerprint f2026-11-21-9c0e BASE64URL  never dropped: "was it this one?" has to be answered for years

A ring without a `seal` key seals to the first `public` one by HPKE (RFC 9180, base mode, X25519 with HKDF-SHA256 and
AES-256-GCM), whose `info` binds what is bound otherwise, and cannot open even that.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import re
import secrets
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Self

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hpke
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from rules.secret import Secret
from worker.errors import KeyMissing, SafeError, Shredded, Tampered
from worker.files import change, write_first

VERSION = 1
ALGORITHM = "AES-256-GCM"
TO_PUBLIC = "HPKE-X25519"
HPKE = hpke.Suite(hpke.KEM.X25519, hpke.KDF.HKDF_SHA256, hpke.AEAD.AES_256_GCM)
KEY_BYTES = 32
NONCE_BYTES = 12
BLOCK = 64
LENGTH_BYTES = 4
ONLY_SEALS = "this key ring is one for producers, which seals and cannot open"
KEY_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,31}")

# ── the keys ──────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Key:
    """One key and the name that envelopes know it by."""

    id: str
    material: bytes = field(repr=False)

    @classmethod
    def generate(cls, letter: str, day: date) -> Self:
        """A new one, named for its day: whoever destroys a period's key has to find it."""
        return cls(f"{letter}{day.isoformat()}-{secrets.token_hex(2)}", secrets.token_bytes(KEY_BYTES))

    @property
    def line(self) -> str:
        return f"{self.id} {base64.urlsafe_b64encode(self.material).decode().rstrip('=')}"


@dataclass(frozen=True, slots=True)
class Ring:
    """The keys in use and those that still open older envelopes."""

    seals: tuple[Key, ...]
    fingerprints: tuple[Key, ...]
    opens: tuple[Key, ...] = ()
    publics: tuple[Key, ...] = ()

    @classmethod
    def parse(cls, text: Secret) -> Self:
        """Read a ring; raises SafeError with every mistake, each with its line and never with its text."""
        found: dict[str, list[Key]] = {"seal": [], "open": [], "public": [], "fingerprint": []}
        mistakes: list[str] = []
        for number, line in enumerate(text.reveal().splitlines(), 1):
            if line.strip() and not line.lstrip().startswith("#"):
                mistakes += [f"line {number}: {says}" for says in _read_line(line, found)]
        if not mistakes and not ((found["seal"] or found["public"]) and found["fingerprint"]):
            mistakes = ["expected at least one seal key and one fingerprint key: revoq keys generate makes them"]
        if not mistakes and found["public"] and (found["seal"] or found["open"]):
            mistakes = ["expected either keys that open or public ones: a ring for producers has no other than these"]
        if mistakes:
            raise SafeError("the key ring cannot be used: " + "; ".join(mistakes))
        return cls(*(tuple(found[purpose]) for purpose in ("seal", "fingerprint", "open", "public")))

    @classmethod
    def generate(cls) -> Self:
        """A ring with one key of each purpose."""
        day = datetime.now(UTC).date()
        return cls((Key.generate("k", day),), (Key.generate("f", day),), (Key.generate("o", day),))

    def rotate(self) -> Ring:
        """A ring whose new keys for sealing, at home and at producers, come first; every other key stays.

        Raises SafeError for a producer's: it would seal what no worker can open.
        """
        if self.publics:
            raise SafeError(f"{ONLY_SEALS}: rotate the keys at home, then revoq keys producers there makes a new one")
        day = datetime.now(UTC).date()
        return replace(
            self,
            seals=(Key.generate("k", day), *self.seals),
            opens=(Key.generate("o", day), *self.opens),
        )

    def for_producers(self) -> Ring:
        """A ring that seals to our newest private key, tells secrets apart, and opens nothing; raises SafeError."""
        if self.publics:
            raise SafeError(f"{ONLY_SEALS}: it is what this would print")
        if not self.opens:
            raise SafeError("the key ring has no `open` key whose public half could be given away: revoq keys rotate")
        public = X25519PrivateKey.from_private_bytes(self.opens[0].material).public_key().public_bytes_raw()
        return Ring((), self.fingerprints[:1], publics=(Key(self.opens[0].id, public),))

    @property
    def text(self) -> Secret:
        """What a file of keys says."""
        named = {"seal": self.seals, "open": self.opens, "public": self.publics, "fingerprint": self.fingerprints}
        return Secret("".join(f"{purpose} {key.line}\n" for purpose, keys in named.items() for key in keys))


def _read_line(line: str, found: dict[str, list[Key]]) -> Iterator[str]:
    """Add the line's key to `found`, or say what is wrong with it."""
    parts = line.split()
    if len(parts) != 3 or parts[0] not in found:
        yield "expected `seal ID KEY`, or `open`, `public` or `fingerprint` instead of `seal`"
        return
    purpose, key_id, text = parts
    material = _decode(text)
    if not KEY_ID.fullmatch(key_id):
        yield "expected an id of at most 32 letters, digits, dots, dashes and underscores"
    elif any(key_id == key.id for keys in found.values() for key in keys):
        yield f"the id {key_id} stands on an earlier line already"
    elif material is None:
        yield f"expected {KEY_BYTES} bytes as base64url for {key_id}, got something else"
    elif any(material == key.material for keys in found.values() for key in keys):
        yield f"the key {key_id} is the same as an earlier one under another id"
    else:
        found[purpose].append(Key(key_id, material))


def _decode(text: str) -> bytes | None:
    try:
        material = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        return None
    return material if len(material) == KEY_BYTES else None


# ── the safe ──────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Sealed:
    """An envelope, field by field as the ledger stores it; nonce and ciphertext are None once it is shredded.

    In an envelope to a public key, the encapsulated key stands in the nonce's place.
    """

    version: int
    algorithm: str
    key_id: str
    nonce: bytes | None
    ciphertext: bytes | None
    fingerprint: str
    fingerprint_key: str


class Safe:
    """Seals and opens under one key ring, and tells secrets apart without keeping them."""

    def __init__(self, ring: Ring) -> None:
        """Take the first key of each purpose for what is new."""
        self._keys = {key.id: key.material for key in (*ring.seals, *ring.opens)}
        self._seal_key = (ring.seals or ring.publics)[0]
        self._algorithm = ALGORITHM if ring.seals else TO_PUBLIC
        self._fingerprints = {key.id: key.material for key in ring.fingerprints}
        self._fingerprint_key = ring.fingerprints[0]

    def seal(self, secret: Secret, *, secret_id: str, owner: str, kind: str) -> Sealed:
        """Put a secret into an envelope that opens only for this id, owner and kind."""
        key = self._seal_key
        bound = _bind(VERSION, self._algorithm, key.id, secret_id, owner, kind)
        if self._algorithm == ALGORITHM:
            nonce = secrets.token_bytes(NONCE_BYTES)
            ciphertext = AESGCM(key.material).encrypt(nonce, _pad(secret), bound)
        else:
            whole = HPKE.encrypt(_pad(secret), X25519PublicKey.from_public_bytes(key.material), bound)
            nonce, ciphertext = whole[:KEY_BYTES], whole[KEY_BYTES:]
        fingerprint = self.fingerprint(secret)
        return Sealed(VERSION, self._algorithm, key.id, nonce, ciphertext, fingerprint, self.fingerprint_key)

    def open(self, sealed: Sealed, *, secret_id: str, owner: str, kind: str, shred_by: int, now: int) -> Secret:
        """Take the secret out; times are the ledger's, in microseconds.

        Raises Shredded past `shred_by` too: what should have been destroyed is not used because the broom was late.
        """
        nonce, ciphertext = sealed.nonce, sealed.ciphertext
        if nonce is None or ciphertext is None:
            raise Shredded(f"the secret {secret_id} was shredded")
        if now >= shred_by:
            raise Shredded(f"the secret {secret_id} is past its shred-by date")
        if sealed.version != VERSION or sealed.algorithm not in {ALGORITHM, TO_PUBLIC}:
            raise Tampered(
                f"the secret {secret_id} is in an envelope of a kind that this version of revoq does not know"
            )
        if not self.opens:
            raise SafeError(f"the secret {secret_id} cannot be opened here: {ONLY_SEALS}")
        if sealed.key_id not in self._keys:
            raise KeyMissing(sealed.key_id)
        bound = _bind(sealed.version, sealed.algorithm, sealed.key_id, secret_id, owner, kind)
        key = self._keys[sealed.key_id]
        try:
            if sealed.algorithm == ALGORITHM:
                return _unpad(AESGCM(key).decrypt(nonce, ciphertext, bound))
            return _unpad(HPKE.decrypt(nonce + ciphertext, X25519PrivateKey.from_private_bytes(key), bound))
        except (InvalidTag, ValueError):
            pass
        # Raised out here, so that no context carries what was decrypted.
        raise Tampered(f"the secret {secret_id} was changed, or is not where it was sealed for ({kind} of {owner})")

    @property
    def seal_key(self) -> str:
        """The id of the key that seals."""
        return self._seal_key.id

    @property
    def opens(self) -> bool:
        """Whether it can open anything; a producer's cannot."""
        return bool(self._keys)

    @property
    def fingerprint_key(self) -> str:
        """The id of the key that new fingerprints are made under."""
        return self._fingerprint_key.id

    def fingerprint(self, secret: Secret) -> str:
        """What tells whether two secrets are one, under the active fingerprint key."""
        return secret.fingerprint(self._fingerprint_key.material)

    def fingerprints(self, secret: Secret) -> dict[str, str]:
        """The fingerprint under every key that ever made one, by key id: what a history is searched by."""
        return {key_id: secret.fingerprint(material) for key_id, material in self._fingerprints.items()}

    def digest(self, data: bytes) -> str:
        """A keyed digest of an answer, for evidence: `KEY-ID:HEX`. It never equals a fingerprint of the same bytes."""
        own = hmac.digest(self._fingerprint_key.material, b"revoq evidence digest", "sha256")
        return f"{self.fingerprint_key}:{hmac.new(own, data, hashlib.sha256).hexdigest()}"


def new_secret_id() -> str:
    """An id that sorts by time and says nothing about what it stands for."""
    return f"sec_{int(datetime.now(UTC).timestamp() * 1000):012x}{secrets.token_hex(8)}"


def _bind(version: int, algorithm: str, key_id: str, *place: str) -> bytes:
    """What the envelope is bound to, as a JSON list: no two places run together into the same bytes."""
    return json.dumps(["revoq", version, algorithm, key_id, *place]).encode()


def _pad(secret: Secret) -> bytes:
    text = secret.reveal().encode("utf-8", "surrogatepass")
    framed = len(text).to_bytes(LENGTH_BYTES, "big") + text
    return framed + bytes(-len(framed) % BLOCK)


def _unpad(padded: bytes) -> Secret:
    length = int.from_bytes(padded[:LENGTH_BYTES], "big")
    return Secret(padded[LENGTH_BYTES : LENGTH_BYTES + length].decode("utf-8", "surrogatepass"))


# ── the file of keys ──────────────────────────────────────────────────────────────────────────────────────────────


def write_ring(path: Path, ring: Ring) -> None:
    """Write a first file of keys; raises SafeError where there is one."""
    write_first(path, ring.text, taken="holds keys already: revoq keys rotate adds a new one to them")


def rotate_ring(path: Path) -> Ring:
    """Put new keys first in the file of keys, and give the new ring."""
    return Ring.parse(change(path, lambda before: Ring.parse(before).rotate().text))
