"""What verbs begin with: the settings, the ledger with its tables checked, the tools of this process, and who asks.

Everything that is opened here is closed when the command ends.
"""

from __future__ import annotations

import os
import pwd
import socket
from pathlib import Path
from typing import TYPE_CHECKING

import click
from sqlalchemy.exc import DBAPIError

from scheduler.cli.failures import first_line
from scheduler.errors import DatabaseDown
from worker.errors import SchemaMismatch
from worker.ledger.database import Database, check
from worker.log import configure
from worker.settings import Settings, load_settings, using

if TYPE_CHECKING:
    from worker.ledger.accounts import LimitsOf
    from worker.runtime import Runtime


def open_settings() -> Settings:
    """The settings, for this command and everything it calls."""
    chosen = load_settings()
    return adopt(chosen)


def adopt(chosen: Settings) -> Settings:
    """Make these the settings of this command."""
    click.get_current_context().with_resource(using(chosen))
    # What a library has to say is for the processes' logs; here a person reads sentences.
    level = "debug" if chosen.log_level == "debug" else "error"
    configure(chosen.model_copy(update={"log_level": level}))
    return chosen


def open_ledger(settings: Settings) -> Database:
    """The ledger's database, when its tables are those that we work with; raises SchemaMismatch or DatabaseDown."""
    database = Database(settings.database_url)
    path = sqlite_file(settings)
    if path is not None and not path.exists():
        raise SchemaMismatch(f"there is no database yet at {path}: revoq db upgrade makes it, and so does revoq up")
    click.get_current_context().call_on_close(database.dispose)
    try:
        check(database)
    except DBAPIError as error:
        raise DatabaseDown(f"the database does not answer: {first_line(error.orig)}") from None
    return database


def open_runtime(settings: Settings) -> Runtime:
    """All tools of this process, the ledger checked."""
    # Rules, templates and clients take longer to load than all that a listing does.
    from worker.runtime import build  # noqa: PLC0415

    runtime = build(settings)
    click.get_current_context().call_on_close(runtime.connections.close)
    open_ledger(settings).dispose()
    click.get_current_context().call_on_close(runtime.database.dispose)
    return runtime


def known_limits(settings: Settings) -> LimitsOf:
    """What each provider account allows, for a verb that needs no other tools."""
    from rules.loader import builtin, read  # noqa: PLC0415 - see above
    from worker.runtime import limits_of  # noqa: PLC0415

    catalogue, _ = read([builtin(), *settings.rules_path])
    return limits_of(settings, catalogue)


def sqlite_file(settings: Settings) -> Path | None:
    """The database's file, where it is SQLite."""
    prefix = "sqlite:///"
    return Path(settings.database_url.removeprefix(prefix)) if settings.database_url.startswith(prefix) else None


def requester() -> str:
    """Who asks, by the operating system's word and not by a variable that anybody can set: `user@host`."""
    try:
        name = pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        name = f"uid {os.getuid()}"
    return f"{name}@{socket.gethostname()}"
