"""Jobs that were lost, waits that are over, secrets past their date, rows to seal; rings, shreds and seals, no more."""

from __future__ import annotations

import threading

import structlog
from sqlalchemy.exc import SQLAlchemyError

from scheduler.bell import BrokerDown, ring, waiting
from worker import delivery, restored
from worker.app import BULK
from worker.ledger import audit, batches, heads, moves
from worker.runtime import Runtime

log = structlog.get_logger(__name__)

AT_ONCE = 500
"""Jobs that one sweep rings: more would flood the broker, and the next sweep comes in seconds."""
WINDOW = 500
"""Jobs of one batch that are rung and unfinished at a time: an emptied broker loses no more bells than these."""
QUEUED = 10
"""As many times longer a batch's bell is waited for while messages wait in its queue."""
SHREDDED_AT_ONCE = 1000
SEALED_AT_ONCE = 5000
delivering = threading.Lock()


def sweep(runtime: Runtime) -> int:
    """Ring what is due and was not rung, or whose worker is gone. Says how many bells were rung."""
    failures = runtime.settings.batch_limits.failures
    for batch in batches.stop_failing(runtime.database, failures) if failures is not None else ():
        log.error("batch_stopped", batch=batch)
    after, limits, share = runtime.settings.ring_after, runtime.limits, runtime.settings.incident_share
    bells = moves.ring_due(runtime.database, AT_ONCE, after, limits, share)
    # A message that may still lie in the queue is not lost: to ring again would only make the queue longer.
    patience = after * QUEUED if waiting(BULK) else after
    bells += batches.ring_due(runtime.database, WINDOW, patience, limits, share)
    batches.end_finished(runtime.database)
    if not bells:
        return 0
    try:
        ring(bells)
    except BrokerDown as error:
        # They count as rung, and are rung again after `ring_after`: slower, and never lost.
        log.warning("not_rung", jobs=len(bells), why=str(error))
        return 0
    log.info("swept", rung=len(bells))
    return len(bells)


def shred(runtime: Runtime) -> int:
    """Destroy the secrets whose date has passed."""
    count = moves.shred(runtime.database, SHREDDED_AT_ONCE)
    if count:
        log.info("shredded", secrets=count)
    return count


def seal(runtime: Runtime) -> int:
    """Fold audit rows that are not sealed yet into the one sequence, and sign how far it reaches.

    What a restored ledger would sign now could be taken for what it has signed before: it has to be reconciled first.
    """
    db = runtime.database
    with db.begin() as connection:
        count = audit.fold(connection, SEALED_AT_ONCE, db.now())
    signers = runtime.signers
    if signers and not restored.hold_if_behind(runtime.settings, db):
        with db.begin() as connection:
            heads.sign(connection, signers, db.now())
    return count


def deliver(runtime: Runtime) -> bool:
    """Bring new heads to the audit sinks, in a thread: a sink that hangs must not keep the clock from ringing.

    False where the thread of an earlier tick is still at it.
    """
    if not runtime.settings.audit_sinks or not delivering.acquire(blocking=False):
        return False
    threading.Thread(target=_deliver, args=(runtime,), daemon=True).start()
    return True


def _deliver(runtime: Runtime) -> None:
    try:
        delivery.deliver(runtime.settings, runtime.database)
    except SQLAlchemyError as error:
        log.warning("not_delivered", why=type(error).__name__)
    finally:
        delivering.release()
