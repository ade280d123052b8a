"""`revoq jobs`: list jobs, show one, and decide about those that need a person; the moves are the ledger's."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import click

from rules.errors import BadInput, MoveRefused
from rules.lifecycle import Intent, Reason, State
from scheduler.cli.desk import known_limits, open_ledger, open_runtime, open_settings, requester
from scheduler.cli.output import JSON, formatted, note, say, write_json, write_lines, write_table
from scheduler.cli.present import ago, job_line, standing, what
from worker.errors import UnknownJob
from worker.ledger import moves, reads
from worker.ledger.database import Database
from worker.ledger.rows import JobLine

REFUSED = 2
LISTED = 50
MOST = 10_000


@click.group(name="jobs")
def command() -> None:
    """List jobs, show one, and decide about those that need a person.

    A job's id may be shortened to its beginning, as long as only one begins like that.
    """


@command.command(name="list")
@click.option("--state", type=click.Choice([state.value for state in State]))
@click.option("--reason", metavar="WORD", help="Why it is parked, or what it waits for, such as still_alive.")
@click.option("--rule", metavar="ID")
@click.option("--connection", metavar="NAME")
@click.option("--intent", type=click.Choice([intent.value for intent in Intent]))
@click.option("--limit", type=click.IntRange(1, MOST), default=LISTED, show_default=True)
@click.option("--before", metavar="ID", help="Older than this job: the last one of the page before.")
@formatted
def show_list(*, state: str | None, intent: str | None, form: str, limit: int, **filters: str | None) -> None:
    """List jobs, the newest first."""
    db = open_ledger(open_settings())
    lines = reads.jobs(
        db,
        state=State(state) if state else None,
        intent=Intent(intent) if intent else None,
        limit=limit,
        **filters,
    )
    if form == JSON:
        write_json([job_line(line) for line in lines])
        return
    if not lines:
        say("No job fits." if any((state, intent, *filters.values())) else "There are no jobs yet.")
        return
    now = db.now()
    rows = [
        (line.id, what(line), standing(line.state, line.verdict, line.reason), ago(line.first_seen, now))
        for line in lines
    ]
    write_table(["id", "what", "stands", "age"], rows)
    if len(lines) == limit:
        say(f"\nOlder ones: revoq jobs list --before {lines[-1].id}")


@command.command(name="show")
@click.argument("job_id", metavar="ID")
@formatted
def show_one(job_id: str, form: str) -> None:
    """Tell one job as a story: what was asked, what was found, how it ended, what to do next."""
    from scheduler.cli import story  # noqa: PLC0415 - who lists needs no plan of a job

    db = open_ledger(open_settings())
    job = reads.job(db, job_id)
    if form == JSON:
        write_json(story.gather(db, job))
    else:
        write_lines(story.tell(db, job))


@command.command(name="select")
@click.argument("job_id", metavar="ID")
@click.argument("candidate")
def select(job_id: str, candidate: str) -> None:
    """Say which candidate it is; the job goes on with that one, after it was read again."""
    db = open_ledger(open_settings())
    job = reads.job(db, job_id)
    if job.state is not State.PARKED or job.reason != Reason.NEEDS_SELECTION:
        raise MoveRefused(f"{job.id} is {standing(job.state, job.verdict, job.reason)}: there is nothing to select")
    moves.retry(db, job.id, actor=requester(), why="a person picked a candidate", picked=candidate)
    ring_bells(db, [job.id])
    say(f"{job.id} goes on with {candidate}. Follow it: revoq jobs show {job.id}")


@command.command(name="retry")
@click.argument("job_ids", metavar="[ID]...", nargs=-1)
@click.option(
    "--reason",
    type=click.Choice([reason.value for reason in Reason]),
    help="All that are parked for this reason, instead of ids.",
)
def retry(job_ids: Sequence[str], reason: str | None) -> None:
    """Drive parked jobs again, from their first step; a rotation goes on where it stood, with the key that it made."""
    if bool(job_ids) == (reason is not None):
        raise BadInput(
            "expected ids or --reason, one of the two: revoq jobs retry ID…, or revoq jobs retry --reason WORD"
        )
    db = open_ledger(open_settings())
    chosen = list(job_ids) if reason is None else [line.id for line in parked_for(db, reason)]
    if not chosen:
        say(f"No job is parked for {reason}.")
    actor = requester()
    done = each(db, chosen, lambda job_id: moves.retry(db, job_id, actor=actor, why="driven again by a person"))
    for job_id in done:
        say(f"{job_id} is queued again")
    ring_bells(db, done)
    if len(done) < len(chosen):
        click.get_current_context().exit(REFUSED)


@command.command(name="force")
@click.argument("job_id", metavar="ID")
@click.option("--reason", required=True, metavar="TEXT", help="Why; it is kept in the audit trail.")
def force(job_id: str, reason: str) -> None:
    """Drive a job that is parked as protected or not_ours past that one guard, once; no other guard gives way."""
    db = open_ledger(open_settings())
    job = reads.job(db, job_id)
    lifted = moves.force(db, job.id, actor=requester(), why=reason)
    ring_bells(db, [job.id])
    say(f"{job.id} goes on, although it was parked as {lifted}. Follow it: revoq jobs show {job.id}")


@command.command(name="cancel")
@click.argument("job_ids", metavar="ID...", nargs=-1, required=True)
@click.option("--reason", required=True, metavar="TEXT", help="Why; it is kept in the audit trail.")
def cancel(job_ids: Sequence[str], reason: str) -> None:
    """Give jobs up that have changed nothing yet; their secrets are shredded."""
    db = open_ledger(open_settings())
    actor = requester()
    done = each(db, job_ids, lambda job_id: moves.cancel(db, job_id, actor=actor, why=reason, shred_by=db.now()))
    for job_id in done:
        say(f"{job_id} is cancelled")
    if len(done) < len(job_ids):
        click.get_current_context().exit(REFUSED)


@command.command(name="restore")
@click.argument("job_id", metavar="ID")
@click.option("--reason", required=True, metavar="TEXT", help="Why; it is kept in the audit trail.")
@click.option("--although-leaked", is_flag=True, help="Also where it was disabled because it got about.")
@formatted
def restore(job_id: str, reason: str, form: str, *, although_leaked: bool) -> None:
    """Enable again what a job has disabled, and prove that it works: whoever has it can use it from then on."""
    from scheduler import restore as restoring  # noqa: PLC0415 - who lists needs neither this nor the queue
    from scheduler.cli.ordering import tell_receipt  # noqa: PLC0415

    runtime = open_runtime(open_settings())
    receipt = restoring.restore(runtime, job_id, requester=requester(), why=reason, although_leaked=although_leaked)
    if not receipt.rung:
        note("the broker does not answer; the job is safe in the ledger and is rung when the broker is back")
    tell_receipt(receipt, form)


@command.command(name="rollback")
@click.argument("job_id", metavar="ID")
@click.option("--reason", required=True, metavar="TEXT", help="Why; it is kept in the audit trail.")
def roll_back(job_id: str, reason: str) -> None:
    """Turn a rotation back that has not retired the old key yet: it is put back, and the new one deleted."""
    db = open_ledger(open_settings())
    job = reads.job(db, job_id)
    moves.roll_back(db, job.id, actor=requester(), why=reason)
    ring_bells(db, [job.id])
    say(f"{job.id} goes back. Follow it: revoq jobs show {job.id}")


def parked_for(db: Database, reason: str) -> Iterator[JobLine]:
    """All of a cause, page by page."""
    before = None
    while page := reads.jobs(db, state=State.PARKED, reason=reason, limit=MOST, before=before):
        yield from page
        before = page[-1].id


def each(db: Database, job_ids: Sequence[str], move: Callable[[str], None]) -> list[str]:
    """Move each job; one that is refused is told and stops no other. The ids of those that moved."""
    done = []
    for given in job_ids:
        try:
            job_id = reads.job(db, given).id
            move(job_id)
        except (UnknownJob, MoveRefused) as error:
            note(str(error))
        else:
            done.append(job_id)
    return done


def ring_bells(db: Database, job_ids: Sequence[str]) -> None:
    """Wake the workers at once; where the broker is down, the sweep does it later."""
    from scheduler.bell import BrokerDown, ring  # noqa: PLC0415 - see restore

    try:
        settings = open_settings()
        ring(moves.ring(db, job_ids, known_limits(settings), settings.incident_share))
    except BrokerDown as error:
        note(f"{error}; the sweep rings when it is back")
