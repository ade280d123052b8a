"""The audit trail: rows chained within their job, the sealer's one sequence of them all, and the check of both.

A row's hash covers the stored bytes and the hash before it. What a row tells is for `moves` to say; that it goes into
the same transaction as the move, too. Nothing here ever changes or removes a row.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from sqlalchemy import Connection, RowMapping, and_, func, insert, or_, select, tuple_

from worker.ledger.database import Lock, lock
from worker.ledger.rows import Head
from worker.ledger.tables import audit, jobs, seals

GENESIS = Head(0, "0" * 64)
"""What stands before the first row of every chain."""
GLOBAL = "revoq"
"""The chain of what belongs to no job: holds, keys, settings. Nothing remembers its end but the seals."""
PAGE = 1000
"""Rows that a check holds in memory at once."""
_WRITE = insert(audit)
PLACE = and_(seals.c.job == audit.c.job, seals.c.audit_number == audit.c.number)
"""What makes a seal the seal of a row."""


class Fault(StrEnum):
    """What is wrong with a row."""

    EDITED = "edited"  # its bytes, its time or its hash are not what was written
    MISSING = "missing"  # rows between it and the one before, or rows that were sealed, are gone
    CUT = "cut"  # the chain ends before its job says that it does
    INSERTED = "inserted"  # it stands where no row was written
    MOVED = "moved"  # it was written for another place
    BARE = "bare"  # a job that has no rows
    ORPHAN = "orphan"  # rows whose job is gone


@dataclass(frozen=True, slots=True)
class Finding:
    """The first wrong row of one chain (`seals` is the name of the sealer's), and how it is wrong."""

    chain: str
    number: int
    fault: Fault
    says: str


@dataclass(slots=True)
class Tally:
    """What a check has looked at; it grows while `verify` walks."""

    rows: int = 0
    chains: int = 0
    seals: int = 0
    unsealed: int = 0


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


def canonical(row: Mapping[str, Any]) -> bytes:
    """The one way to write a row: JSON, sorted keys, no spaces, UTF-8. A Secret in it is a TypeError."""
    written = json.dumps(row, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    # Half a surrogate pair, which a provider may well send, has no UTF-8; its escape is the same JSON.
    return written.encode("utf-8", "backslashreplace")


def link(previous_hash: str, row: bytes) -> str:
    """SHA-256 over the hash before and the stored bytes."""
    return hashlib.sha256(previous_hash.encode("ascii") + row).hexdigest()


def entry(previous: Head, *, job: str, at: int, event: str, **facts: Any) -> Entry:
    """The row that follows `previous`; facts that are None are left out."""
    number = previous.number + 1
    told = {name: fact for name, fact in facts.items() if fact is not None}
    row = canonical({**told, "job": job, "number": number, "at": at, "event": event})
    return Entry(job, number, at, row, link(previous.hash, row))


def write(conn: Connection, new: Entry) -> None:
    row = {"job": new.job, "number": new.number, "at": new.at, "row": new.row, "hash": new.hash}
    conn.execute(_WRITE, row)


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


def verify(conn: Connection, tally: Tally | None = None) -> Iterator[Finding]:
    """Walk every chain and the seals, and tell the first wrong row of each that is broken; `tally` counts along.

    `conn` has to see one moment (`Database.read` does): else a job that moves meanwhile would look cut. Memory stays
    flat, however long the trail is.
    """
    tally = tally if tally is not None else Tally()
    yield from _check_chains(conn, tally)
    yield from _check_bare_jobs(conn)
    yield from _check_seals(conn, tally)
    yield from _check_sealed_rows(conn)
    tally.unsealed = count_unsealed(conn)


@dataclass(slots=True)
class _Chain:
    """One chain while it is walked: where it is, and where its job says that it ends."""

    job: str
    end: Head | None
    head: Head = field(default=GENESIS)
    broken: bool = False

    def follow(self, row: RowMapping) -> Finding | None:
        """Look at the next row; after the first wrong one the rest cannot be judged."""
        if self.broken:
            return None
        wrong = self._wrong(row)
        self.broken = wrong is not None
        self.head = Head(row["number"], row["hash"])
        return Finding(self.job, row["number"], *wrong) if wrong is not None else None

    def close(self) -> Finding | None:
        """Compare where the rows end with where the job says they do."""
        if self.broken or self.job == GLOBAL or self.end == self.head:
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

    def _wrong(self, row: RowMapping) -> tuple[Fault, str] | None:
        number, expected = row["number"], self.head.number + 1
        if number < expected:
            return Fault.INSERTED, f"a chain begins with row 1, and this is row {number}"
        if number > expected:
            return Fault.MISSING, f"the rows {expected} to {number - 1} before it are gone"
        written = _parsed(row["row"])
        if written is None or written.get("at") != row["at"]:
            return Fault.EDITED, "its content is not what was written"
        if (written.get("job"), written.get("number")) != (self.job, number):
            place = f"row {written.get('number')} of {written.get('job')}"
            return Fault.MOVED, f"it was written as {place}: rows were inserted, removed or swapped"
        if link(self.head.hash, row["row"]) != row["hash"]:
            return (
                Fault.EDITED,
                "its hash does not follow from its content and the row before: one of the two was edited",
            )
        return None


def _check_chains(conn: Connection, tally: Tally) -> Iterator[Finding]:
    chain: _Chain | None = None
    for row in _rows_with_ends(conn):
        if chain is None or chain.job != row["job"]:
            yield from _told(chain.close() if chain is not None else None)
            end = Head(row["audit_number"], row["audit_hash"]) if row["audit_number"] is not None else None
            chain = _Chain(row["job"], end)
            tally.chains += 1
        tally.rows += 1
        yield from _told(chain.follow(row))
    yield from _told(chain.close() if chain is not None else None)


def _rows_with_ends(conn: Connection) -> Iterator[RowMapping]:
    """Every row in the order of the chains, page by page, with the end that its job remembers."""
    query = (
        select(audit, jobs.c.audit_number, jobs.c.audit_hash)
        .outerjoin(jobs, jobs.c.id == audit.c.job)
        .order_by(audit.c.job, audit.c.number)
        .limit(PAGE)
    )
    page = conn.execute(query).mappings().all()
    while page:
        yield from page
        behind = tuple_(audit.c.job, audit.c.number) > tuple_(page[-1]["job"], page[-1]["number"])
        page = conn.execute(query.where(behind)).mappings().all()


def _check_bare_jobs(conn: Connection) -> Iterator[Finding]:
    bare = select(jobs.c.id).outerjoin(audit, audit.c.job == jobs.c.id).where(audit.c.job.is_(None))
    for (job,) in conn.execute(bare.execution_options(yield_per=PAGE)):
        yield Finding(job, 1, Fault.BARE, "the job is there, and none of its rows is")


def _check_seals(conn: Connection, tally: Tally) -> Iterator[Finding]:
    """Walk the sequence; after the first wrong seal the rest cannot be judged, and is only counted."""
    number, head = GENESIS
    broken = False
    for row in _all_seals(conn):
        tally.seals += 1
        if broken:
            continue
        if row["number"] != number + 1:
            fault = Fault.MISSING if row["number"] > number + 1 else Fault.INSERTED
            broken, says = True, f"the seal before it is number {number}"
            yield Finding("seals", row["number"], fault, says)
        elif seal_link(head, row["job"], row["audit_number"], row["hash"]) != row["head"]:
            broken, says = True, "its head does not follow from what it seals and the seal before"
            yield Finding("seals", row["number"], Fault.EDITED, says)
        number, head = row["number"], row["head"]


def _all_seals(conn: Connection) -> Iterator[RowMapping]:
    query = select(seals).order_by(seals.c.number).limit(PAGE)
    page = conn.execute(query).mappings().all()
    while page:
        yield from page
        page = conn.execute(query.where(seals.c.number > page[-1]["number"])).mappings().all()


def _check_sealed_rows(conn: Connection) -> Iterator[Finding]:
    """The first row of each chain that is not what was sealed: this finds a chain that was written anew as a whole."""
    sealed = (
        select(seals.c.job, func.min(seals.c.audit_number).label("number"))
        .outerjoin(audit, PLACE)
        .where(or_(audit.c.hash.is_(None), audit.c.hash != seals.c.hash))
        .group_by(seals.c.job)
    )
    for job, number in conn.execute(sealed.execution_options(yield_per=PAGE)):
        there = conn.scalar(select(audit.c.hash).where(audit.c.job == job, audit.c.number == number))
        if there is None:
            yield Finding(job, number, Fault.MISSING, "it was sealed, and is gone")
        else:
            yield Finding(job, number, Fault.EDITED, "it was sealed with another hash")


def _parsed(row: bytes) -> dict[str, Any] | None:
    try:
        parsed = json.loads(row)
    except ValueError:
        return None
    return parsed if isinstance(parsed, dict) else None


def _told(finding: Finding | None) -> Iterator[Finding]:
    if finding is not None:
        yield finding
