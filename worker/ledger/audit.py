"""The audit trail: rows chained within their job, the sealer's one sequence of them all, and the check of everything.

A row's hash covers the stored bytes and the hash before it. What a row tells is for `moves` to say; that it goes into
the same transaction as the move, too. Nothing here ever changes or removes a row; what leaves with an archive is
`archives`', and what the sealer signs is `heads`'.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, and_, exists, func, insert, or_, select

from worker.ledger import heads
from worker.ledger.chain import GENESIS, PAGE, Fault, Finding, canonical, link, parsed
from worker.ledger.database import Lock, lock
from worker.ledger.heads import Signed, Walk
from worker.ledger.rows import Head
from worker.ledger.tables import audit, jobs, seals, seams
from worker.ledger.tables import heads as signed_heads
from worker.ledger.together import Write

__all__ = [
    "GENESIS",
    "GLOBAL",
    "PAGE",
    "PLACE",
    "Entry",
    "Fault",
    "Finding",
    "Tally",
    "append",
    "append_global",
    "canonical",
    "count_unsealed",
    "entry",
    "fold",
    "has_left",
    "link",
    "seal_link",
    "verify",
    "write",
    "writing",
]

GLOBAL = "revoq"
"""The chain of what belongs to no job: holds, keys, settings. Nothing remembers its end but the seals."""
_WRITE = insert(audit)
PLACE = and_(seals.c.job == audit.c.job, seals.c.audit_number == audit.c.number)
"""What makes a seal the seal of a row."""


@dataclass(slots=True)
class Tally:
    """What a check has looked at; it grows while `verify` walks."""

    rows: int = 0
    chains: int = 0
    seals: int = 0
    unsealed: int = 0
    heads: int = 0
    unsigned: int = 0  # seals behind the last head
    left: int = 0  # rows that left with archives
    lost: int = 0  # heads that a restored ledger does not know
    keys: list[str] = field(default_factory=list)  # public ones that have signed


@dataclass(frozen=True, slots=True)
class Entry:
    """One row, hashed and not written yet."""

    job: str
    number: int
    at: int
    row: bytes
    hash: str

    @property
    def head(self) -> Head:
        """What the next row of the chain follows."""
        return Head(self.number, self.hash)


def entry(previous: Head, *, job: str, at: int, event: str, **facts: Any) -> Entry:
    """The row that follows `previous`; facts that are None are left out."""
    number = previous.number + 1
    told = {name: fact for name, fact in facts.items() if fact is not None}
    row = canonical({**told, "job": job, "number": number, "at": at, "event": event})
    return Entry(job, number, at, row, link(previous.hash, row))


def write(conn: Connection, new: Entry) -> None:
    conn.execute(*writing(new))


def writing(new: Entry) -> Write:
    """How a row is written."""
    return Write(_WRITE, {"job": new.job, "number": new.number, "at": new.at, "row": new.row, "hash": new.hash})


def append(conn: Connection, *, job: str, number: int, previous: str, at: int, event: str, **facts: Any) -> str:
    """Write row `number` after the one whose hash is `previous`; its own hash."""
    new = entry(Head(number - 1, previous), job=job, at=at, event=event, **facts)
    write(conn, new)
    return new.hash


def append_global(conn: Connection, *, at: int, event: str, **facts: Any) -> str:
    """Write a row that belongs to no job; one writer at a time, until the end of its transaction."""
    lock(conn, Lock.CHAIN)
    last = select(audit.c.number, audit.c.hash).where(audit.c.job == GLOBAL).order_by(audit.c.number.desc()).limit(1)
    row = conn.execute(last).one_or_none()
    number, previous = (row.number, row.hash) if row is not None else GENESIS
    return append(conn, job=GLOBAL, number=number + 1, previous=previous, at=at, event=event, **facts)


# ── the seals ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def seal_link(previous_head: str, job: str, number: int, row_hash: str) -> str:
    """SHA-256 over the head before and what is sealed."""
    return hashlib.sha256(f"{previous_head}{job}:{number}:{row_hash}".encode()).hexdigest()


def fold(conn: Connection, limit: int, at: int) -> int:
    """Fold at most `limit` rows that no seal knows into the sequence, oldest first; how many were folded.

    Rows are found by their absence from the seals and never by a mark of how far it got: a transaction that began early
    may commit late, and its rows would stay behind the mark for ever.
    """
    lock(conn, Lock.SEALER)
    last = conn.execute(select(seals.c.number, seals.c.head).order_by(seals.c.number.desc()).limit(1)).one_or_none()
    begin, head = (last.number, last.head) if last is not None else GENESIS
    fresh = (
        select(audit.c.job, audit.c.number, audit.c.hash)
        .outerjoin(seals, PLACE)
        .where(seals.c.number.is_(None))
        .order_by(audit.c.at, audit.c.job, audit.c.number)
        .limit(limit)
    )
    rows = []
    for number, found in enumerate(conn.execute(fresh), start=begin + 1):
        head = seal_link(head, found.job, found.number, found.hash)
        rows.append(
            {
                "number": number,
                "job": found.job,
                "audit_number": found.number,
                "hash": found.hash,
                "head": head,
                "sealed_at": at,
            }
        )
    if rows:
        conn.execute(insert(seals), rows)
    return len(rows)


def count_unsealed(conn: Connection) -> int:
    """How many rows the sealer has not seen: what somebody with the database's password could still forge unseen."""
    unsealed = select(func.count()).select_from(audit.outerjoin(seals, PLACE)).where(seals.c.number.is_(None))
    return conn.scalar(unsealed) or 0


# ── the check ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def verify(
    conn: Connection,
    tally: Tally | None = None,
    *,
    anchors: Collection[str] = (),
    delivered: Iterable[Signed] = (),
    returned: Collection[str] = (),
    exported: bool = False,
) -> Iterator[Finding]:
    """Walk every chain, the seals and the heads, and tell the first wrong row of each that is broken; `tally` counts.

    One of the public keys `anchors` must have signed, and what was `delivered` must be there. Rows of archives with the
    digests `returned` are back; an `exported` trail comes without its jobs. `conn` has to see one moment
    (`Database.read` does): else a job that moves meanwhile would look cut. Memory stays flat.
    """
    tally = tally if tally is not None else Tally()
    way = Walk()
    yield from heads.walk(conn, way)
    yield from _check_anchors(way, anchors)
    yield from heads.compare(conn, delivered, way)
    yield from _check_seams(conn, way, returned)
    yield from _check_chains(conn, tally, ends=not exported)
    if not exported:
        yield from _check_bare_jobs(conn)
    yield from _check_seals(conn, tally)
    yield from _check_sealed_rows(conn)
    tally.unsealed = count_unsealed(conn)
    tally.heads = conn.scalar(select(func.count()).select_from(signed_heads)) or 0
    tally.unsigned = conn.scalar(select(func.count()).select_from(seals).where(seals.c.number > way.seal)) or 0
    tally.left = conn.scalar(select(func.coalesce(func.sum(seams.c.last - seams.c.first + 1), 0))) or 0
    tally.lost = sum(last - first + 1 for first, last in way.lost)
    tally.keys = sorted(way.keys)


def has_left() -> ColumnElement[bool]:
    """Whether the row of a seal left with an archive."""
    return exists().where(seals.c.number.between(seams.c.first, seams.c.last)).correlate(seals)


def _check_anchors(way: Walk, anchors: Collection[str]) -> Iterator[Finding]:
    if anchors and not way.keys & set(anchors):
        yield Finding(heads.CHAIN, 1, Fault.FORGED, f"no head is signed with the key {' or '.join(sorted(anchors))}")


def _check_seams(conn: Connection, way: Walk, returned: Collection[str]) -> Iterator[Finding]:
    """Rows left where a head says so, and nowhere else."""
    back = {way.digests.get(digest) for digest in returned}
    told = {seam for seam in way.seams if seam[2] not in back}
    there = {(row.first, row.last, row.head) for row in conn.execute(select(seams))}
    for first, last, head in sorted(there ^ told)[:1]:
        says = "a head tells of it, and it is gone" if (first, last, head) in told else "no signed head tells of it"
        yield Finding("seams", first, Fault.FORGED, f"the seam over the seals {first} to {last}: {says}")


@dataclass(slots=True)
class _Chain:
    """One chain while it is walked: where it is, and where its job says that it ends."""

    job: str
    end: Head | None
    head: Head = field(default=GENESIS)
    open_ended: bool = False
    broken: bool = False

    def follow(self, number: int, at: int, row: bytes, row_hash: str) -> Finding | None:
        """Look at the next row; after the first wrong one the rest cannot be judged."""
        if self.broken:
            return None
        wrong = self._wrong(number, at, row, row_hash)
        self.broken = wrong is not None
        self.head = Head(number, row_hash)
        return Finding(self.job, number, *wrong) if wrong is not None else None

    def close(self) -> Finding | None:
        """Compare where the rows end with where the job says they do."""
        if self.broken or self.open_ended or self.end == self.head:
            return None
        last = self.head.number
        if self.end is None:
            return Finding(self.job, 1, Fault.ORPHAN, "its rows are there, and the job is gone")
        if self.end.number > last:
            says = f"rows {last + 1} to {self.end.number} are gone: the job's last row is number {self.end.number}"
            return Finding(self.job, last + 1, Fault.CUT, says)
        if self.end.number < last:
            says = f"the job's last row is number {self.end.number}: this one was added behind it"
            return Finding(self.job, self.end.number + 1, Fault.INSERTED, says)
        return Finding(self.job, last, Fault.EDITED, "the job remembers another hash for this row")

    def _wrong(self, number: int, at: int, row: bytes, row_hash: str) -> tuple[Fault, str] | None:
        expected = self.head.number + 1
        if number < expected:
            return Fault.INSERTED, f"a chain begins with row 1, and this is row {number}"
        if number > expected:
            return Fault.MISSING, f"the rows {expected} to {number - 1} before it are gone"
        written = parsed(row)
        if written is None or written.get("at") != at:
            return Fault.EDITED, "its content is not what was written"
        if (written.get("job"), written.get("number")) != (self.job, number):
            place = f"row {written.get('number')} of {written.get('job')}"
            return Fault.MOVED, f"it was written as {place}: rows were inserted, removed or swapped"
        if link(self.head.hash, row) != row_hash:
            return (
                Fault.EDITED,
                "its hash does not follow from its content and the row before: one of the two was edited",
            )
        return None


def _check_chains(conn: Connection, tally: Tally, *, ends: bool) -> Iterator[Finding]:
    chain: _Chain | None = None
    for job, number, at, row, row_hash, end_number, end_hash in _rows_with_ends(conn):
        if chain is None or chain.job != job:
            yield from _told(chain.close() if chain is not None else None)
            end = Head(end_number, end_hash) if end_number is not None else None
            begin = _where_it_was_cut(conn, job, number) if number > 1 else GENESIS
            chain = _Chain(job, end, begin, open_ended=job == GLOBAL or not ends)
            tally.chains += 1
        tally.rows += 1
        finding = chain.follow(number, at, row, row_hash)
        if finding is not None:
            yield finding
    yield from _told(chain.close() if chain is not None else None)


def _where_it_was_cut(conn: Connection, job: str, first: int) -> Head:
    """The last row before the `first` that is there, where it left with an archive: its seal remembers its hash."""
    number = first - 1
    before = and_(seals.c.job == job, seals.c.audit_number == number, has_left())
    row_hash = conn.scalar(select(seals.c.hash).where(before))
    return Head(number, row_hash) if row_hash is not None else GENESIS


def _rows_with_ends(conn: Connection) -> Iterator[Row[*tuple[Any, ...]]]:
    """Every row in the order of the chains, with the end that its job remembers."""
    columns = (audit.c.job, audit.c.number, audit.c.at, audit.c.row, audit.c.hash)
    query = (
        select(*columns, jobs.c.audit_number, jobs.c.audit_hash)
        .outerjoin(jobs, jobs.c.id == audit.c.job)
        .order_by(audit.c.job, audit.c.number)
    )
    yield from conn.execute(query.execution_options(yield_per=PAGE))


def _check_bare_jobs(conn: Connection) -> Iterator[Finding]:
    last = and_(seals.c.job == jobs.c.id, seals.c.audit_number == jobs.c.audit_number)
    whole_chain_left = exists().where(last, seals.c.hash == jobs.c.audit_hash, has_left())
    bare = select(jobs.c.id).outerjoin(audit, audit.c.job == jobs.c.id).where(audit.c.job.is_(None), ~whole_chain_left)
    for (job,) in conn.execute(bare.execution_options(yield_per=PAGE)):
        yield Finding(job, 1, Fault.BARE, "the job is there, and none of its rows is")


def _check_seals(conn: Connection, tally: Tally) -> Iterator[Finding]:
    """Walk the sequence; after the first wrong seal the rest cannot be judged, and is only counted."""
    before, head = GENESIS
    broken = False
    for number, job, audit_number, row_hash, its_head in _all_seals(conn):
        tally.seals += 1
        if broken:
            continue
        if number != before + 1:
            fault = Fault.MISSING if number > before + 1 else Fault.INSERTED
            broken, says = True, f"the seal before it is number {before}"
            yield Finding("seals", number, fault, says)
        elif seal_link(head, job, audit_number, row_hash) != its_head:
            broken, says = True, "its head does not follow from what it seals and the seal before"
            yield Finding("seals", number, Fault.EDITED, says)
        before, head = number, its_head


def _all_seals(conn: Connection) -> Iterator[Row[*tuple[Any, ...]]]:
    columns = (seals.c.number, seals.c.job, seals.c.audit_number, seals.c.hash, seals.c.head)
    yield from conn.execute(select(*columns).order_by(seals.c.number).execution_options(yield_per=PAGE))


def _check_sealed_rows(conn: Connection) -> Iterator[Finding]:
    """The first row of each chain that is not what was sealed: this finds a chain that was written anew as a whole."""
    left = has_left()
    gone, back = and_(audit.c.hash.is_(None), ~left), and_(audit.c.hash.is_not(None), left)
    sealed = (
        select(seals.c.job, func.min(seals.c.audit_number).label("number"))
        .outerjoin(audit, PLACE)
        .where(or_(gone, back, audit.c.hash != seals.c.hash))
        .group_by(seals.c.job)
    )
    for job, number in conn.execute(sealed.execution_options(yield_per=PAGE)):
        query = select(audit.c.hash, seals.c.hash).select_from(seals.outerjoin(audit, PLACE))
        there, was = conn.execute(query.where(seals.c.job == job, seals.c.audit_number == number)).one()
        if there is None:
            yield Finding(job, number, Fault.MISSING, "it was sealed, and is gone")
        elif there == was:
            yield Finding(job, number, Fault.INSERTED, "it left with an archive, and stands here again")
        else:
            yield Finding(job, number, Fault.EDITED, "it was sealed with another hash")


def _told(finding: Finding | None) -> Iterator[Finding]:
    if finding is not None:
        yield finding
