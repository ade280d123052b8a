"""`revoq probe`: ask whether a credential works; changes nothing."""

from __future__ import annotations

import click

from rules.lifecycle import Intent
from scheduler.cli.intake import SecretCommand
from scheduler.cli.ordering import Request, options, place


@click.command(name="probe", cls=SecretCommand)
@options
def command(*, dry_run: bool, wait: bool, timeout: float, form: str, rule: str, **texts: str | None) -> None:
    """Ask whether a credential works; changes nothing.

    The secret is read from standard input, or asked for without echo; it is never an argument. With --wait the exit
    code is 0 where it is dead and 4 where it works.
    """
    request = Request(rule=rule, dry_run=dry_run, **texts)  # type: ignore[arg-type]
    place(Intent.PROBE, request, wait=wait, timeout=timeout, form=form)
