"""The signed heads of the audit trail: statements of how far the seals reach, chained, and what each sink has of them.

A statement is canonical JSON, signed with Ed25519: its `number`, the hash of the statement before (`previous`), when it
was made (`at`), the last seal and its head (`seal`, `head`), and the public key that signs it (`key`). It may also say
which key signs from now on (`announces`; the first statement introduces its own), which seals' rows left with an
archive (`seam`), and which delivered heads a restored ledger does not know any more (`lost`). Who makes one is the
sealer, and the two commands behind `seam` and `lost`; a statement never changes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError
from sqlalchemy import Connection, Row, func, insert, select, update

from rules.units import SECOND
from worker.errors import SafeError
from worker.ledger.chain import GENESIS, PAGE, Fault, Finding, canonical
from worker.ledger.database import Database, Lock, lock
from worker.ledger.tables import deliveries, heads, seals
from worker.signing import Signer, has_signed

CHAIN = "heads"
"""The name under which findings about heads are told."""


class Strict(BaseModel):
    """What was signed has exactly these fields."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Seam(Strict):
    """Rows that left with an archive: the ranges of their seals, the last one's head, and the file's digest."""

    left: list[tuple[int, int]]
    head: str
    rows: int
    digest: str


class Statement(Strict):
    """What is signed."""

    number: int
    previous: str
    at: int
    seal: int
    head: str
    key: str
    announces: str | None = None
    seam: Seam | None = None
    lost: tuple[int, int] | None = None

    @property
    def next_key(self) -> str:
        """Who signs the next one."""
        return self.announces or self.key


@dataclass(frozen=True)
class Signed:
    """A statement with its signature, as they are stored, delivered and exported."""

    number: int
    statement: bytes
    signature: str

    @cached_property
    def said(self) -> Statement | None:
        """What it says, or None where it is not written as a statement is."""
        try:
            said = Statement.model_validate_json(self.statement)
        except ValidationError:
            return None
        return said if canonical(said.model_dump(exclude_none=True)) == self.statement else None

    @property
    def hash(self) -> str:
        return hashlib.sha256(self.statement).hexdigest()

    def is_signed_by(self, public: str) -> bool:
        return self.signature == self.signature.lower() and has_signed(public, self.statement, self.signature)


# ── signing ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def sign(
    conn: Connection,
    signers: Sequence[Signer],
    at: int,
    *,
    seam: Seam | None = None,
    lost: tuple[int, int] | None = None,
) -> Signed | None:
    """State how far the seals reach, unless that is stated already; a new key is announced by the one before it.

    Raises SafeError where the key that has to sign is not among those given.
    """
    lock(conn, Lock.SEALER)
    before = latest(conn)
    last = before.said if before is not None else None
    newest = signers[0]
    if last is None or last.next_key != newest.public:
        signer = newest if last is None else _find(signers, last.next_key)
        before = _write(conn, before, signer, at, announces=newest.public, lost=lost)
        last, lost = before.said, None
    assert last is not None  # noqa: S101 - it was just written
    if seam is None and lost is None and _last_seal(conn)[0] <= last.seal:
        return before
    return _write(conn, before, newest, at, seam=seam, lost=lost)


def _find(signers: Sequence[Signer], public: str) -> Signer:
    for signer in signers:
        if signer.public == public:
            return signer
    raise SafeError(
        f"the audit trail is signed with the key {public}, which is not among ours: put its line back behind the "
        "new one, so that it can announce it"
    )


def _write(
    conn: Connection,
    before: Signed | None,
    signer: Signer,
    at: int,
    *,
    announces: str | None = None,
    seam: Seam | None = None,
    lost: tuple[int, int] | None = None,
) -> Signed:
    seal, head = _last_seal(conn)
    number = 1 + (lost[1] if lost is not None else before.number if before is not None else 0)
    said = Statement(
        number=number,
        previous=before.hash if before is not None else GENESIS.hash,
        at=at,
        seal=seal,
        head=head,
        key=signer.public,
        announces=announces,
        seam=seam,
        lost=lost,
    )
    statement = canonical(said.model_dump(exclude_none=True))
    signed = Signed(number, statement, signer.sign(statement))
    conn.execute(insert(heads), {"number": number, "statement": statement, "signature": signed.signature})
    return signed


def _last_seal(conn: Connection) -> tuple[int, str]:
    row = conn.execute(select(seals.c.number, seals.c.head).order_by(seals.c.number.desc()).limit(1)).one_or_none()
    return (row.number, row.head) if row is not None else (GENESIS.number, GENESIS.hash)


# ── reading ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def latest(conn: Connection) -> Signed | None:
    """The last head."""
    row = conn.execute(select(heads).order_by(heads.c.number.desc()).limit(1)).one_or_none()
    return signed_of(row) if row is not None else None


def find(conn: Connection, numbers: Iterable[int]) -> dict[int, Signed]:
    """Heads by their numbers."""
    found = conn.execute(select(heads).where(heads.c.number.in_(list(numbers))))
    return {row.number: signed_of(row) for row in found}


def behind(conn: Connection, number: int, limit: int = PAGE) -> list[Signed]:
    """The heads that follow this one."""
    query = select(heads).where(heads.c.number > number).order_by(heads.c.number).limit(limit)
    return [signed_of(row) for row in conn.execute(query)]


def everyone(conn: Connection) -> Iterator[Signed]:
    """All heads in their order, page by page."""
    page = behind(conn, GENESIS.number - 1)
    while page:
        yield from page
        page = behind(conn, page[-1].number)


def pages(found: Iterable[Signed]) -> Iterator[list[Signed]]:
    """A long line of heads in pieces."""
    line = iter(found)
    while page := list(islice(line, PAGE)):
        yield page


def signed_of(row: Row[Any]) -> Signed:
    return Signed(row.number, bytes(row.statement), row.signature)


# ── checking ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass
class Walk:
    """The heads while they are checked one by one: which keys have signed, and what they say of archives and losses."""

    number: int = 0
    previous: str = GENESIS.hash
    key: str | None = None
    seal: int = 0
    keys: set[str] = field(default_factory=set)
    seams: list[tuple[int, int, int]] = field(default_factory=list)  # first and last seal, and the head that tells it
    digests: dict[str, int] = field(default_factory=dict)  # of archives, with the head that tells it
    lost: list[tuple[int, int]] = field(default_factory=list)

    def follow(self, head: Signed) -> Finding | None:
        """Look at the next head; after the first wrong one the rest cannot be judged."""
        said = head.said
        if said is None:
            return Finding(CHAIN, head.number, Fault.EDITED, "it is not written as a statement is")
        wrong = self._wrong(head, said)
        if wrong is not None:
            return Finding(CHAIN, head.number, *wrong)
        self.number, self.previous, self.key, self.seal = said.number, head.hash, said.next_key, said.seal
        self.keys.add(said.key)
        if said.lost is not None:
            self.lost.append(said.lost)
        if said.seam is not None:
            self.seams += [(first, last, said.number) for first, last in said.seam.left]
            self.digests[said.seam.digest] = said.number
        return None

    def has_lost(self, number: int) -> bool:
        """Whether a head says that this one was lost when the ledger was restored."""
        return any(first <= number <= last for first, last in self.lost)

    def _wrong(self, head: Signed, said: Statement) -> tuple[Fault, str] | None:
        if said.number != head.number:
            return Fault.MOVED, f"it was signed as head {said.number}"
        if head.number <= self.number:
            return Fault.INSERTED, f"the head before it is number {self.number}"
        first = said.lost[0] if said.lost is not None and said.lost[1] == said.number - 1 else said.number
        if first > self.number + 1:
            return Fault.MISSING, f"the heads {self.number + 1} to {first - 1} before it are gone"
        if said.previous != self.previous:
            return Fault.EDITED, "it does not follow from the head before: one of the two was edited"
        if said.key != (self.key or said.announces):
            return Fault.FORGED, f"it names the key {said.key}, which no head before it has announced"
        if not head.is_signed_by(said.key):
            return Fault.FORGED, "its signature does not fit"
        if said.seal < self.seal:
            return Fault.FORGED, f"it reaches to seal {said.seal}, and the head before it to {self.seal}"
        return None


def walk(conn: Connection, way: Walk) -> Iterator[Finding]:
    """Check every head, and that the seals are those that were signed; the first wrong one, if any."""
    for page in pages(everyone(conn)):
        good = []
        wrong = None
        for head in page:
            wrong = way.follow(head)
            if wrong is not None:
                break
            good.append(head)
        yield from (found := list(_check_seals(conn, good)))[:1]
        if wrong is not None:
            yield wrong
        if found or wrong is not None:
            return


def _check_seals(conn: Connection, signed: Sequence[Signed]) -> Iterator[Finding]:
    """The seals that these heads speak of are there, with the same heads."""
    said = [head.said for head in signed if head.said is not None]
    query = select(seals.c.number, seals.c.head).where(seals.c.number.in_({each.seal for each in said}))
    there = {row.number: row.head for row in conn.execute(query)} | {GENESIS.number: GENESIS.hash}
    for each in said:
        if each.seal not in there:
            yield Finding("seals", each.seal, Fault.CUT, f"head {each.number} was signed over it, and it is gone")
        elif there[each.seal] != each.head:
            yield Finding("seals", each.seal, Fault.EDITED, f"head {each.number} was signed over another one")


def compare(conn: Connection, delivered: Iterable[Signed], way: Walk) -> Iterator[Finding]:
    """The first delivered head that the trail does not have, unless a head says how it was lost."""
    keys = set(way.keys)
    last = conn.scalar(select(func.max(heads.c.number))) or 0
    for page in pages(delivered):
        there = find(conn, (head.number for head in page))
        for head in page:
            same = there.get(head.number)
            genuine = head.said is not None and head.said.key in keys and head.is_signed_by(head.said.key)
            if genuine and head.said is not None:
                keys.add(head.said.next_key)
            if (same is not None and same.statement == head.statement) or (genuine and way.has_lost(head.number)):
                continue
            yield Finding(CHAIN, head.number, *_differs(head, same, last, genuine=genuine))
            return


def _differs(head: Signed, same: Signed | None, last: int, *, genuine: bool) -> tuple[Fault, str]:
    if not genuine:
        return Fault.FORGED, "it is among the delivered heads, and no key of this trail has signed it"
    if same is not None:
        return Fault.EDITED, "another head was delivered under this number: the trail was written anew"
    if head.number < last:
        return Fault.MISSING, "it was delivered, and is gone"
    seal = head.said.seal if head.said is not None else 0
    return Fault.CUT, f"it was delivered and reaches to seal {seal}; the trail ends with head {last}"


# ── deliveries ────────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Delivery:
    """What a sink has of the heads: the last one it took (0 for none) and since when that one and the next exist."""

    sink: str
    number: int
    signed_at: int | None
    waits_since: int | None  # null where it has them all
    failed_at: int | None
    says: str | None

    def age(self, now: int) -> float | None:
        """Seconds since the last delivered head was signed."""
        return (now - self.signed_at) / SECOND if self.signed_at is not None else None

    def lag(self, now: int) -> float:
        """Seconds for which the oldest head has waited that this sink does not have yet."""
        return (now - self.waits_since) / SECOND if self.waits_since is not None else 0.0


def delivered(db: Database, sinks: Iterable[str]) -> list[Delivery]:
    """How far each of these sinks is."""
    with db.read() as conn:
        rows = {row.sink: row for row in conn.execute(select(deliveries))}
        return [_delivery(conn, sink, rows.get(sink)) for sink in sinks]


def _delivery(conn: Connection, sink: str, row: Row[Any] | None) -> Delivery:
    number = row.number if row is not None else 0
    there, coming = find(conn, [number]).get(number), behind(conn, number, 1)
    return Delivery(
        sink=sink,
        number=number,
        signed_at=there.said.at if there is not None and there.said is not None else None,
        waits_since=coming[0].said.at if coming and coming[0].said is not None else None,
        failed_at=row.failed_at if row is not None else None,
        says=row.says if row is not None else None,
    )


def undelivered(db: Database, sink: str, limit: int) -> list[Signed]:
    """The oldest heads that a sink does not have yet."""
    with db.read() as conn:
        number = conn.scalar(select(deliveries.c.number).where(deliveries.c.sink == sink)) or 0
        return behind(conn, number, limit)


def note_delivered(db: Database, sink: str, number: int) -> None:
    """It has taken everything up to this head."""
    _note(db, sink, number=number, delivered_at=db.now(), failed_at=None, says=None)


def note_failed(db: Database, sink: str, says: str) -> None:
    """It has taken nothing; the next tick tries again."""
    _note(db, sink, failed_at=db.now(), says=says)


def _note(db: Database, sink: str, **changes: object) -> None:
    with db.begin() as conn:
        if conn.execute(update(deliveries).where(deliveries.c.sink == sink).values(changes)).rowcount == 0:
            conn.execute(insert(deliveries), {"number": 0, **changes, "sink": sink})
