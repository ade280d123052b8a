"""Waiting for a job at a terminal: looks at the ledger until the job rests, and says what keeps it from moving.

On a terminal there is a progress line; in a pipe nothing is said unless something is wrong.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import Self

import click
from rich.status import Status

from rules.lifecycle import State
from rules.model import parse_duration
from scheduler.cli.answering import ask_workers
from scheduler.cli.output import clean, console, note, write_table
from scheduler.cli.present import SETTLED, describe_candidate
from worker.ledger import reads
from worker.ledger.database import Database
from worker.ledger.rows import Job

FIRST_PAUSE = 0.1
LONGEST_PAUSE = 1.0
GROWTH = 1.3
SILENCE = 3.0
"""Seconds without a move after which the workers are asked whether they are there."""
ASKED_AGAIN = 15.0
ANSWER_WITHIN = 1.5


class Duration(click.ParamType[float]):
    """A duration on the command line, in seconds."""

    name = "duration"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> float:
        if isinstance(value, float):
            return value
        try:
            return parse_duration(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


def wait_for(db: Database, job_id: str, timeout: float, show: Callable[[Job], None]) -> Job:
    """Look again and again until the job rests or the time is over; the job as it was last seen."""
    deadline = time.monotonic() + timeout
    quiet = Silence()
    pause = FIRST_PAUSE
    last = -1
    while True:
        job = reads.job(db, job_id)
        if job.state in SETTLED or time.monotonic() >= deadline:
            return job
        if job.audit_number != last:
            last, pause = job.audit_number, FIRST_PAUSE
            quiet.broken()
            show(job)
        quiet.look_into(job)
        time.sleep(min(pause, max(deadline - time.monotonic(), 0)))
        pause = min(pause * GROWTH, LONGEST_PAUSE)


class Silence:
    """Nothing has moved for a while: says why, once for each reason."""

    def __init__(self) -> None:
        self._said: set[str] = set()
        self.broken()

    def broken(self) -> None:
        """Something moved."""
        self._ask_at = time.monotonic() + SILENCE

    def look_into(self, job: Job) -> None:
        """Ask the workers, where nothing has moved for long enough and the job should."""
        if time.monotonic() < self._ask_at:
            return
        self._ask_at = time.monotonic() + ASKED_AGAIN
        says = why_silent(job)
        if says and says not in self._said:
            self._said.add(says)
            note(says)


def why_silent(job: Job) -> str:
    """What keeps a job from moving, or nothing where it only takes its time."""
    if job.state is State.WAITING and job.reason is not None:
        return f"{job.id} waits: {job.says}"
    if job.state is not State.QUEUED:
        return ""
    answers = ask_workers(ANSWER_WITHIN)
    if answers.broker:
        return f"the broker does not answer ({answers.broker}); the job is safe in the ledger: is `revoq up` running?"
    if not answers.serves(job.queue):
        return f"no worker serves the queue {job.queue}; the job is safe in the ledger: is `revoq up` running?"
    return ""


class Progress:
    """One line that tells how far the job is, on a terminal; nothing in a pipe."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._open = ExitStack()
        self._status: Status | None = None

    def __enter__(self) -> Self:
        if sys.stderr.isatty():
            self._status = self._open.enter_context(console(err=True).status("submitted"))
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    def show(self, job: Job) -> None:
        """Say what is done now."""
        if self._status is None:
            return
        steps = reads.steps(self._db, job.id)
        doing = f", {steps[-1].name}" if steps else ""
        self._status.update(clean(f"{job.id}: {job.state.value}{doing}"))


def can_ask() -> bool:
    """Whether a person can be asked something here."""
    return sys.stdin is not None and sys.stdin.isatty() and sys.stderr.isatty()


def offer(job: Job) -> str | None:
    """Show a parked job's candidates and have one picked; its id, or None where none was."""
    candidates = job.candidates or []
    rows = [[number, row.get("id"), describe_candidate(row)] for number, row in enumerate(candidates, start=1)]
    note(f"{job.says}. Which one is it?")
    write_table(["", "id", "what it looks like"], rows, whole=2, err=True)
    choice = click.prompt(
        "Its number, or 0 to leave it to somebody else", type=click.IntRange(0, len(rows)), default=0, err=True
    )
    return str(candidates[choice - 1]["id"]) if choice else None
