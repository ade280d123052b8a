"""The operator's door: finds the verbs, turns errors into sentences and exit codes; what a verb does is its own.

A verb is a module of this package whose first line begins with its name in backticks: "`revoq NAME`: what it is for".
The module is loaded when the verb is used, so that `revoq --help` needs neither Celery nor a database: click is all.
"""

from __future__ import annotations

import gc
import importlib
import os
import pkgutil
import re
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

import click
from click.shell_completion import CompletionItem

from scheduler.cli.examples import examples

FIRST_LINE = re.compile(r'"""`revoq (?P<name>[a-z]+)`: (?P<says>[^;.]+)')
WRONG_USE = 2
INTERRUPTED = 130
FAILURES = f"{__name__}.failures"
"""What turns exceptions into sentences; it knows libraries that most commands never load."""
LOOKED_OVER = 100_000
"""Objects that are made before garbage is looked for: at 700, a tenth of a command's start goes into looking."""


def find_verbs() -> dict[str, str]:
    """Every verb, and in a few words what it is for; nothing is imported for it."""
    found = {}
    for module in pkgutil.iter_modules(__path__):
        with (Path(__file__).parent / f"{module.name}.py").open(encoding="utf-8") as file:
            match = FIRST_LINE.match(file.readline())
        if match is not None and match["name"] == module.name:
            found[module.name] = match["says"].strip()
    return found


class Door(click.Group):
    """All verbs, each loaded on its first use."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click passes it
        return sorted(find_verbs())

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - as above
        if cmd_name not in find_verbs():
            return None
        command = importlib.import_module(f"{__name__}.{cmd_name}").command
        assert isinstance(command, click.Command)  # noqa: S101 - what a verb's module is for; a test looks at all
        command.epilog = examples(cmd_name)
        return command

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Verbs that begin like this, and our own options; no verb is loaded for the tab key."""
        verbs = [CompletionItem(name, help=says) for name, says in sorted(find_verbs().items())]
        fitting = [verb for verb in verbs if verb.value.startswith(incomplete)]
        return [*fitting, *click.Command.shell_complete(self, ctx, incomplete)]

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002 - as above
        with formatter.section("Verbs"):
            formatter.write_dl(sorted(find_verbs().items()))

    def main(  # type: ignore[override]
        self, args: Sequence[str] | None = None, prog_name: str | None = None, **extra: Any
    ) -> NoReturn:
        """Run one command and end the process with its exit code; nothing but a sentence is ever shown of an error."""
        extra.pop("standalone_mode", None)
        sys.exit(self._run(args, prog_name or "revoq", extra))

    def _run(self, args: Sequence[str] | None, prog_name: str, extra: dict[str, Any]) -> int:
        gc.set_threshold(LOOKED_OVER)
        for stream in (sys.stdout, sys.stderr):
            # A terminal that has no sign for a character shows another one; that is no reason to fail.
            with suppress(AttributeError, ValueError):
                stream.reconfigure(errors="replace")  # type: ignore[union-attr]
        try:
            code = super().main(args, prog_name, standalone_mode=False, **extra)
            sys.stdout.flush()
        except click.UsageError as error:
            _say_usage(error)
            return WRONG_USE
        except (click.Abort, KeyboardInterrupt):
            click.echo(err=True)
            return INTERRUPTED
        except BrokenPipeError:
            return _hush()
        except Exception as error:  # noqa: BLE001 - the last line before a traceback, which nobody is to see
            return _tell(error)
        return code if isinstance(code, int) else 0


def _tell(error: Exception) -> int:
    try:
        return int(importlib.import_module(FAILURES).tell(error))
    except ImportError as missing:
        click.echo(f"revoq: this installation is not whole: {missing.name} cannot be loaded", err=True)
        return 1


def _say_usage(error: click.UsageError) -> None:
    if error.ctx is not None:
        click.echo(error.ctx.get_usage(), err=True)
    click.echo(f"revoq: {error.format_message()}", err=True)
    if error.ctx is not None:
        click.echo(f"Try '{error.ctx.command_path} --help'.", err=True)


def _hush() -> int:
    """Whoever read our output has gone: say nothing, also not when the interpreter flushes at its end."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 1


def _show_version(ctx: click.Context, _parameter: click.Parameter, wanted: bool) -> None:  # noqa: FBT001 - click calls it
    if wanted:
        metadata = importlib.import_module("importlib.metadata")
        try:
            version = metadata.version("revoq")
        except metadata.PackageNotFoundError:
            version = "(not installed)"
        click.echo(f"revoq {version}")
        ctx.exit()


@click.command(cls=Door, name="revoq", context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--version", is_flag=True, is_eager=True, expose_value=False, callback=_show_version, help="Say which.")
def door() -> None:
    """Take credentials out of the world, or replace them, with proof and an audit trail.

    Exit codes: 0 done as asked, 1 failed, 2 wrong use, 3 parked for a person, 4 still alive, 5 acknowledged but
    unprovable, 6 still settling when the wait ran out.
    """


def main() -> NoReturn:
    """Run what the command line says."""
    door.main()
