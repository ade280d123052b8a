"""`revoq db`: bring the ledger's tables to this version, say at which they are, reconcile a restored one."""

from __future__ import annotations

import time
from typing import Any

import click
from sqlalchemy.exc import DBAPIError

from scheduler import reconcile as reconciling
from scheduler.cli.desk import open_ledger, open_runtime, open_settings, requester
from scheduler.cli.failures import first_line
from scheduler.cli.output import JSON, formatted, note, say, working, write_json, write_table
from scheduler.cli.present import SETTLED
from scheduler.cli.waiting import Duration, wait_for
from scheduler.errors import DatabaseDown
from scheduler.reconcile import Found
from worker import restored
from worker.ledger.database import Database, upgrade

UNFINISHED = 6


@click.group(name="db")
def command() -> None:
    """Bring the ledger's tables to this version, say at which they are, or reconcile a restored ledger."""


@command.command(name="upgrade")
def bring_up() -> None:
    """Create the tables, or bring them forward; two at once wait for each other."""
    db = Database(open_settings().database_url)
    click.get_current_context().call_on_close(db.dispose)
    try:
        with working("bringing the tables forward"):
            upgrade(db)
    except DBAPIError as error:
        raise DatabaseDown(f"the database does not answer: {first_line(error.orig)}") from None
    say("The tables are at the version that this revoq works with.")


@command.command(name="check")
def check() -> None:
    """Say whether the tables are those that this version works with; exit code 2 where they are not."""
    open_ledger(open_settings())
    say("The tables are at the version that this revoq works with.")


@command.command(name="reconcile")
@click.option("--reason", required=True, metavar="TEXT", help="Why the ledger was restored; the trail says so.")
@click.option("--timeout", type=Duration(), default=300.0, help="How long to wait for the probes, such as 5m.")
@formatted
def reconcile(reason: str, timeout: float, form: str) -> None:
    """Probe what a restored ledger may no longer know, say what was found, and lift the hold.

    Workers have to run; they only look meanwhile. What was submitted after the backup is not in this ledger: its
    sources have to submit it again. Exit code 6 where probes have not ended: the hold stays, and this can be repeated.
    """
    runtime = open_runtime(open_settings())
    behind = restored.find_behind(runtime.settings, runtime.database)
    if behind is None:
        say("The ledger knows the last delivered head: there is nothing to reconcile.")
        return
    note(behind.says)
    questions = reconciling.ask(runtime, requester=requester())
    deadline = time.monotonic() + timeout
    probes = [question.probe for question in questions if question.probe is not None]
    ended = [wait_for(runtime.database, probe, deadline - time.monotonic(), lambda _: None) for probe in probes]
    show([reconciling.answer(runtime, question) for question in questions], form)
    if any(job.state not in SETTLED for job in ended):
        note("not all probes have ended: everything stays held; is `revoq up` running? Then say this again")
        click.get_current_context().exit(UNFINISHED)
    due = reconciling.go_on(runtime, actor=requester(), why=reason)
    note(f"the ledger says in a signed head what it has lost; jobs that waited for the hold: {due}")


def show(found: list[Found], form: str) -> None:
    """What was found, a row for each credential."""
    rows = [row(each) for each in found]
    if form == JSON:
        write_json(rows)
    else:
        write_table(
            ["job", "intent", "rule", "connection", "ledger", "now", "means"], [list(each.values()) for each in rows]
        )


def row(found: Found) -> dict[str, Any]:
    """What was found about one credential, as JSON has it."""
    job = found.about
    return {
        "job": job.id,
        "intent": job.intent.value,
        "rule": job.rule,
        "connection": job.connection,
        "ledger": job.state.value if job.verdict is None else job.verdict.value,
        "now": found.verdict,
        "means": found.says,
    }
