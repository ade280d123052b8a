"""`revoq issue`: a new service user or key, straight into its sinks, and shown to nobody."""

from __future__ import annotations

import click

from rules.lifecycle import Intent
from scheduler.cli.intake import SecretCommand
from scheduler.cli.ordering import Request, options, place, sinks


@click.command(name="issue", cls=SecretCommand)
@options
@sinks
def command(
    *, sink: tuple[str, ...], dry_run: bool, wait: bool, timeout: float, form: str, rule: str, **texts: str | None
) -> None:
    """Make a new service user or key, straight into its sinks, and show it to nobody.

    It is tested before it is delivered, and read back after that. A sink that holds something already is left alone.

    \b
        revoq issue --rule RULE --connection prod --var NAME=etl --var OWNER=data --sink vault-prod --wait
    """  # noqa: D301 - click wants the character itself, not its name
    request = Request(rule=rule, dry_run=dry_run, sink=sink, **texts)  # type: ignore[arg-type]
    place(Intent.ISSUE, request, wait=wait, timeout=timeout, form=form)
