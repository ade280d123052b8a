"""`revoq db`: bring the ledger's tables to this version, or say at which they are; the migrations are the ledger's."""

from __future__ import annotations

import click
from sqlalchemy.exc import DBAPIError

from scheduler.cli.desk import open_ledger, open_settings
from scheduler.cli.failures import first_line
from scheduler.cli.output import say, working
from scheduler.errors import DatabaseDown
from worker.ledger.database import Database, upgrade


@click.group(name="db")
def command() -> None:
    """Bring the ledger's tables to this version, or say at which they are."""


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
