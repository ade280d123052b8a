"""`revoq rotate`: replace a target's key, or those of a schedule's targets, in every sink; the order is `rules`'."""

from __future__ import annotations

from functools import partial
from typing import Any

import click

from rules.lifecycle import Intent
from scheduler.cli.intake import SecretCommand
from scheduler.cli.ordering import Request, options, place, refuse_both, sinks
from scheduler.cli.slotting import run_now
from scheduler.cli.waiting import Duration


@click.command(name="rotate", cls=SecretCommand)
@partial(options, rule=False)
@partial(sinks, required=False)
@click.option("--schedule", metavar="S", help="All that this schedule of the settings would rotate now, as it says.")
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
    rule: str | None,
    schedule: str | None,
    **texts: Any,
) -> None:
    """Replace the key of one target: issue, test, deliver, read back, and only then retire the old one.

    With --schedule, the clock does it for every target of that schedule, in the schedule's own way.

    Nothing is issued before every sink was found ready. A failure after that keeps the new key sealed, and
    `revoq jobs retry` goes on from there. The old key is taken from the sink; where the sink cannot be read, it may
    come on standard input.

    \b
        revoq rotate --schedule weekly-service-users --dry-run
        revoq rotate --rule RULE --connection prod --target ci-smoke --sink vault-prod --dry-run
        revoq rotate --rule RULE --connection prod --var KEY_ID=key_1 --sink vault-prod --grace 1h --wait
    """  # noqa: D301 - click wants the character itself, not its name
    if schedule is not None:
        refuse_both(dry_run=dry_run, wait=wait)
        if rule or sink or grace is not None or any(texts.values()):
            raise click.UsageError("--schedule says what is rotated, and how: take the other options out")
        run_now(schedule, dry_run=dry_run, form=form, wait=wait, timeout=timeout, only=Intent.ROTATE)
        return
    if rule is None or not sink:
        raise click.UsageError("say what is rotated with --rule, and where the new key goes with --sink; or --schedule")
    request = Request(rule=rule, dry_run=dry_run, sink=sink, grace=grace, **texts)
    place(Intent.ROTATE, request, wait=wait, timeout=timeout, form=form)
