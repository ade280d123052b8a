"""A person's moves: to drive a job again, to turn a rotation round, to cancel; and what is told on a job's chain."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection, select

from rules.errors import BadInput, MoveRefused
from rules.lifecycle import FORCIBLE, MOVES, Outcome, Reason, State
from rules.plan import Purpose
from worker.ledger import audit
from worker.ledger import statements as sql
from worker.ledger.database import Database
from worker.ledger.moves.pieces import head_columns, head_of, locked, permit, plain
from worker.ledger.moves.sealed import hasten
from worker.ledger.rows import Job
from worker.ledger.tables import steps

BACK = "goes_back"
"""The option of a rotation that a person turned round."""


def retry(db: Database, job_id: str, *, actor: str, why: str, picked: str | None = None) -> None:
    """parked→queued: drive it again, from the start; `picked` is the candidate's id that a person chose."""
    with db.begin() as conn:
        job = locked(conn, job_id)
        if job.state is not State.PARKED:
            raise MoveRefused(f"{job.id} is {job.state}: only a parked job can be driven again")
        if picked is not None:
            _check_pick(job, picked)
        options = {} if picked is None else {"picked": picked}
        _drive_again(conn, job, db.now(), actor, why, options)


def force(db: Database, job_id: str, *, actor: str, why: str) -> Reason:
    """parked→queued: drive it again, for this once past the guard that has parked it; which one that is."""
    with db.begin() as conn:
        job = locked(conn, job_id)
        if job.state is not State.PARKED or job.reason not in FORCIBLE:
            stands = f"{job.state} ({job.reason})" if job.reason else job.state
            known = " or ".join(sorted(FORCIBLE))
            raise MoveRefused(f"{job.id} is {stands}: only what is parked as {known} can be forced")
        _drive_again(conn, job, db.now(), actor, why, {"forced": job.reason})
        return Reason(job.reason)


def look_on(db: Database, conn: Connection, job_id: str, *, actor: str, why: str) -> None:
    """Drive a job that is open again for another look, where it is parked: the answer that is awaited stays awaited."""
    job = locked(conn, job_id)
    if job.state is State.PARKED:
        _drive_again(conn, job, db.now(), actor, why, {"watched": job.drive + 1})


def tell(conn: Connection, job_id: str, at: int, event: str, *, says: str | None = None, **facts: Any) -> None:
    """Add to a job's chain what concerns it and is no move of its own; `says` becomes its sentence."""
    job = locked(conn, job_id)
    changes = {} if says is None else {"says": plain(says)}
    told = audit.entry(head_of(job), job=job.id, at=at, event=event, **changes, **facts)
    conn.execute(sql.CHANGE_JOB, {"this": job.id, **changes, **head_columns(told)})
    audit.write(conn, told)


def _drive_again(conn: Connection, job: Job, at: int, actor: str, why: str, options: Mapping[str, Any]) -> None:
    kept = {name: value for name, value in job.options.items() if name not in {"picked", "moved", "forced"}}
    changes = _anew(job, at, {**kept, **options})
    chosen = {name: options.get(name) for name in ("picked", "forced")}
    facts = {"why": plain(why), **chosen, "drive": job.drive + 1, "was": job.reason}
    _step_in(conn, job, State.QUEUED, at, actor, changes, facts)


def _anew(job: Job, at: int, options: Mapping[str, Any]) -> dict[str, Any]:
    """What a job is like that begins another drive."""
    return {
        "options": dict(options),
        "drive": job.drive + 1,
        "attempt": 0,
        "not_before": at,
        "reason": None,
        "says": None,
        "candidates": None,
    }


def roll_back(db: Database, job_id: str, *, actor: str, why: str) -> None:
    """`waiting` or `parked`→`queued`: a rotation turns round, and puts the old key back, before that was retired."""
    with db.begin() as conn:
        at = db.now()
        job = locked(conn, job_id)
        if (job.state, State.QUEUED) not in MOVES or job.state is State.RUNNING:
            hint = "; it is under way: try again in a moment" if job.state is State.RUNNING else ""
            raise MoveRefused(f"{job.id} is {job.state} and cannot be turned back{hint}")
        _check_way_back(conn, job)
        changes = _anew(job, at, {**job.options, BACK: True})
        facts = {"why": plain(why), "drive": job.drive + 1, "was": job.reason, BACK: True}
        _step_in(conn, job, State.QUEUED, at, actor, changes, facts)


def _check_way_back(conn: Connection, job: Job) -> None:
    """There has to be a new key, an old one that nobody began to retire, and a plan that knows the way."""
    if not any(step["purpose"] == Purpose.PUT_BACK for step in job.plan.get("steps", ())):
        raise MoveRefused(f"{job.id} has no way back: its rule does not keep an old key that could be put back")
    taken = select(steps.c.purpose, steps.c.outcome).where(steps.c.job == job.id)
    done = [(row.purpose, row.outcome) for row in conn.execute(taken)]
    if any(purpose == Purpose.ACT for purpose, _ in done):
        raise MoveRefused(f"{job.id} has begun to retire the old key, so there is nothing to go back to")
    if not any(purpose in {Purpose.ISSUE, Purpose.GENERATE} and outcome == Outcome.OK for purpose, outcome in done):
        raise MoveRefused(f"{job.id} knows of no new key, so there is nothing to go back from")


def _check_pick(job: Job, picked: str) -> None:
    ids = [str(candidate.get("id")) for candidate in job.candidates or ()]
    if picked not in ids:
        known = "they are: " + ", ".join(ids) if ids else "there are none"
        raise BadInput(f"{picked!r} is not one of the candidates of {job.id}; {known}")


def cancel(db: Database, job_id: str, *, actor: str, why: str, shred_by: int | None = None) -> None:
    """queued, waiting or parked→cancelled, as long as nothing was changed at the provider."""
    with db.begin() as conn:
        cancel_within(conn, locked(conn, job_id), db.now(), actor=actor, why=why, shred_by=shred_by)


def cancel_within(conn: Connection, job: Job, at: int, *, actor: str, why: str, shred_by: int | None) -> None:
    """The same for a locked job, as a part of a larger transaction."""
    if job.acted:
        raise MoveRefused(
            f"{job.id} has sent a request that changes something, so it can no longer be cancelled; "
            f"`revoq jobs show {job.id}` tells what was done"
        )
    if (job.state, State.CANCELLED) not in MOVES:
        hint = "; a hold stops it before it changes anything: revoq hold on" if job.state is State.RUNNING else ""
        raise MoveRefused(f"{job.id} is {job.state} and cannot be cancelled{hint}")
    _step_in(conn, job, State.CANCELLED, at, actor, {"ended_at": at, "reason": None}, {"why": plain(why)})
    hasten(conn, job.id, shred_by)


def _step_in(
    conn: Connection,
    job: Job,
    after: State,
    at: int,
    actor: str,
    changes: Mapping[str, Any],
    facts: Mapping[str, Any],
) -> None:
    """Move a locked job for a person."""
    permit(job.state, after)
    told = audit.entry(head_of(job), job=job.id, at=at, event=f"{job.state}→{after}", actor=plain(actor), **facts)
    conn.execute(sql.CHANGE_JOB, {"this": job.id, "state": after, **changes, **head_columns(told)})
    audit.write(conn, told)
