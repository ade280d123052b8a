"""Dead credentials, looked at again: starts a job for each look that is due, and revokes again what has lapsed.

What is due is read from the ledger, which also sees to it that of two clocks one starts it. Carrying a look out is a
worker's; whether a revocation may be repeated without asking, `rules.recheck`'s.
"""

from __future__ import annotations

from functools import partial

import structlog

from rules.errors import RevoqError
from rules.lifecycle import Intent
from rules.recheck import Kind, Past, refuse_again
from scheduler.follow import follow, follow_by_look
from scheduler.submit import ring_jobs
from worker.app import BULK, URGENT
from worker.ledger import reads, rechecks
from worker.ledger.rechecks import Recheck
from worker.ledger.rows import Job, NewJob
from worker.runtime import Runtime

log = structlog.get_logger(__name__)

CLOCK = "revoq's clock"
AT_ONCE = 200
"""What one tick starts; the next comes in seconds."""


def look_again(runtime: Runtime) -> int:
    """Start what is due and ring; how many jobs that were."""
    started = start_due(runtime)
    if started:
        ring_jobs(runtime, started)
    return len(started)


def start_due(runtime: Runtime) -> list[str]:
    """Commit a job for everything that is due; their ids."""
    started = []
    for recheck in rechecks.due(runtime.database, AT_ONCE):
        job = start(runtime, recheck)
        if job is not None:
            started.append(job)
            log.info("recheck_started", kind=recheck.kind.value, job=job, after=recheck.after)
    return started


def start(runtime: Runtime, recheck: Recheck) -> str | None:
    """Start one, or None where the other clock was there first."""
    ended = reads.job(runtime.database, recheck.after)
    look = follow_by_look(runtime, ended, requester=CLOCK, cause=f"a look at what {ended.id} ended")
    if recheck.kind is Kind.LOOK:
        return rechecks.look(runtime.database, recheck, look)
    repetition, refusal = _repeat(runtime, recheck, ended)
    why_not = partial(_why_not, runtime, refusal)
    return rechecks.again(runtime.database, recheck, repetition or look, look, why_not)


def _repeat(runtime: Runtime, recheck: Recheck, ended: Job) -> tuple[NewJob | None, str | None]:
    """The revocation that is to be repeated, or why there is none."""
    found = recheck.incident is not None
    cause = f"{'it works again: ' if found else ''}the provider has forgotten what {ended.id} did"
    try:
        return (
            follow(
                runtime,
                ended,
                Intent.REVOKE,
                requester=CLOCK,
                cause=cause,
                queue=URGENT if found else BULK,
                parent=recheck.incident,
            ),
            None,
        )
    except RevoqError as error:
        return None, str(error)


def _why_not(runtime: Runtime, refusal: str | None, past: Past) -> str | None:
    settings = runtime.settings
    return refusal or refuse_again(
        past, per_credential=settings.again_per_credential, per_connection=settings.again_per_connection
    )
