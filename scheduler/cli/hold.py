"""`revoq hold`: stop all requests that change something; how a worker heeds that is the ledger's."""

from __future__ import annotations

import click

from scheduler.cli.desk import open_ledger, open_settings, requester
from scheduler.cli.output import JSON, formatted, say, write_json, write_table
from scheduler.cli.present import ago, hold_row
from worker.ledger import moves, reads
from worker.ledger.rows import EVERYTHING

where = click.option("--connection", metavar="NAME", help="Only this connection; without it, everything.")
why = click.option("--reason", required=True, metavar="TEXT", help="Why; the waiting jobs and the audit trail say so.")


@click.group(name="hold")
def command() -> None:
    """Stop every request that changes something, everywhere or for one connection, and let it go on.

    Looking goes on meanwhile: jobs come as far as they can and wait there.
    """


@command.command(name="on")
@where
@why
def switch_on(connection: str | None, reason: str) -> None:
    """Let no request leave that changes something."""
    settings = open_settings()
    if connection is not None:
        settings.connection(connection)
    db = open_ledger(settings)
    concerned = moves.hold_on(db, connection or EVERYTHING, actor=requester(), why=reason)
    say(f"{connection or 'Everything'} is held; unfinished jobs that this concerns: {concerned}.")
    say("A request that was under way already may still arrive; none leaves from now on.")


@command.command(name="off")
@where
@why
def switch_off(connection: str | None, reason: str) -> None:
    """Let the jobs go on that waited."""
    db = open_ledger(open_settings())
    target = connection or EVERYTHING
    if target not in {hold.connection for hold in reads.holds(db)}:
        say(f"{connection or 'Everything'} was not held; nothing has changed.")
    else:
        due = moves.hold_off(db, target, actor=requester(), why=reason)
        say(f"{connection or 'Everything'} goes on; jobs that waited for it: {due}.")
    for hold in reads.holds(db):
        say(f"Still on: {hold.says}")


@command.command(name="list")
@formatted
def show_list(form: str) -> None:
    """Show the holds that are on."""
    db = open_ledger(open_settings())
    holds = reads.holds(db)
    if form == JSON:
        write_json([hold_row(hold) for hold in holds])
    elif not holds:
        say("Nothing is held.")
    else:
        now = db.now()
        name = {EVERYTHING: "everything"}
        rows = [(name.get(hold.connection, hold.connection), hold.by, ago(hold.at, now), hold.why) for hold in holds]
        write_table(["what", "by", "for", "why"], rows)
