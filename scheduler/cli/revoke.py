"""`revoq revoke`: end one credential, and prove that it is dead; how a job begins is `scheduler.submit`'s."""

from __future__ import annotations

import click

from rules.lifecycle import Intent
from scheduler.cli.intake import SecretCommand
from scheduler.cli.ordering import Request, options, place


@click.command(name="revoke", cls=SecretCommand)
@options
@click.option("--no-probe", is_flag=True, help="Never try the credential: for canary tokens. The end is not proved.")
def command(
    *, no_probe: bool, dry_run: bool, wait: bool, timeout: float, form: str, rule: str, **texts: str | None
) -> None:
    """End one credential, and prove that it is dead.

    The secret is read from standard input, or asked for without echo; it is never an argument. Where the rule can do
    without it, variables name the credential.

        pass show leaked | revoq revoke --rule sendgrid.api_key --connection prod --wait
    """
    request = Request(rule=rule, probe=not no_probe, dry_run=dry_run, **texts)  # type: ignore[arg-type]
    place(Intent.REVOKE, request, wait=wait, timeout=timeout, form=form)
