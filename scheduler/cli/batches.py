"""`revoq batches`: see how batches get on, report on them, pause, resume, cancel or retry them."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path
from typing import Any

import click
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from rules.errors import BadInput, MoveRefused
from rules.lifecycle import BatchState, Reason, State, ending, worst
from rules.loader import LoadedRule
from scheduler.bell import BrokerDown, ring
from scheduler.cli.answering import ask_workers
from scheduler.cli.desk import known_limits, open_ledger, open_settings, requester
from scheduler.cli.output import JSON, console, formatted, note, say, write_json, write_table
from scheduler.cli.present import SETTLED, ago, moment
from scheduler.cli.rules import open_catalogue
from scheduler.cli.waiting import ANSWER_WITHIN, ASKED_AGAIN, LONGEST_PAUSE, SILENCE
from scheduler.offboard.report import Report, make
from scheduler.offboard.report_forms import Form, write
from scheduler.sweep import WINDOW
from worker.app import BULK
from worker.errors import UnknownJob
from worker.ledger import batches, leavers, moves, reports
from worker.ledger.batches import Batch
from worker.ledger.database import Database
from worker.ledger.leavers import Leaver
from worker.ledger.rows import Count

LISTED = 50
REFUSED = 2
ENDED_WITHIN = 10.0
"""Seconds after its last job within which the clock has ended a batch."""


@click.group(name="batches")
def command() -> None:
    """See how batches get on, report on them, and pause, resume, cancel or retry them.

    A batch's id may be shortened to its beginning, as long as only one begins like that.
    """


@command.command(name="list")
@click.option("--limit", type=click.IntRange(1, 1000), default=LISTED, show_default=True)
@formatted
def show_list(*, limit: int, form: str) -> None:
    """List batches, the newest first."""
    db = open_ledger(open_settings())
    found = batches.newest(db, limit)
    rows = [batch_row(db, batch) for batch in found]
    if form == JSON:
        write_json(rows)
        return
    if not rows:
        say("There are no batches yet: revoq offboard FILE makes one.")
        return
    now = db.now()
    shown = [
        (row["id"], row["name"], _state(batch), f"{row['settled']} of {row['jobs']}", ago(batch.created_at, now))
        for row, batch in zip(rows, found, strict=True)
    ]
    write_table(["id", "name", "stands", "settled", "age"], shown)
    for batch in found:
        _say_abandoned(batch)


@command.command(name="show")
@click.argument("batch_id", metavar="ID")
@formatted
def show_one(batch_id: str, form: str) -> None:
    """Tell how a batch gets on: what is done, what is parked and why, how fast, how long still."""
    db = open_ledger(open_settings())
    batch = batches.find(db, batch_id)
    row = batch_row(db, batch)
    if form == JSON:
        write_json(row)
        return
    tell_batch(row)
    _say_abandoned(batch)


@command.command(name="report")
@click.argument("batch_id", metavar="ID")
@click.option(
    "--format",
    "form",
    type=click.Choice([form.value for form in Form]),
    help="Else what FILE's name ends in says it; or json.",
)
@click.option("--output", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE", help="For its owner alone.")
@click.option("--force", is_flag=True, help="Write over FILE where it is there.")
def report(batch_id: str, form: str | None, output: Path | None, *, force: bool) -> None:
    """Write down what came of a batch: each credential with its proof, what lives on, and what is left to do.

    JSON has everything, CSV a row for each job, HTML one page to read and to print. No secret is in any of them.
    """
    db = open_ledger(open_settings())
    made = report_on(db, batch_id, open_catalogue())
    text = write(made, Form(form) if form else form_of(output))
    if output is None:
        click.echo(text, nl=False)
    else:
        write_private(output, text, force=force)
        note(f"{output} is written, for you alone to read")
    if not made.complete:
        note(f"{made.batch.id} is not finished: {'; '.join(made.missing)}")


@command.command(name="pause")
@click.argument("batch_id", metavar="ID")
@click.option("--reason", required=True, metavar="TEXT", help="Why; it is kept in the audit trail.")
def pause(batch_id: str, reason: str) -> None:
    """Claim nothing of it any more; what is being carried goes on to its next rest."""
    db = open_ledger(open_settings())
    batch = batches.find(db, batch_id)
    batches.pause(db, batch.id, actor=requester(), why=reason)
    say(f"{batch.id} is paused. Let it go on: revoq batches resume {batch.id}")


@command.command(name="resume")
@click.argument("batch_id", metavar="ID")
def resume(batch_id: str) -> None:
    """Let a paused batch go on."""
    db = open_ledger(open_settings())
    batch = batches.find(db, batch_id)
    batches.resume(db, batch.id, actor=requester())
    ring_open(db)
    say(f"{batch.id} goes on. Follow it: revoq batches show {batch.id}")


@command.command(name="cancel")
@click.argument("batch_id", metavar="ID")
@click.option("--reason", required=True, metavar="TEXT", help="Why; it is kept in the audit trail.")
def cancel(batch_id: str, reason: str) -> None:
    """Give up what has changed nothing yet, and shred its secrets; what has, goes on to its end."""
    db = open_ledger(open_settings())
    batch = batches.find(db, batch_id)
    cancelled = batches.cancel(db, batch.id, actor=requester(), why=reason)
    left = sum(count.count for count in batches.counts(db, batch.id) if count.state not in SETTLED)
    say(f"{batch.id} is cancelled, with {cancelled} of its jobs.")
    if left:
        say(f"{left} were under way, or had been asked for by themselves, and go on.")


@command.command(name="retry")
@click.argument("batch_id", metavar="ID")
@click.option("--cause", required=True, type=click.Choice([reason.value for reason in Reason]), help="Parked for this.")
def retry(batch_id: str, cause: str) -> None:
    """Drive the jobs of a batch again that are parked for one cause, from their first step."""
    db = open_ledger(open_settings())
    batch = batches.find(db, batch_id)
    actor, done = requester(), 0
    chosen = batches.parked(db, batch.id, Reason(cause))
    for job_id in chosen:
        try:
            moves.retry(db, job_id, actor=actor, why=f"driven again with all of {batch.id} that was parked for {cause}")
        except (MoveRefused, UnknownJob) as error:
            note(str(error))
        else:
            done += 1
    ring_open(db)
    say(f"{done} of {batch.id} are queued again." if chosen else f"No job of {batch.id} is parked for {cause}.")
    if done < len(chosen):
        click.get_current_context().exit(REFUSED)


def ring_open(db: Database) -> None:
    """Wake the workers at once, as far as the batches' windows let; where the broker is down, the sweep does it."""
    try:
        settings = open_settings()
        limits = known_limits(settings)
        ring(batches.ring_due(db, WINDOW, settings.ring_after, limits, settings.incident_share))
    except BrokerDown as error:
        note(f"{error}; the sweep rings when it is back")


# ── the report ────────────────────────────────────────────────────────────────────────────────────────────────────────


def report_on(db: Database, batch_id: str, rules: Iterable[LoadedRule]) -> Report:
    """The report on a batch, of one moment."""
    batch = batches.find(db, batch_id)
    with db.read() as conn:
        return make(
            batch,
            reports.entries(conn, batch.id),
            reports.residuals(conn, batch.id),
            reports.anchor(conn, batch.id),
            {loaded.rule.id: loaded.rule for loaded in rules},
            db.now(),
        )


def form_of(output: Path | None) -> Form:
    """What the end of a file's name asks for."""
    ending = output.suffix.removeprefix(".").lower() if output is not None else ""
    return Form(ending) if ending in set(Form) else Form.JSON


def write_private(path: Path, text: bytes, *, force: bool) -> None:
    """A new file that only its owner can read; a file that is there stays, unless `force` says otherwise."""
    try:
        if force and (path.is_file() or path.is_symlink()):
            path.unlink()
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(text)
    except FileExistsError:
        raise BadInput(f"{path} is there already: name another file, or write over this one with --force") from None
    except OSError as error:
        raise BadInput(f"{path} cannot be written: {error.strerror}") from None


# ── one batch, told ───────────────────────────────────────────────────────────────────────────────────────────────────


def batch_row(db: Database, batch: Batch) -> dict[str, Any]:
    """How a batch stands, as keys that stay."""
    counts = batches.counts(db, batch.id)
    total = sum(count.count for count in counts)
    settled = sum(count.count for count in counts if count.state in SETTLED)
    rate = batches.ended_lately(db, batch)
    return {
        "id": batch.id,
        "name": batch.name,
        "state": batch.state.value,
        "abandoned": batch.abandoned,
        "requester": batch.requester,
        "says": batch.says,
        "looking": leavers.looking(db, batch.id),
        "jobs": total,
        "settled": settled,
        "by_state": _sum(counts, lambda count: count.state.value),
        "by_verdict": _sum(counts, lambda count: count.verdict.value if count.verdict is not None else None),
        "by_cause": _sum(counts, lambda count: count.reason if count.state is State.PARKED else None),
        "a_minute": round(rate * 60, 1),
        "seconds_left": round((total - settled) / rate) if rate and settled < total else None,
        "exit_code": worst(_exit_code(count) for count in counts),
        "created_at": moment(batch.created_at),
        "opened_at": moment(batch.opened_at),
        "ended_at": moment(batch.ended_at),
        "subjects": [_subject_row(each) for each in leavers.of_batch(db, batch.id)],
    }


def _subject_row(leaver: Leaver) -> dict[str, Any]:
    """How far a subject is, and what is left of them."""
    return {
        "connection": leaver.connection,
        "subject": leaver.subject,
        "turn": leaver.turn.value,
        "listed": len(leaver.known),
        "owned": list(leaver.owned),
        "new": list(leaver.unplanned),
        "residual": [{**each, "until": moment(each["until"])} for each in leaver.residual],
        "says": list(leaver.says),
    }


def _tell_subject(row: dict[str, Any]) -> None:
    say(f"\n{row['subject']} at {row['connection']}: {row['listed']} listed to be ended, {row['turn']}.")
    for each in row["owned"]:
        say(f"  owned: {each['rule']} {each['id']} ({each['name']}){'' if each['becomes'] else ', left alone'}")
    for each in row["new"]:
        say(f"  new, and not in the plan: {each['rule']} {each['id']}")
    for each in row["residual"]:
        until = f", until {each['until']}" if each["until"] else ""
        say(f"  lives on: {each['says']}{until}")
    for says in row["says"]:
        say(f"  {says}")


def tell_batch(row: dict[str, Any]) -> None:
    """The same for a person."""
    say(f"{row['id']} ({row['name']}) is {row['state']}: {row['settled']} of {row['jobs']} jobs are settled.")
    for name, title in (("by_state", "state"), ("by_verdict", "verdict"), ("by_cause", "parked for")):
        if row[name]:
            say()
            write_table([title, "jobs"], sorted(row[name].items()))
    if row["says"]:
        say(f"\nPaused: {row['says']}")
    if row["looking"]:
        say(f"\n{row['looking']} subjects are listed again until nothing new is theirs.")
    for each in row["subjects"]:
        _tell_subject(each)
    if row["seconds_left"] is not None:
        left = timedelta(seconds=row["seconds_left"])
        say(f"\n{row['a_minute']:g} end a minute; at that rate the others take {left}.")
    if row["by_cause"]:
        say(f"\nDrive them again:\n  revoq batches retry {row['id']} --cause {min(row['by_cause'])}")
    say(f"\nWhat came of each:\n  revoq batches report {row['id']}")


def _sum(counts: list[Count], name: Any) -> dict[str, int]:
    told: dict[str, int] = {}
    for count in counts:
        if (key := name(count)) is not None:
            told[key] = told.get(key, 0) + count.count
    return told


def _exit_code(count: Count) -> int:
    return ending(count.state, count.verdict, Reason(count.reason) if count.reason else None).exit_code


def _state(batch: Batch) -> str:
    return "loading, and its loader is gone" if batch.abandoned else batch.state.value


def _say_abandoned(batch: Batch) -> None:
    if batch.abandoned:
        say(
            f"\nWhat loaded {batch.id} is gone, and none of it can be claimed. Offboard the same file again, which "
            f"goes on with it, or give it up: revoq batches cancel {batch.id} --reason …"
        )


# ── waiting ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def follow(db: Database, batch_id: str, timeout: float) -> dict[str, Any]:
    """Look until every job rests, or the time is over; a bar on a terminal, nothing in a pipe. How it stands then.

    A batch without parked jobs is then ended by the clock, which is waited for as well, but not for long.
    """
    deadline = time.monotonic() + timeout
    ask_at = time.monotonic() + SILENCE
    with ExitStack() as stack:
        show = _bar(stack, batch_id)
        last, rested = -1, time.monotonic()
        while True:
            row = batch_row(db, batches.find(db, batch_id))
            show(row)
            now = time.monotonic()
            if row["settled"] < row["jobs"] or row["looking"]:
                rested = now
            elif row["by_cause"] or row["state"] != BatchState.OPEN or now - rested > ENDED_WITHIN:
                return row
            if now >= deadline:
                return row
            if row["settled"] != last:
                last, ask_at = row["settled"], time.monotonic() + SILENCE
            elif ask_at and time.monotonic() >= ask_at:
                ask_at = 0.0 if _say_silent(row) else time.monotonic() + ASKED_AGAIN
            time.sleep(min(LONGEST_PAUSE, max(deadline - time.monotonic(), 0)))


def _bar(stack: ExitStack, batch_id: str) -> Any:
    paper = console(err=True)
    if not paper.is_terminal:
        return lambda _row: None
    columns = (TextColumn(batch_id), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    bar = stack.enter_context(Progress(*columns, console=paper))
    task = bar.add_task(batch_id, total=None)
    return lambda row: bar.update(task, total=row["jobs"], completed=row["settled"])


def _say_silent(row: dict[str, Any]) -> bool:
    """Nothing has moved for a while: say why, where that can be told."""
    if row["state"] == BatchState.PAUSED:
        note(f"{row['id']} is paused: revoq batches resume {row['id']}")
        return True
    answers = ask_workers(ANSWER_WITHIN)
    if answers.broker:
        note(f"the broker does not answer ({answers.broker}); the batch is safe in the ledger: is `revoq up` running?")
        return True
    if not answers.serves(BULK):
        note(f"no worker serves the queue {BULK}; the batch is safe in the ledger: is `revoq up` running?")
        return True
    return False
