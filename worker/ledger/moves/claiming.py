"""How a worker takes a job that is due; what it may do with the job after that is in `carrying`."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from sqlalchemy import Connection

from rules.lifecycle import State, StepState
from worker.ledger import audit, counters, reads
from worker.ledger import statements as sql
from worker.ledger.counters import Counter
from worker.ledger.database import Database
from worker.ledger.moves.pieces import head_columns, head_of, micros, permit
from worker.ledger.rows import LOST, Claim
from worker.ledger.together import Write, change


def claim(db: Database, job_id: str, *, lease: float, worker: str) -> Claim | None:
    """Take a job that is due, or None: it is not due, its batch is closed, or somebody else has it.

    Steps whose answer was never written down become `lost` here: whoever left them is gone.
    """
    with db.single() as conn:
        taken = _claim(db, conn, job_id, lease, worker, trial=False)
    if taken is not None:
        return taken
    # It may be the one job with which an account is tried again that was left alone.
    with db.begin() as conn:
        at = db.now()
        account = conn.scalar(sql.TRY_ACCOUNT, {"this": job_id, "moment": at, "trial_until": at + micros(lease)})
        if account is None:
            return None
        taken = _claim(db, conn, job_id, lease, worker, trial=True)
        if taken is None:
            conn.execute(sql.GIVE_TRIAL_BACK, {"this": account, "moment": at})
    return taken


def _claim(db: Database, conn: Connection, job_id: str, lease: float, worker: str, *, trial: bool) -> Claim | None:
    """Read the job, and take it as it was read; of two that come at once, the second finds that it is due no more."""
    find, take = (sql.TRIAL_JOB, sql.TAKE_TRIAL) if trial else (sql.DUE_JOB, sql.TAKE)
    while True:
        at = db.now()
        due = {"this": job_id, "moment": at}
        rows = conn.execute(find, due).all()
        if not rows:
            return None
        job, found, troubled = reads.claimable(conn, rows)
        permit(job.state, State.RUNNING)
        taken_over = job.state is State.RUNNING
        lost = tuple(step.number for step in found.steps if step.state is StepState.INTENDED)
        changes: dict[str, Any] = {
            "state": State.RUNNING,
            "fence": job.fence + 1,
            "lease_until": at + micros(lease),
            "attempt": job.attempt + taken_over,
            "reason": None,
            "says": None,
        }
        told = audit.entry(
            head_of(job),
            job=job.id,
            at=at,
            event=f"{job.state}→{State.RUNNING}",
            actor=worker,
            fence=job.fence + 1,
            lost=lost or None,
        )
        rest = [audit.writing(told)]
        if lost:
            found = replace(found, steps=[step.lose(at) if step.number in lost else step for step in found.steps])
            rest.append(Write(sql.LOSE_STEPS, {"this": job.id, **LOST, "ended_at": at}))
        if taken_over:
            rest.append(counters.counting(conn.dialect.name, Counter.WORKERS_LOST, 1))
        if change(conn, Write(take, {**due, "my_head": job.audit_number, **changes, **head_columns(told)}), *rest):
            break
    until = at + micros(lease)
    job = replace(job, **changes, **head_columns(told))
    last = found.steps[-1].number if found.steps else 0
    return Claim(job, found, worker, lease, job.fence, until, told.head, last, lost, trial or troubled, trial)
