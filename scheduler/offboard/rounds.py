"""Subjects of open batches, round after round: list, end, and list again until nothing is new; the account comes last.

How far each is stands in the ledger, which also sees to it that of two clocks one lists. A list that cannot be read is
tried again for a day.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import structlog

from rules.errors import RevoqError
from rules.leaving import MOST_ROUNDS, NEXT, Turn
from rules.units import SECOND
from scheduler.offboard.subjects import Their, Theirs, find, has_account, recall, residue
from scheduler.submit import check, new_job
from worker.ledger import batches, leavers
from worker.ledger.leavers import Leaver
from worker.ledger.rows import NewJob
from worker.runtime import Runtime

log = structlog.get_logger(__name__)

AT_ONCE = 100
PATIENCE = 10.0
"""Seconds that one tick takes at most, since the sweep comes behind it; the next tick goes on."""
TAKEN_FOR = 120 * SECOND
"""After this a look whose clock died over it is done by whoever comes next."""
LOOK_EVERY = 2 * SECOND
TRIED_FOR = 24 * 3600 * SECOND
AFTER_TROUBLE = 60 * SECOND
PRIORITY = 7


def advance(runtime: Runtime, batch: str | None = None, *, patience: float = PATIENCE) -> int:
    """Take everybody who is due a step further; how many jobs were opened."""
    until, opened = time.monotonic() + patience, 0
    for leaver in leavers.due(runtime.database, AT_ONCE, batch):
        if time.monotonic() > until:
            break
        now = runtime.database.now()
        if leavers.take(runtime.database, leaver, now + TAKEN_FOR):
            opened += _advance(runtime, leaver)
    return opened


def _advance(runtime: Runtime, leaver: Leaver) -> int:
    """One turn after the other, as far as there is nothing to wait for."""
    database, opened = runtime.database, 0
    try:
        while leaver.turn in NEXT:
            under_way, parked = leavers.standing(database, leaver)
            if under_way or (parked and leaver.turn is Turn.LAST and has_account(runtime, leaver)):
                leavers.save(database, leaver, look_at=database.now() + LOOK_EVERY)
                return opened
            leaver, count = _look(runtime, leaver)
            opened += count
    except RevoqError as error:
        _put_off(runtime, leaver, str(error))
    return opened


def _look(runtime: Runtime, leaver: Leaver) -> tuple[Leaver, int]:
    """List once: end what is new, or go on to the next turn where nothing is."""
    database = runtime.database
    theirs = find(runtime, leaver, leaver.turn)
    learned: dict[str, Any] = {"residual": residue(runtime, leaver), "says": theirs.says or leaver.says}
    if theirs.owned:
        learned["owned"] = theirs.owned
    meant = theirs.credentials
    if (planned := leaver.terms.get("planned")) is not None:
        learned["unplanned"] = [*leaver.unplanned, *(each.row for each in _beyond(leaver, planned, meant))]
        meant = [recall(runtime, leaver, each) for each in planned if each["turn"] == leaver.turn]
    known = {(each["rule"], each["id"]) for each in leaver.known}
    new = [each for each in meant if (each.rule, each.id) not in known]
    if not new:
        return _save(database, leaver, **learned, turn=NEXT[leaver.turn], round=0), 0
    if leaver.round >= MOST_ROUNDS:
        says = (
            f"{len(new)} more were there after {MOST_ROUNDS} rounds: keep {leaver.subject} from making new ones first"
        )
        return _save(database, leaver, **{**learned, "says": [*learned["says"], says]}, turn=Turn.STUCK), 0
    opened = _stage(runtime, leaver.batch, new)
    learned["known"] = [*leaver.known, *(each.row for each in new)]
    return _save(database, leaver, **learned, round=leaver.round + 1), opened


def _beyond(leaver: Leaver, planned: Sequence[Mapping[str, Any]], listed: Sequence[Their]) -> list[Their]:
    """What is listed now and was in no plan."""
    told = {(each["rule"], each["id"]) for each in (*planned, *leaver.unplanned)}
    return [each for each in listed if (each.rule, each.id) not in told]


def _stage(runtime: Runtime, batch: str, new: Sequence[Their]) -> int:
    return batches.stage(runtime.database, batch, [job_for(runtime, each) for each in new]).opened


def job_for(runtime: Runtime, their: Their) -> NewJob:
    """The row of a job for one credential of a subject."""
    made = new_job(runtime, check(runtime, their.order))
    return replace(made, priority=PRIORITY, provider_id=their.id)


def _save(database: Any, leaver: Leaver, **changes: Any) -> Leaver:
    leavers.save(database, leaver, **changes)
    return replace(leaver, **changes)


def _put_off(runtime: Runtime, leaver: Leaver, says: str) -> None:
    """It could not be listed, or the batch was paused just now: say so, and come again."""
    database = runtime.database
    log.warning("not_listed", batch=leaver.batch, connection=leaver.connection, why=says)
    batch = batches.find(database, leaver.batch)
    told = [*(each for each in leaver.says if each != says), says]
    late = database.now() > (batch.opened_at or batch.created_at) + TRIED_FOR
    leavers.save(
        database,
        leaver,
        says=told,
        look_at=database.now() + AFTER_TROUBLE,
        **({"turn": Turn.STUCK} if late else {}),
    )


def preview(runtime: Runtime, leaver: Leaver) -> tuple[list[Their], Theirs]:
    """All that would be ended now, in the order of its turns, and everything else that was found."""
    found, ordered = Theirs(), []
    for turn in NEXT:
        theirs = find(runtime, leaver, turn)
        ordered += theirs.credentials
        found.owned += theirs.owned
        found.says += theirs.says
    return ordered, found
