"""`revoq demo`: the whole thing, embedded, against pretend providers; setting them up is `stage`'s."""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack

import click
from rich.progress import Progress as Bar

from rules.lifecycle import Reason, State
from rules.secret import Secret
from scheduler.cli import story, turnover
from scheduler.cli.desk import adopt, requester
from scheduler.cli.output import console, say, write_lines, write_table
from scheduler.cli.present import SETTLED, standing, what
from scheduler.cli.stage import Member, Rotation, Stage, set_up
from scheduler.cli.up import flower_url
from scheduler.errors import NotStarted
from scheduler.keeper import Keeper, is_listening
from scheduler.processes import commands
from scheduler.submit import Order, submit
from worker.ledger import audit, reads
from worker.ledger.database import upgrade
from worker.ledger.rows import Job
from worker.runtime import Runtime, build
from worker.settings import Settings

BROKER_WITHIN = 20.0
ENDED_WITHIN = 120.0
LOOK_EVERY = 0.2
DIFFERENT = 1


@click.command(name="demo")
@click.option("--keep", is_flag=True, help="Leave everything running to look around, until Ctrl-C.")
def command(*, keep: bool) -> None:
    """Revoke a dozen credentials and replace five keys at pretend providers, and show what came of each.

    Everything is embedded and in a temporary folder: nothing of your own is read or changed, and nothing is left.
    """
    # Whoever ends us, by whatever signal, and also where a shell let us begin with Ctrl-C ignored: nothing is left.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)
    with set_up() as stage:
        settings = adopt(stage.settings)
        runtime = build(settings)
        upgrade(runtime.database)
        try:
            sound = play(stage, runtime, keep=keep)
        finally:
            runtime.database.dispose()
    if not sound:
        click.get_current_context().exit(DIFFERENT)


def play(stage: Stage, runtime: Runtime, *, keep: bool) -> bool:
    """Start, submit, wait, show; whether everything came to what it should."""
    say(f"Pretend providers: {stage.sandbox.base_url} (nothing here is a real provider)")
    with Keeper(stage.settings, commands(stage.settings), stage.environ) as keeper:
        say(f"Broker, workers, clock and Flower are starting: {flower_url(stage.settings)}")
        wait_for_broker(stage.settings, keeper)
        submitted = [(member, order(runtime, member)) for member in stage.members]
        rotating = [(rotation, turnover.order(runtime, rotation)) for rotation in stage.rotations]
        say(
            f"{len(submitted)} credentials are to be revoked, and the keys of {len(rotating)} service users replaced.\n"
        )
        jobs = wait_for_all(runtime, [job_id for _, job_id in (*submitted, *rotating)])
        truth = stage.sandbox.state()
        cast = [(member, jobs[job_id]) for member, job_id in submitted]
        turned = [(rotation, jobs[job_id]) for rotation, job_id in rotating]
        show_verdicts(stage, cast, truth)
        say()
        turnover.show(stage, turned)
        show_parked(runtime, [*cast, *turned])
        wrong = [*differences(cast, truth), *turnover.differences(stage, turned)]
        wrong += [*harmed(stage, truth), *check_audit(runtime)]
        for sentence in wrong:
            say(f"DIFFERENT: {sentence}")
        say("Everything came out as it should." if not wrong else f"{len(wrong)} things are not as they should be.")
        show_next(stage, cast, keep=keep)
        if keep:
            stay(keeper)
        say("Stopping.")
    return not wrong


def wait_for_broker(settings: Settings, keeper: Keeper) -> None:
    """Wait until the embedded broker listens: a bell that nobody hears is rung again later only."""
    deadline = time.monotonic() + BROKER_WITHIN
    while not is_listening(settings.broker_socket):
        if time.monotonic() > deadline or not keeper.alive:
            raise NotStarted(f"the embedded broker does not start; its log is in {settings.data_dir}")
        time.sleep(0.05)


def order(runtime: Runtime, member: Member) -> str:
    """Submit one member through the corridor that every producer takes; the job's id."""
    wanted = Order(
        rule=member.rule,
        requester=requester(),
        secret=Secret(member.secret) if member.secret is not None else None,
        variables=member.vars,
        connection=member.connection,
        cause="the demo",
        ticket="DEMO-1",
    )
    return submit(runtime, wanted).job_id


def wait_for_all(runtime: Runtime, job_ids: Sequence[str]) -> Mapping[str, Job]:
    """Look until every job rests, with a bar on a terminal."""
    deadline = time.monotonic() + ENDED_WITHIN
    with ExitStack() as opened:
        bar = opened.enter_context(Bar(console=console(err=True), transient=True)) if sys.stderr.isatty() else None
        task = bar.add_task("settled", total=len(job_ids)) if bar is not None else None
        while True:
            jobs = {job_id: reads.job(runtime.database, job_id) for job_id in job_ids}
            settled = sum(job.state in SETTLED for job in jobs.values())
            if bar is not None and task is not None:
                bar.update(task, completed=settled)
            if settled == len(job_ids) or time.monotonic() > deadline:
                return jobs
            time.sleep(LOOK_EVERY)


def show_verdicts(stage: Stage, cast: Sequence[tuple[Member, Job]], truth: Mapping[str, Mapping[str, bool]]) -> None:
    """What revoq came to, how that is known, and what is true at the provider."""
    rows = [
        (
            member.title,
            came_to(job),
            (job.says or "").replace(stage.sandbox.base_url, ""),
            "never was" if not member.id else "alive" if alive(member, truth) else "dead",
        )
        for member, job in cast
    ]
    write_table(["credential", "came to", "how it is known", "really"], rows, whole=0)


def show_parked(runtime: Runtime, cast: Sequence[tuple[Member | Rotation, Job]]) -> None:
    """What needs a person, with what that person has to know and can type."""
    parked = [(player, job) for player, job in cast if job.state is State.PARKED]
    if parked:
        say(f"\n{len(parked)} wait for a person:\n")
    for player, job in parked:
        meant = "as it should" if job.reason == player.reason else "and should NOT"
        about = f"{what(job)}: {player.title} ({meant})"
        write_lines([(0, about), *indented(story.headline(job, reads.steps(runtime.database, job.id)))])
        say()


def indented(lines: Iterable[story.Line]) -> Iterator[story.Line]:
    """The same paragraphs, a little further in."""
    for indent, text in lines:
        yield indent + 2, text


def came_to(job: Job) -> str:
    """The verdict, or why it is parked."""
    return standing(job.state, job.verdict, job.reason)


def alive(member: Member, truth: Mapping[str, Mapping[str, bool]]) -> bool:
    return truth.get(member.provider, {}).get(member.id, False)


def differences(cast: Sequence[tuple[Member, Job]], truth: Mapping[str, Mapping[str, bool]]) -> Iterator[str]:
    """Every member that came to something else than it should, by revoq's word or in truth."""
    for member, job in cast:
        if (job.verdict, job.reason) != (member.verdict, member.reason):
            yield f"{member.title}: expected {member.expected}, got {came_to(job)} ({job.says})"
        if member.id and alive(member, truth) == member.dead:
            yield f"{member.title}: it should be {'dead' if member.dead else 'alive'} at the provider, and is not"


def harmed(stage: Stage, truth: Mapping[str, Mapping[str, bool]]) -> Iterator[str]:
    """Every credential that nobody asked to end, and that is dead now."""
    for provider, identifier in stage.bystanders:
        if not truth.get(provider, {}).get(identifier, False):
            yield f"{identifier} of {provider} was nobody's to revoke, and is dead"


def check_audit(runtime: Runtime) -> Iterator[str]:
    """The trail, walked as `revoq audit verify` does it."""
    tally = audit.Tally()
    with runtime.database.read() as connection:
        findings = list(audit.verify(connection, tally))
    say(f"The audit trail: {tally.rows} rows in {tally.chains} chains, {'sound' if not findings else 'BROKEN'}.")
    for found in findings:
        yield f"the audit trail, {found.chain}, row {found.number}: {found.says}"


def show_next(stage: Stage, cast: Sequence[tuple[Member, Job]], *, keep: bool) -> None:
    """What to type next."""
    say("\nWhat to type next:\n")
    if keep:
        say(f"  export REVOQ_CONFIG={stage.environ['REVOQ_CONFIG']}      (in another terminal)")
    else:
        say("  revoq demo --keep      leaves it running; these commands then work in another terminal:")
    example = cast[0][1].id
    say(f"  revoq jobs list\n  revoq jobs show {example}\n  revoq audit list --job {example}\n  revoq doctor")
    for _, job in cast:
        if job.reason == Reason.NEEDS_SELECTION and job.candidates:
            say(f"  revoq jobs select {job.id} CANDIDATE")
    say("  revoq up      starts the same for your own providers")


def stay(keeper: Keeper) -> None:
    """Leave everything running until Ctrl-C."""
    say("\nRunning until Ctrl-C.")
    try:
        while keeper.alive:
            time.sleep(LOOK_EVERY)
    except KeyboardInterrupt:
        say()
