"""A file into a batch, in two passes: all of it is checked, and then it is loaded in chunks behind a closed gate.

Memory stays the same however long the file is: of a row nothing is kept but counts. The file must be the same both
times, which its digest shows before the gate is opened.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import structlog

from rules.errors import BadInput, RevoqError
from scheduler.bell import BrokerDown, ring
from scheduler.offboard.formats import READERS, REPORTS, recognise
from scheduler.offboard.items import Mistake
from scheduler.offboard.orders import Asked, Clerk, Leaving, NoRule, Ready, Result
from scheduler.offboard.rounds import advance, preview
from scheduler.offboard.source import Source, Spoken
from scheduler.submit import new_job
from scheduler.sweep import WINDOW
from worker.ledger import batches, leavers
from worker.ledger.rows import NewJob
from worker.runtime import Runtime

log = structlog.get_logger(__name__)

CHUNK = 100
"""Rows of one transaction: an urgent job waits no longer than these take."""
TOLD = 100
"""Mistakes, files and kinds of findings that are told one by one; the others are counted."""
PRIORITY = 7
"""Behind every job that somebody asked for by itself."""

FIRST_ROUND = 60.0
"""Seconds after which the rest of the subjects is left to the clock."""

AnySource = Source | Spoken
Step = Callable[[int], None]


@dataclass
class Survey:
    """What checking a file found."""

    format: str
    digest: str = ""
    rows: int = 0
    mistakes: list[Mistake] = field(default_factory=list)
    wrong: int = 0
    without_rule: dict[tuple[str, str], list[str]] = field(default_factory=dict)
    counts: dict[tuple[str, str], int] = field(default_factory=dict)
    acting: Counter[tuple[str, str]] = field(default_factory=Counter)
    subjects: list[dict[str, Any]] = field(default_factory=list)
    bare: bool = False
    files: tuple[Path, ...] = ()

    @property
    def unmatched(self) -> int:
        """How many findings nothing here can deal with."""
        return sum(self.counts.values())

    def note(self, result: Result) -> None:
        """Count one more."""
        match result:
            case Ready():
                self.rows += 1
                self.acting[result.checked.order.connection, result.checked.order.rule] += 1
                self.bare = self.bare or result.bare
            case Leaving():
                self.rows += 1
            case Mistake():
                self.wrong += 1
                if len(self.mistakes) < TOLD:
                    self.mistakes.append(result)
            case NoRule(place, kind, where, says):
                key = (kind, says) if len(self.counts) < TOLD or (kind, says) in self.counts else ("", "of other kinds")
                self.counts[key] = self.counts.get(key, 0) + 1
                places = self.without_rule.setdefault(key, [])
                if len(places) < 3:
                    places.append(where or place)


@dataclass(frozen=True, slots=True)
class Loaded:
    """A batch that was opened, and what became of its rows; `rung` is False where the broker did not answer."""

    batch: str
    opened: int
    joined: int
    repeated: int
    rung: bool


def survey(runtime: Runtime, source: AnySource, asked: Asked, named: str | None, step: Step = lambda _: None) -> Survey:
    """The first pass: everything is read, resolved, matched and checked, and nothing is written."""
    found = Survey("subject" if isinstance(source, Spoken) else named or recognise(source))
    clerk = Clerk(runtime, asked, source.folder)
    for count, result in enumerate(results_of(clerk, source, found.format)):
        found.note(_look_at(runtime, result, found) if isinstance(result, Leaving) else result)
        step(count)
    found.digest = source.digest
    found.files = tuple(sorted(clerk.resolver.files))
    found.bare = found.bare or found.format in REPORTS
    return found


def _look_at(runtime: Runtime, leaving: Leaving, found: Survey) -> Result:
    """See that what a subject has can be listed, and how much it is."""
    leaver = leaving.leaver
    try:
        ordered, beside = preview(runtime, leaver)
    except RevoqError as error:
        return Mistake(leaving.place, f"{leaver.subject} at {leaver.connection}: {error}")
    found.acting.update((leaver.connection, each.rule) for each in ordered)
    found.subjects.append(
        {
            "connection": leaver.connection,
            "subject": leaver.subject,
            "found": len(ordered),
            "owned": beside.owned,
            "says": beside.says,
        }
    )
    return leaving


def load(runtime: Runtime, source: AnySource, asked: Asked, found: Survey, step: Step = lambda _: None) -> Loaded:
    """The second pass: stage every row behind the gate, and open it at the end, if the file is still the same."""
    batch = batches.begin(runtime.database, name=source.path.name, source=_same(found, asked), actor=asked.requester).id
    try:
        loaded = _stage(runtime, source, asked, found, batch, step)
    except BaseException:
        batches.abandon(runtime.database, batch)
        raise
    if loaded is None:
        batches.cancel(runtime.database, batch, actor=asked.requester, why="the file changed while it was read")
        raise BadInput(f"{source.path} changed between its check and its loading: nothing of it is done; try again")
    batches.release(runtime.database, batch, actor=asked.requester)
    advance(runtime, batch, patience=FIRST_ROUND)
    log.info("offboarded", batch=batch, opened=loaded.opened, joined=loaded.joined)
    return replace(loaded, rung=ring_batches(runtime))


def ring_batches(runtime: Runtime) -> bool:
    """Ring the first jobs at once; the sweep rings the others as these end."""
    try:
        ring(
            batches.ring_due(
                runtime.database,
                WINDOW,
                runtime.settings.ring_after,
                runtime.limits,
                runtime.settings.incident_share,
            )
        )
    except BrokerDown as error:
        log.warning("not_rung", why=str(error))
        return False
    return True


def _stage(runtime: Runtime, source: AnySource, asked: Asked, found: Survey, batch: str, step: Step) -> Loaded | None:
    """Stage chunk after chunk; None where what was read is not what was checked."""
    rows = opened = joined = repeated = 0
    leaving: list[Leaving] = []
    for chunk in _chunks(runtime, Clerk(runtime, asked, source.folder), source, found.format, leaving):
        began = time.monotonic()
        staged = batches.stage(runtime.database, batch, chunk)
        # SQLite has one writer: whoever waits for its lock gets as long a turn as we had.
        if not runtime.database.on_postgres:
            time.sleep(time.monotonic() - began)
        rows, opened = rows + len(chunk), opened + staged.opened
        joined, repeated = joined + staged.joined, repeated + staged.repeated
        step(rows)
    for each in leaving:
        repeated += not leavers.register(runtime.database, replace(each.leaver, batch=batch))
    if (rows + len(leaving), source.digest) != (found.rows, found.digest):
        return None
    return Loaded(batch, opened, joined, repeated, rung=False)


def _chunks(
    runtime: Runtime, clerk: Clerk, source: AnySource, named: str, leaving: list[Leaving]
) -> Iterator[list[NewJob]]:
    """Credentials, so many at a time; subjects are put aside."""
    chunk: list[NewJob] = []
    for result in results_of(clerk, source, named):
        if isinstance(result, Leaving):
            leaving.append(result)
        if isinstance(result, Ready):
            chunk.append(replace(new_job(runtime, result.checked), priority=PRIORITY))
        if len(chunk) == CHUNK:
            yield chunk
            chunk = []
    if chunk:
        yield chunk


def results_of(clerk: Clerk, source: AnySource, named: str) -> Iterator[Result]:
    """What becomes of every item."""
    for item in [source.row] if isinstance(source, Spoken) else READERS[named](source):
        yield from clerk.serve(item)


def _same(found: Survey, asked: Asked) -> str:
    """What tells whether a batch that was left loading is of this file, read in this way."""
    told = {**asdict(asked), "requester": None, "format": found.format, "digest": found.digest, "rows": found.rows}
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()
