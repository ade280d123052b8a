"""`revoq rotate`: replace the key of one target by a new one, in every sink; in which order is `rules`'."""

from __future__ import annotations

import click

from rules.lifecycle import Intent
from scheduler.cli.intake import SecretCommand
from scheduler.cli.ordering import Request, options, place, sinks
from scheduler.cli.waiting import Duration


@click.command(name="rotate", cls=SecretCommand)
@options
@sinks
@click.option(
    "--target", metavar="NAME|ID", help="What is rotated, as the rule's listing names it; instead of a --var."
)
@click.option("--grace", type=Duration(), help="How long both keys work, where the provider allows two: 1h, 2d.")
def command(
    *,
    grace: float | None,
    sink: tuple[str, ...],
    dry_run: bool,
    wait: bool,
    timeout: float,
    form: str,
    rule: str,
    **texts: str | None,
) -> None:
    r"""Replace the key of one target: issue, test, deliver, read back, and only then retire the old one.

    Nothing is issued before every sink was found ready. A failure after that keeps the new key sealed, and
    `revoq jobs retry` goes on from there. The old key is taken from the sink; where the sink cannot be read, it may
    come on standard input.

    \b
        revoq rotate --rule RULE --connection prod --target ci-smoke --sink vault-prod --dry-run
        revoq rotate --rule RULE --connection prod --var KEY_ID=key_1 --sink vault-prod --grace 1h --wait
    """
    request = Request(rule=rule, dry_run=dry_run, sink=sink, grace=grace, **texts)  # type: ignore[arg-type]
    place(Intent.ROTATE, request, wait=wait, timeout=timeout, form=form)
