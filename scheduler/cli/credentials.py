"""`revoq credentials`: list what a provider says exists; nothing of it is a secret, and nothing is acted on."""

from __future__ import annotations

import click

from rules.loader import builtin, read
from scheduler.cli.desk import open_settings
from scheduler.cli.output import JSON, formatted, note, say, working, write_json, write_table
from worker.connections import Connections
from worker.listing import list_credentials


@click.group(name="credentials")
def command() -> None:
    """List what a provider says exists; secrets are stripped."""


@command.command(name="list")
@click.option("--rule", required=True, metavar="ID", help="The rule that says how to list.")
@click.option("--connection", required=True, metavar="C", help="The account that is asked.")
@click.option("--subject", metavar="S", help="Whose credentials, where the rule lists one person's.")
@formatted
def show_list(rule: str, connection: str, subject: str | None, form: str) -> None:
    """Show each credential's id and what tells it apart."""
    settings = open_settings()
    catalogue, _ = read([builtin(), *settings.rules_path])
    accounts = Connections(settings, catalogue)
    click.get_current_context().call_on_close(accounts.close)
    loaded = catalogue.get(rule)
    with working(f"asking {connection}"):
        listed = list_credentials(accounts.account(connection, loaded), loaded, subject, {})
    if listed.cut_off:
        note(f"this may not be all: {listed.cut_off}")
    if form == JSON:
        write_json([{"id": row["id"], "shown": row["shown"]} for row in listed.rows])
    elif not listed.rows:
        say("The provider lists nothing. That is a thing to explain, and no proof that nothing exists.")
    else:
        shown = [row["shown"] if isinstance(row["shown"], dict) else {} for row in listed.rows]
        fields = list(dict.fromkeys(name for row in shown for name in row))
        write_table(fields or ["id"], [[str(row.get(name, "")) for name in fields] for row in shown])
