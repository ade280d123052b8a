"""Notices out of the outbox, to those who want them; what fails is tried again for as long as the settings say.

A message is sent at least once, and twice where the clock died between sending it and writing that down. Nothing here
changes a job: whoever cannot be told holds nobody up.
"""

from __future__ import annotations

import random
import time
from collections.abc import Mapping

import structlog

from rules.decision import backoff
from rules.notice import Event
from rules.units import SECOND
from scheduler.schedules import list_overdue, listed_keys
from worker.errors import ConnectionUnusable
from worker.ledger import figures
from worker.ledger import notices as outbox
from worker.ledger.notices import Letter
from worker.runtime import Runtime
from worker.settings import Settings, read_address
from worker.telling import send

log = structlog.get_logger(__name__)

DIGEST_AFTER = 900 * SECOND
"""What happens in a batch that is at work is told after this at the latest, and else when it rests."""
SENDING = 10.0
"""Seconds of the clock's time that one round may take, but for the message that it is at."""
SHORTEST = 5.0
"""Seconds for which a receiver is left alone at least."""
LEASE = 120 * SECOND
"""After this somebody else may send a message, since whoever took it is gone."""
AUDIT_LATE = 600 * SECOND
"""A row of the audit trail that has waited for its seal for longer than this is worth waking somebody."""


def tell(runtime: Runtime) -> int:
    """Make messages of what has happened, and send what is due; how many were sent."""
    wanted = receivers(runtime.settings)
    outbox.compose_due(runtime.database, wanted, DIGEST_AFTER)
    until = time.monotonic() + SENDING
    sent = 0
    while time.monotonic() < until and (letter := outbox.take(runtime.database, LEASE)) is not None:
        sent += deliver(runtime, letter, wanted)
    return sent


def receivers(settings: Settings) -> dict[str, frozenset[Event]]:
    """Who is told of what; two routes to one receiver are one."""
    wanted: dict[str, frozenset[Event]] = {}
    for route in settings.notices:
        wanted[route.to] = wanted.get(route.to, frozenset()) | route.wants
    return wanted


def deliver(runtime: Runtime, letter: Letter, wanted: Mapping[str, frozenset[Event]]) -> bool:
    """Send one message; where that fails, its receiver is left alone for a while, and in the end given up."""
    database = runtime.database
    about = {"message": letter.id, "to": letter.receiver, "tries": letter.tries}
    known = letter.receiver in wanted
    why = attempt(letter) if known else "the settings do not name its receiver any more"
    if why is None:
        outbox.end(database, letter, sent=True)
        log.info("notice_sent", **about)
        return True
    if known and database.now() - letter.created_at <= runtime.settings.retry_for * SECOND:
        pause = max(backoff(letter.tries, random.random()), SHORTEST)  # noqa: S311 - jitter
        outbox.put_off(database, letter.receiver, database.now() + int(pause * SECOND))
        log.warning("notice_not_sent", why=why, again_in=round(pause), **about)
        return False
    outbox.end(database, letter, sent=False)
    log.error("notice_given_up", why=why, **about)
    return False


def attempt(letter: Letter) -> str | None:
    """Why it could not be sent, or None."""
    try:
        return send(read_address(letter.receiver), letter.message)
    except ConnectionUnusable as error:
        return str(error)


def watch(runtime: Runtime) -> None:
    """Write down what becomes late without anybody moving: keys that are too old, and rows without a seal."""
    database, now = runtime.database, runtime.database.now()
    for schedule in runtime.settings.schedules.values():
        for row in list_overdue(schedule, listed_keys(database, schedule), {}, now):
            # Which target it is stays in the ledger: a key may be named like its person.
            facts = {"schedule": schedule.name, "rule": schedule.rule, "connection": schedule.connection}
            with database.begin() as conn:
                key = f"{schedule.name}:{row.born}:{row.target}"[: outbox.LONGEST_KEY]
                outbox.note(conn, now, Event.ROTATION_OVERDUE, key, facts, about=f"schedule {schedule.name}")
    with database.begin() as conn:
        oldest = figures.oldest_unsealed(conn)
        if oldest is not None and now - oldest.at > AUDIT_LATE:
            says = f"a row has waited for its seal for {(now - oldest.at) // SECOND} seconds: revoq doctor"
            outbox.note(conn, now, Event.AUDIT_HEAD_LATE, f"{oldest.job}:{oldest.number}", {}, says=says)
