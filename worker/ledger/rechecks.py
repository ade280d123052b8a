"""The rechecks of the ledger: when what was ended is looked at again, and what came of it; jobs are moved by `moves`.

A series belongs to a credential and is replaced by the next one. It is written in the transaction that ends the job it
watches, each of its rows is taken in the transaction that starts a job for it, and what a look found is written in the
transaction that ends that job: two clocks start each once, and none is lost.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

from sqlalchemy import (
    BigInteger,
    Connection,
    Insert,
    RowMapping,
    String,
    and_,
    bindparam,
    exists,
    func,
    insert,
    literal,
    select,
    union_all,
    update,
)

from rules.lifecycle import OPEN, Intent, State, Verdict
from rules.recheck import Due, Found, Kind, Past
from rules.units import SECOND
from worker.ledger import moves, reads
from worker.ledger.database import Database, Lock, lock
from worker.ledger.rows import Job, NewJob, SealedSecret, Submitted
from worker.ledger.statements import MOMENT, SEALED, THIS, among
from worker.ledger.tables import credentials, jobs, rechecks, secrets
from worker.ledger.together import Write, write

DAY = 86_400 * SECOND
FAMILY = frozenset({Intent.REVOKE, Intent.RECHECK, Intent.RESTORE})
"""The jobs whose secrets are those of the credential itself."""
AT_WORK = FAMILY - {Intent.RECHECK} | {Intent.ROTATE}
"""While a job of such an intent is at work, what a look would find is of no meaning."""
# Built once, since they run at the end of every job; the parameters are named as in `statements`.
ITS_FAMILY = select(jobs.c.id).where(jobs.c.credential == THIS, jobs.c.intent.in_(among(FAMILY)))
RELEASE = update(secrets).where(
    secrets.c.job.in_(ITS_FAMILY.where(jobs.c.state.not_in(among(OPEN)))),
    # Not by the date of shredding, whose index holds everything that is sealed.
    secrets.c.ciphertext.is_not(None),
    secrets.c.shred_by > MOMENT,
)
KEEP_UNTIL = update(secrets).where(secrets.c.id == THIS).values(shred_by=bindparam("shred_by", type_=BigInteger))
STILL_SEALED = (
    select(*SEALED)
    .where(secrets.c.job.in_(ITS_FAMILY), secrets.c.ciphertext.is_not(None), secrets.c.shred_by > MOMENT)
    .order_by(secrets.c.created_at, secrets.c.id)
)
# NULL in words that no index knows: what was not begun and has not ended is nearly all that there is.
NOT_BEGUN, NOT_ENDED = func.coalesce(rechecks.c.job, "") == "", func.coalesce(rechecks.c.ended_at, 0) == 0
STOP = update(rechecks).where(rechecks.c.credential == THIS, NOT_BEGUN, NOT_ENDED).values(found=Found.STOPPED)


@dataclass(frozen=True, slots=True)
class Recheck:
    """A row of `rechecks`."""

    credential: str
    number: int
    kind: Kind
    after: str
    due: int
    lapsed_at: int | None
    incident: str | None
    job: str | None
    opened_at: int | None
    found: Found | None
    ended_at: int | None


@dataclass(frozen=True, slots=True)
class Watch:
    """What follows a job's end: the series, when the end lapses, and until when secrets of some kinds stay sealed."""

    series: tuple[Due, ...] = ()
    lapsed_at: int | None = None
    kinds: frozenset[str] = frozenset()
    until: int = 0
    within: int = 0  # how long after its sealing a secret may be kept at all

    @property
    def told(self) -> list[dict[str, Any]]:
        """How the trail tells it."""
        return [{"kind": due.kind, "due": due.at} for due in self.series]

    def begin(self, conn: Connection, at: int, *, job: Job) -> None:
        """Replace the credential's series by this one, and keep what its looks need. The credential is locked."""
        keeps = _to_keep(conn, job.credential, self, at)
        series = _adding(job.credential, self.series, job.id, self.lapsed_at)
        write(conn, *nothing_follows(job.credential, at), series)
        if keeps:
            conn.execute(KEEP_UNTIL, keeps)


# ── in the transaction that ends a job ────────────────────────────────────────────────────────────────────────────────


def nothing_follows(credential: str, at: int) -> tuple[Write, Write]:
    """End a credential's series, and have what its looks needed shredded; what an open job was given stays its own.

    The credential need not be locked: beside another end that goes on at the same moment, this one counts as the first.
    """
    return _releasing(credential, at), _stopping(credential, at)


def end_look(conn: Connection, at: int, *, job: Job, found: Found) -> None:
    """Write down what a look came to. What came back is looked at no further, and what lapsed is due to be repeated.

    The credential is locked.
    """
    asked = select(rechecks).where(rechecks.c.job == job.id, rechecks.c.kind == Kind.LOOK)
    rows = conn.execute(asked.order_by(rechecks.c.number)).mappings().all()
    open_ones = and_(rechecks.c.job == job.id, rechecks.c.ended_at.is_(None))
    conn.execute(update(rechecks).where(open_ones).values(found=found, ended_at=at))
    if found is Found.CAME_BACK:
        _stop(conn, job.credential, at)
        latest = recheck_of(rows[-1]) if rows else None
        if latest is not None and latest.lapsed_at is not None and latest.lapsed_at <= at:
            again = [Due(Kind.AGAIN, at)]
            write(conn, _adding(job.credential, again, latest.after, latest.lapsed_at, incident=job.id))
    elif not _is_watched(conn, job.credential):
        # The last look was taken.
        conn.execute(*_releasing(job.credential, at))


def _to_keep(conn: Connection, credential: str, watch: Watch, at: int) -> list[dict[str, Any]]:
    """The newest secret of each kind that a look needs, and until when: never longer than it may be kept at all."""
    if not watch.kinds:
        return []
    needed = reads.newest(row for row in _sealed(conn, credential, at) if row.kind in watch.kinds)
    return [{"this": row.id, "shred_by": min(watch.until, row.created_at + watch.within)} for row in needed]


def _releasing(credential: str, at: int) -> Write:
    return Write(RELEASE, {"this": credential, "moment": at, "shred_by": at})


def _stopping(credential: str, at: int) -> Write:
    """End the rows of a credential for which no job was started."""
    return Write(STOP, {"this": credential, "ended_at": at})


def _stop(conn: Connection, credential: str, at: int) -> None:
    conn.execute(*_stopping(credential, at))


def _adding(
    credential: str, series: Sequence[Due], after: str, lapsed_at: int | None, *, incident: str | None = None
) -> Write:
    """Add rows to a credential's, numbered on; no two may do so at once."""
    common = {"this": credential, "after": after, "lapsed_at": lapsed_at, "incident": incident}
    kinds = {f"kind_{place}": due.kind for place, due in enumerate(series)}
    return Write(_add(len(series)), {**common, **kinds, **{f"due_{place}": due.at for place, due in enumerate(series)}})


@cache
def _add(number: int) -> Insert:
    """The statement that adds so many rows, in one piece: each would see those before it on one database alone."""
    highest = select(func.coalesce(func.max(rechecks.c.number), 0)).where(rechecks.c.credential == THIS)
    rows = (
        select(
            THIS,
            highest.scalar_subquery() + literal(place + 1),
            bindparam(f"kind_{place}", type_=String),
            bindparam("after", type_=String),
            bindparam(f"due_{place}", type_=BigInteger),
            bindparam("lapsed_at", type_=BigInteger),
            bindparam("incident", type_=String),
        )
        for place in range(number)
    )
    names = ["credential", "number", "kind", "after", "due", "lapsed_at", "incident"]
    return insert(rechecks).from_select(names, union_all(*rows))


def _is_watched(conn: Connection, credential: str) -> bool:
    return conn.scalar(select(exists().where(rechecks.c.credential == credential, NOT_ENDED))) is True


# ── the clock's ───────────────────────────────────────────────────────────────────────────────────────────────────────


def due(db: Database, limit: int) -> list[Recheck]:
    """What is due and has no job yet, the oldest first; a credential that another job is at work on is left alone."""
    busy = exists().where(
        jobs.c.credential == rechecks.c.credential,
        jobs.c.intent.in_(sorted(AT_WORK)),
        jobs.c.state.in_(sorted(OPEN - {State.PARKED})),
    )
    open_ones = and_(rechecks.c.ended_at.is_(None), rechecks.c.job.is_(None), rechecks.c.due <= db.now())
    query = select(rechecks).where(open_ones, ~busy).order_by(rechecks.c.due, rechecks.c.credential, rechecks.c.number)
    with db.read() as conn:
        return [recheck_of(row) for row in conn.execute(query.limit(limit)).mappings()]


class _TakenError(Exception):
    """The other clock was there first: nothing of this transaction is kept."""


def look(db: Database, recheck: Recheck, new: NewJob) -> str | None:
    """Start the job of a look; or drive the open incident of the credential on. None where the other clock did."""
    try:
        with db.begin() as conn:
            submitted = moves.submit_within(db, conn, new)
            if submitted.joined:
                moves.look_on(db, conn, submitted.job_id, actor=new.requester, why=new.cause or "")
            _take(conn, recheck, job=submitted.job_id, opened_at=db.now())
            return submitted.job_id
    except _TakenError:
        return None


def again(
    db: Database, recheck: Recheck, new: NewJob, incident: NewJob, why_not: Callable[[Past], str | None]
) -> str | None:
    """Revoke it again, or, where something speaks against that, leave it to a person: as an incident, never in silence.

    `why_not` decides. None where the other clock was there first.
    """
    try:
        with db.begin() as conn:
            lock(conn, Lock.AGAIN)
            at = db.now()
            refusal = why_not(_past(conn, recheck, new.connection, at))
            if refusal is None:
                submitted = moves.submit_within(db, conn, new)
                # Where it was joined, a revocation of this credential is parked, and waits for a person already.
                found = Found.LEFT if submitted.joined else Found.REPEATED
                _take(conn, recheck, job=submitted.job_id, opened_at=at, found=found, ended_at=at)
                return submitted.job_id
            job = recheck.incident or _open_incident(db, conn, incident, refusal)
            if recheck.incident is not None:
                moves.tell(conn, job, at, "left", says=f"it works again, and was not revoked again: {refusal}")
            _take(conn, recheck, job=job, opened_at=at, found=Found.LEFT, ended_at=at)
            return job
    except _TakenError:
        return None


def _open_incident(db: Database, conn: Connection, incident: NewJob, refusal: str) -> str:
    options = {**incident.options, "forgotten": refusal}
    return moves.submit_within(db, conn, replace(incident, options=options)).job_id


def _take(conn: Connection, recheck: Recheck, **values: Any) -> None:
    """Mark the row, unless that was done meanwhile. The job is locked already: that is the order of locks."""
    mine = and_(rechecks.c.credential == recheck.credential, rechecks.c.number == recheck.number)
    free = and_(mine, rechecks.c.job.is_(None), rechecks.c.ended_at.is_(None))
    if conn.execute(update(rechecks).where(free).values(**values)).rowcount == 0:
        raise _TakenError


def _past(conn: Connection, recheck: Recheck, connection: str, at: int) -> Past:
    """What has happened since the end that is watched, and how often the clock has revoked within a day."""
    ended = select(jobs.c.ended_at).where(jobs.c.id == recheck.after).scalar_subquery()
    since = and_(jobs.c.credential == recheck.credential, jobs.c.first_seen >= ended)
    restored = exists().where(since, jobs.c.intent == Intent.RESTORE)
    rotated = exists().where(
        jobs.c.credential == recheck.credential,
        jobs.c.intent == Intent.ROTATE,
        jobs.c.verdict == Verdict.ROTATED,
        jobs.c.ended_at >= ended,
    )
    lately = and_(rechecks.c.found == Found.REPEATED, rechecks.c.opened_at > at - DAY)
    repeated = select(func.count()).select_from(rechecks.join(credentials)).where(lately)
    return Past(
        restored=conn.scalar(select(restored)) is True,
        rotated=conn.scalar(select(rotated)) is True,
        of_credential=conn.scalar(repeated.where(rechecks.c.credential == recheck.credential)) or 0,
        of_connection=conn.scalar(repeated.where(credentials.c.connection == connection)) or 0,
    )


# ── a person's ────────────────────────────────────────────────────────────────────────────────────────────────────────


def reopen(db: Database, ended: Job, new: NewJob, why: str) -> Submitted:
    """Order the restoration of what a job has ended, tell it on both trails, and look at the credential no more."""
    with db.begin() as conn:
        submitted = moves.submit_within(db, conn, new)
        at = db.now()
        facts = {"actor": new.requester, "why": moves.plain(why), "restored_by": submitted.job_id}
        moves.tell(conn, ended.id, at, "restoration ordered", **facts)
        _stop(conn, ended.credential, at)
    return submitted


# ── reading ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def of_job(db: Database, job: str) -> list[Recheck]:
    """The looks after a job's end."""
    return _read(db, rechecks.c.after == job)


def of_credential(db: Database, credential: str) -> list[Recheck]:
    """All looks at a credential, of every series."""
    return _read(db, rechecks.c.credential == credential)


def kept_secrets(db: Database, credential: str) -> list[SealedSecret]:
    """The newest secret of each kind that was handed in for a credential, or found, and is still sealed."""
    with db.read(once=True) as conn:
        return reads.newest(_sealed(conn, credential, db.now()))


def _sealed(conn: Connection, credential: str, at: int) -> list[SealedSecret]:
    return [SealedSecret(**row) for row in conn.execute(STILL_SEALED, {"this": credential, "moment": at}).mappings()]


def _read(db: Database, which: Any) -> list[Recheck]:
    query = select(rechecks).where(which).order_by(rechecks.c.credential, rechecks.c.number)
    with db.read(once=True) as conn:
        return [recheck_of(row) for row in conn.execute(query).mappings()]


def recheck_of(row: RowMapping) -> Recheck:
    """A row with its words as what they are."""
    values: dict[str, Any] = {str(name): value for name, value in row.items()}
    values["kind"] = Kind(values["kind"])
    values["found"] = Found(values["found"]) if values["found"] is not None else None
    return Recheck(**values)
