"""Putting a job in at a terminal and, where asked, waiting for it; what the verbs differ in is what they ask for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import click

from rules.lifecycle import Intent, Reason, State
from rules.plan import MAKES_KEYS
from rules.schema import Rule
from rules.secret import Secret
from scheduler.cli import rehearsing, story
from scheduler.cli.desk import open_runtime, open_settings, requester
from scheduler.cli.intake import (
    read_optional_secret,
    read_secret,
    read_variables,
    refuse_in_sight,
    secret_variables,
    split_pairs,
)
from scheduler.cli.output import JSON, formatted, note, say, write_json, write_lines
from scheduler.cli.present import ending_of
from scheduler.cli.targets import find_target
from scheduler.cli.waiting import Duration, Progress, can_ask, offer, wait_for
from scheduler.submit import Order, Receipt, check, rehearse, ring_jobs, submit
from worker.app import ROTATION, URGENT
from worker.ledger import moves, reads
from worker.ledger.rows import Job
from worker.log import redacting
from worker.runtime import Runtime

PATIENCE = "10m"


@dataclass(frozen=True, slots=True)
class Request:
    """What was typed, as it was typed; no secret is in it."""

    rule: str
    connection: str = ""
    var: tuple[str, ...] = ()
    reason: str | None = None
    ticket: str | None = None
    owner: str | None = None
    probe: bool = True
    dry_run: bool = False
    target: str | None = None
    sink: tuple[str, ...] = ()
    grace: float | None = None


def options(command: Callable[..., None], *, rule: bool = True) -> Callable[..., None]:
    """The options that every order takes; `rule`: whether one has to be said."""
    for option in reversed(
        [
            click.option(
                "--rule", required=rule, metavar="ID", help="What kind of credential it is: revoq rules list."
            ),
            click.option("--connection", default="", metavar="NAME", help="Which provider account to go through."),
            click.option(
                "--var",
                multiple=True,
                metavar="NAME=VALUE",
                help="A variable of the rule; a secret one as NAME=env:VARIABLE or NAME=file:/path.",
            ),
            click.option("--reason", metavar="TEXT", help="Why; it is kept in the audit trail."),
            click.option("--ticket", metavar="TEXT", help="The ticket that this belongs to."),
            click.option("--owner", metavar="TEXT", help="Whose credential it is."),
            click.option(
                "--dry-run",
                is_flag=True,
                help="Only look: say what would be sent. Nothing is changed, nothing written down, no job made.",
            ),
            click.option("--wait", is_flag=True, help="Wait for the end; the exit code tells how it ended."),
            click.option(
                "--timeout",
                type=Duration(),
                default=PATIENCE,
                show_default=True,
                help="How long --wait waits: 90s, 15m, 2h. The job goes on all the same.",
            ),
            formatted,
        ]
    ):
        command = option(command)
    return command


def sinks(command: Callable[..., None], *, required: bool = True) -> Callable[..., None]:
    """The option of everything that makes a key."""
    return click.option(
        "--sink",
        multiple=True,
        required=required,
        metavar="NAME",
        help="Where the new key goes, as the settings call it; several are delivered to in this order.",
    )(command)


def place(intent: Intent, request: Request, *, wait: bool, timeout: float, form: str) -> None:
    """Read the secret, submit, tell; then wait, where that was asked for, and end with the code that fits."""
    refuse_both(dry_run=request.dry_run, wait=wait)
    pairs = split_pairs(request.var)
    runtime = open_runtime(open_settings())
    rule = runtime.catalogue.get(request.rule).rule
    variables = read_variables(pairs, rule)
    if request.target is not None:
        variables |= find_target(runtime, rule.id, request.connection, request.target, variables)
    secret = read_credential(rule, variables, intent)
    order = Order(
        rule=rule.id,
        requester=requester(),
        intent=intent,
        secret=secret,
        variables=variables,
        connection=request.connection,
        cause=request.reason,
        ticket=request.ticket,
        owner=request.owner,
        probe=request.probe,
        sinks=request.sink,
        grace=request.grace,
        queue=ROTATION if intent in MAKES_KEYS else URGENT,
    )
    with redacting(*hidden(rule, order)):
        refuse_in_sight(secret, kept_texts(rule, request, variables))
        if request.dry_run:
            try_out(runtime, order, form)
            return
        receipt = submit(runtime, order)
    if not receipt.rung:
        note("the broker does not answer; the job is safe in the ledger and is rung when the broker is back")
    if not wait:
        tell_receipt(receipt, form)
        return
    job = follow(runtime, receipt.job_id, timeout)
    tell_end(runtime, receipt, job, form)
    click.get_current_context().exit(ending_of(job).exit_code)


def refuse_both(*, dry_run: bool, wait: bool) -> None:
    """Nothing is begun by a dry run."""
    if dry_run and wait:
        raise click.UsageError("--dry-run makes no job, so there is none to --wait for: say one of them")


def try_out(runtime: Runtime, order: Order, form: str) -> None:
    """Do what can be done without changing anything, tell what a job would do, and end with the code that fits."""
    checked = check(runtime, order)
    found = rehearse(runtime, checked)
    if form == JSON:
        write_json(rehearsing.gather(checked, found))
    else:
        write_lines(rehearsing.tell(checked, found))
    click.get_current_context().exit(rehearsing.ending_of(found.decision).exit_code)


def read_credential(rule: Rule, variables: dict[str, str], intent: Intent) -> Secret | None:
    """The credential itself; a terminal is not asked where the rule can do without and the variables name it.

    What is rotated is named, and its old key comes out of the sink: a pipe may bring it, and nobody is asked for it.
    """
    what = f"The secret ({rule.name})"
    if rule.secret == "none" or intent is Intent.ISSUE:  # noqa: S105 - a word of the language
        return None
    if intent is Intent.ROTATE:
        return read_optional_secret(what, ask=False)
    if rule.secret == "required":  # noqa: S105 - a word of the language
        return read_secret(what)
    named = any(variable.identifies and name in variables for name, variable in rule.variables.items())
    return read_optional_secret(what, ask=not named)


def hidden(rule: Rule, order: Order) -> Sequence[Secret]:
    """Everything of the order that no log may show."""
    values = [Secret(order.variables[name]) for name in secret_variables(rule) if name in order.variables]
    return [*values, *([order.secret] if order.secret is not None else [])]


def kept_texts(rule: Rule, request: Request, variables: dict[str, str]) -> dict[str, str | None]:
    """The texts that are kept as they are."""
    plain = {f"--var {name}": value for name, value in variables.items() if name not in secret_variables(rule)}
    return {"--reason": request.reason, "--ticket": request.ticket, "--owner": request.owner, **plain}


def tell_receipt(receipt: Receipt, form: str) -> None:
    """The job's id, and how to follow it."""
    if form == JSON:
        write_json(receipt_row(receipt))
        return
    joined = ", which was open already for the same" if receipt.joined else ""
    say(f"{receipt.job_id} is queued{joined}.")
    say(f"Follow it: revoq jobs show {receipt.job_id}")


def receipt_row(receipt: Receipt) -> dict[str, Any]:
    return {"job": receipt.job_id, "joined": receipt.joined, "rung": receipt.rung}


def follow(runtime: Runtime, job_id: str, timeout: float) -> Job:
    """Wait until the job rests; on a terminal a person may pick a candidate, and then it goes on."""
    while True:
        with Progress(runtime.database) as progress:
            job = wait_for(runtime.database, job_id, timeout, progress.show)
        undecided = job.state is State.PARKED and job.reason == Reason.NEEDS_SELECTION and bool(job.candidates)
        if not undecided or not can_ask() or (picked := offer(job)) is None:
            return job
        moves.retry(runtime.database, job.id, actor=requester(), why="picked at the terminal", picked=picked)
        ring_jobs(runtime, [job.id])


def tell_end(runtime: Runtime, receipt: Receipt, job: Job, form: str) -> None:
    """How it ended: all of it as JSON, or the few lines that a person needs."""
    if form == JSON:
        write_json({**receipt_row(receipt), **story.gather(runtime.database, job)})
    else:
        write_lines(story.headline(job, reads.steps(runtime.database, job.id)))
