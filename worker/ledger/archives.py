"""Old audit rows leave the ledger: into a file, and out of the table through a seam that is signed before they go.

Their seals stay, so the sequence goes on across the seam. Only rows of jobs that have ended leave, and only those that
are sealed and signed; what is told of such a job later follows the row that left.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, and_, delete, exists, insert, select, tuple_

from rules.errors import BadInput, MoveRefused, RevoqError
from rules.lifecycle import OPEN
from worker.files import sync_folder
from worker.ledger import audit as trail
from worker.ledger import heads
from worker.ledger.chain import PAGE
from worker.ledger.database import Database, Lock, lock
from worker.ledger.exports import Form, Line, row_line, written
from worker.ledger.heads import Seam
from worker.ledger.tables import audit, jobs, seals, seams
from worker.signing import Signer


@dataclass(frozen=True, slots=True)
class Archived:
    """What has left: how many rows, the digest of their file, and the head that tells it."""

    rows: int
    digest: str
    head: int


def archive(db: Database, signers: Sequence[Signer], before: int, path: Path, *, actor: str) -> Archived | None:
    """Write the rows of jobs that ended before this time into a new file and remove them; None where there are none.

    The file is whole, and kept by the disk, before any row goes.
    """
    numbers: list[int] = []
    unfinished = path.with_name(f".{path.name}.unfinished")
    try:
        with db.read() as conn:
            digest = _write(unfinished, written(_leaving(conn, before, numbers), Form.JSONL))
        if not numbers:
            return None
        os.link(unfinished, path)
    except FileExistsError:
        raise BadInput(f"{path} is there already: an archive is never written over") from None
    except OSError as error:
        raise BadInput(f"cannot write {path}: {error.strerror}") from None
    finally:
        unfinished.unlink(missing_ok=True)
    sync_folder(path.parent)
    try:
        return _remove(db, signers, spans(numbers), len(numbers), digest, actor)
    except RevoqError:
        # Nothing was removed. After any other error nobody knows, so the file stays.
        path.unlink()
        raise


def spans(numbers: Sequence[int]) -> list[tuple[int, int]]:
    """Numbers as ranges: 1 2 3 7 is 1 to 3, and 7."""
    found: list[tuple[int, int]] = []
    for number in sorted(numbers):
        if found and found[-1][1] == number - 1:
            found[-1] = (found[-1][0], number)
        else:
            found.append((number, number))
    return found


def _leaving(conn: Connection, before: int, numbers: list[int]) -> Iterator[Line]:
    """The rows that may go, in the order of their chains; their seals' numbers are noted."""
    last = heads.latest(conn)
    signed = last.said.seal if last is not None and last.said is not None else 0
    over = and_(jobs.c.state.not_in(sorted(OPEN)), jobs.c.ended_at < before)
    query = (
        select(audit, seals.c.number.label("seal"))
        .join(seals, trail.PLACE)
        .join(jobs, jobs.c.id == audit.c.job)
        .where(over, seals.c.number <= signed)
        .order_by(audit.c.job, audit.c.number)
        .limit(PAGE)
    )
    page: Sequence[Any] = conn.execute(query).mappings().all()
    while page:
        for row in page:
            numbers.append(row["seal"])
            yield row_line(row)
        behind = tuple_(audit.c.job, audit.c.number) > tuple_(page[-1]["job"], page[-1]["number"])
        page = conn.execute(query.where(behind)).mappings().all()


def _write(path: Path, lines: Iterator[bytes]) -> str:
    digest = hashlib.sha256()
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
    with os.fdopen(os.open(path, flags, 0o600), "wb") as file:
        for line in lines:
            digest.update(line)
            file.write(line)
        file.flush()
        os.fsync(file.fileno())
    return digest.hexdigest()


def _remove(
    db: Database, signers: Sequence[Signer], left: list[tuple[int, int]], rows: int, digest: str, actor: str
) -> Archived:
    """Sign the seam, and let the rows go, in one transaction."""
    with db.begin() as conn:
        lock(conn, Lock.SEALER)
        at = db.now()
        if _overlap(conn, left):
            raise MoveRefused("another archive has taken some of these rows meanwhile: nothing was removed")
        head = conn.scalar(select(seals.c.head).where(seals.c.number == left[-1][1]))
        trail.append_global(conn, at=at, event="audit rows→archive", actor=actor, rows=rows, digest=digest)
        signed = heads.sign(conn, signers, at, seam=Seam(left=left, head=str(head), rows=rows, digest=digest))
        assert signed is not None  # noqa: S101 - a seam is always stated
        conn.execute(insert(seams), [{"first": first, "last": last, "head": signed.number} for first, last in left])
        mine = and_(seams.c.head == signed.number, seals.c.number.between(seams.c.first, seams.c.last))
        went = conn.execute(delete(audit).where(exists().where(trail.PLACE, mine))).rowcount
        if went != rows:
            raise MoveRefused(f"expected {rows} rows to leave, and {went} did: nothing was removed")
    return Archived(rows, digest, signed.number)


def _overlap(conn: Connection, left: Sequence[tuple[int, int]]) -> bool:
    taken = [(row.first, row.last) for row in conn.execute(select(seams.c.first, seams.c.last))]
    every = sorted([*taken, *left])
    return any(after[0] <= before[1] for before, after in pairwise(every))
