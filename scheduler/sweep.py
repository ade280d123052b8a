"""Jobs that were lost, waits that are over, secrets that are past their date; rings and shreds, and carries nothing."""

from __future__ import annotations

import structlog

from scheduler.bell import BrokerDown, ring, waiting
from worker.app import BULK
from worker.ledger import audit, batches, moves
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
    """Fold audit rows that are not sealed yet into the one sequence."""
    with runtime.database.begin() as connection:
        return audit.fold(connection, SEALED_AT_ONCE, runtime.database.now())
