"""The Celery doors, one for each intent and three lines each: a job id comes in, and nothing goes out.

In Flower a job that waits shows as RETRY and a parked one as FAILURE with its reason, because that is what they are to
an operator; no message is sent again by either, since the ledger holds what is due.
"""

from __future__ import annotations

import socket
import sys
import threading
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from celery.exceptions import Retry
from celery.signals import celeryd_after_setup, worker_init, worker_shutting_down

from rules.decision import Decision, Park, Wait
from rules.errors import RevoqError
from rules.lifecycle import Intent, Reason, State
from rules.secret import Secret
from rules.units import SECOND
from worker.app import BULK, ROTATION, URGENT, app
from worker.engine import carry
from worker.errors import UnknownJob
from worker.ledger import reads
from worker.ledger.database import Database
from worker.runtime import runtime, step_back, stop
from worker.safe import ONLY_SEALS, Ring, Safe
from worker.settings import settings

if TYPE_CHECKING:
    from celery.apps.worker import Worker


class Parked(Exception):
    """A job needs a person; the text is its reason and sentence, which never hold a secret."""


@app.task(name=Intent.REVOKE.value, throws=(Parked,))
def revoke(job_id: str) -> None:
    """Revoke one credential."""
    _work(job_id)


@app.task(name=Intent.PROBE.value, throws=(Parked,))
def probe(job_id: str) -> None:
    """Look whether one credential works."""
    _work(job_id)


@app.task(name=Intent.ROTATE.value, throws=(Parked,))
def rotate(job_id: str) -> None:
    """Replace the key of one target."""
    _work(job_id)


@app.task(name=Intent.ISSUE.value, throws=(Parked,))
def issue(job_id: str) -> None:
    """Make a new key, straight into its sinks."""
    _work(job_id)


@app.task(name=Intent.RESTORE.value, throws=(Parked,))
def restore(job_id: str) -> None:
    """Enable one credential again that was only disabled."""
    _work(job_id)


@app.task(name=Intent.RECHECK.value, throws=(Parked,))
def recheck(job_id: str) -> None:
    """Look whether one credential that was ended has come back."""
    _work(job_id)


@worker_init.connect
def _need_keys(**_options: object) -> None:
    """A worker that can open nothing would take jobs and fail each of them."""
    try:
        opens = Safe(Ring.parse(settings().seal_keys or Secret(""))).opens
    except RevoqError as error:
        sys.exit(f"revoq: {error}")
    if not opens:
        sys.exit(f"revoq: {ONLY_SEALS}: a worker needs the one that revoq keys generate has made")


@celeryd_after_setup.connect
def _leave_the_processor(instance: Worker, **_options: object) -> None:
    """A worker of bulk alone steps back behind those that take incidents; its threads, begun after this, do as well."""
    queues = set(instance.app.amqp.queues.consume_from)
    if queues & {BULK, ROTATION} and URGENT not in queues:
        step_back()


@worker_shutting_down.connect
def _stop(**_options: object) -> None:
    """Celery was told to end: jobs that are under way go back after their present step, instead of to their end."""
    # Not here, inside a signal handler: it may have interrupted a thread that holds the event's own lock.
    threading.Thread(target=stop, name="stop").start()


def _work(job_id: str) -> None:
    """Carry the job as far as it goes, and show how it stands then."""
    decision = carry(runtime(), job_id, _worker())
    show(standing(runtime().database, job_id) if decision is None else decision)


def standing(db: Database, job_id: str) -> Decision | None:
    """What a bell that came too late shows: how the job was left by who heard the one before; None where it is over."""
    try:
        job = reads.job(db, job_id)
    except UnknownJob:
        return None
    match job.state:
        case State.PARKED if job.reason is not None:
            return Park(Reason(job.reason), job.says or "")
        case State.WAITING:
            return Wait(job.not_before, job.says or "")
        case _:
            return None


def show(decision: Decision | None) -> None:
    """Tell Celery's events how the job stands."""
    if isinstance(decision, Park):
        raise Parked(f"{decision.reason.value}: {decision.says}")
    if isinstance(decision, Wait):
        raise Retry(decision.why, when=datetime.fromtimestamp(decision.until / SECOND, UTC))


def _worker() -> str:
    return f"{socket.gethostname()}/{threading.get_ident()}"
