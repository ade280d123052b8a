"""`revoq connections`: list the provider accounts, and try them; signing in is `worker.connections`'."""

from __future__ import annotations

import click

from rules.errors import BadInput, RevoqError
from rules.guard import Who
from rules.loader import Catalogue, LoadedRule, builtin, read
from scheduler.cli.accounts import account_row, limits_of_connection, read_standings, tell_account
from scheduler.cli.desk import open_settings
from scheduler.cli.output import JSON, formatted, say, working, write_json, write_table
from scheduler.cli.present import connection_row, trial_row
from worker.connections import Account, Connections
from worker.settings import Connection, Settings

FAILED = 1


@click.group(name="connections")
def command() -> None:
    """List the provider accounts of the settings, and try them."""


@command.command(name="list")
@formatted
def show_list(form: str) -> None:
    """Show what the settings say, and how each account stands; secrets stay the references that they are."""
    settings = open_settings()
    connections = settings.connections.values()
    catalogue, _ = read([builtin(), *settings.rules_path])
    known, now = read_standings(settings)
    stand = {each.name: (known.get(each.name), limits_of_connection(each, catalogue), now) for each in connections}
    if form == JSON:
        write_json([connection_row(each) | account_row(*stand[each.name]) for each in connections])
    elif not connections:
        say("The settings have no connections. They stand in revoq.yaml, under `connections`.")
    else:
        rows = [
            (
                connection.name,
                connection.provider,
                connection.base_url,
                ", ".join(connection.identity),
                tell_account(*stand[connection.name]),
            )
            for connection in connections
        ]
        write_table(["name", "provider", "base url", "signs in with", "stands"], rows)


@command.command(name="test")
@click.argument("names", metavar="[NAME]...", nargs=-1)
@formatted
def test(names: tuple[str, ...], form: str) -> None:
    """Sign in, ask who we are, and sign out again; without a name, over every connection."""
    settings = open_settings()
    chosen = [settings.connection(name) for name in names] or list(settings.connections.values())
    if not chosen:
        raise BadInput("the settings have no connections to test")
    catalogue, _ = read([builtin(), *settings.rules_path])
    accounts = Connections(settings, catalogue)
    click.get_current_context().call_on_close(accounts.close)
    rows = []
    for connection in chosen:
        with working(f"signing in at {connection.name}"):
            who, says = attempt(accounts, catalogue, connection)
        rows.append(trial_row(connection.name, who, says))
    if form == JSON:
        write_json(rows)
    else:
        write_table(
            ["connection", "", "what came"],
            [(row["connection"], "ok" if row["ok"] else "FAIL", row["says"]) for row in rows],
        )
    if not all(row["ok"] for row in rows):
        click.get_current_context().exit(FAILED)


def attempt(accounts: Connections, catalogue: Catalogue, connection: Connection) -> tuple[Who | None, str]:
    """Try one connection: who we are there, or None; and what to say of it."""
    try:
        account = account_of(accounts, catalogue, connection)
        account.check()
        who = account.own()
    except RevoqError as error:
        return None, str(error)
    foreign = [
        f"we are of the {what} {getattr(who, what)!r}, and `owns` says {expected!r}"
        for what, expected in connection.owns.items()
        if getattr(who, what, None) not in {None, expected}
    ]
    if foreign:
        return None, f"{'; '.join(foreign)}: is it the right instance?"
    return who, describe(who, account)


def account_of(accounts: Connections, catalogue: Catalogue, connection: Connection) -> Account:
    """The account behind a connection, by any rule of its provider."""
    return accounts.account(connection.name, rule_of(catalogue, connection))


def rule_of(catalogue: Catalogue, connection: Connection) -> LoadedRule:
    found = next((loaded for loaded in catalogue if loaded.rule.provider == connection.provider), None)
    if found is None:
        known = ", ".join(sorted({loaded.rule.provider for loaded in catalogue}))
        raise BadInput(
            f"connection {connection.name}: no rule is for {connection.provider}; there are rules for {known}"
        )
    return found


def describe(who: Who, account: Account) -> str:
    """Who we are there, in words."""
    known = [f"{what} {value}" for what in ("id", "subject", "tenant") if (value := getattr(who, what)) is not None]
    if known:
        return f"{account.provider_name} knows us as {', '.join(known)}"
    identity = account.provider.identity if account.provider is not None else None
    if identity is not None and identity.sign_in is not None:
        return f"{account.provider_name} let us sign in, and does not tell who we are"
    return f"the identity can be read; {account.provider_name} has nothing that tells who we are, so nothing was asked"


def check_identities(settings: Settings, catalogue: Catalogue) -> dict[str, str]:
    """What is wrong with each connection as far as that can be told without asking anybody; empty where nothing is."""
    accounts = Connections(settings, catalogue)
    wrong = {}
    for connection in settings.connections.values():
        try:
            account = account_of(accounts, catalogue, connection)
            if account.signs:
                account.check()
        except RevoqError as error:
            wrong[connection.name] = str(error)
    return wrong
