"""`revoq doctor`: say what is wrong and what to do about it; the checks themselves are `checkup`'s."""

from __future__ import annotations

import click

from scheduler.cli.checkup import Health, Role, examine, row
from scheduler.cli.output import JSON, formatted, say, working, write_json, write_table

SICK = 1


@click.command(name="doctor")
@click.option(
    "--role", type=click.Choice([role.value for role in Role]), help="Only what this process on this host is for."
)
@formatted
def command(role: str | None, form: str) -> None:
    """Say what is wrong with settings, keys, files, rules, connections, sinks, database, broker, workers and clock.

    Exit code 0 where nothing has to be mended; warnings are allowed. With --role it is the health check of one process.
    """
    with working("looking at everything"):
        checks = examine(None if role is None else Role(role))
    failures = [check for check in checks if check.state is Health.FAIL]
    if form == JSON:
        write_json([row(check) for check in checks])
    else:
        rows = [
            (check.name, check.state.value, f"{check.says}\n  → {check.mend}" if check.mend else check.says)
            for check in checks
        ]
        write_table(["what", "is", "because"], rows, whole=2)
        say("\nAll is well." if not failures else f"\n{len(failures)} to mend.")
    if failures:
        click.get_current_context().exit(SICK)
