"""`revoq offboard`: end everything that a file, a report or a subject means; doing it is `scheduler.offboard`'s."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Any, get_args

import click
from rich.progress import Progress, SpinnerColumn, TextColumn

from rules.errors import BadInput
from scheduler.cli.batches import follow, tell_batch
from scheduler.cli.desk import open_runtime, open_settings, requester
from scheduler.cli.ordering import PATIENCE
from scheduler.cli.output import JSON, console, formatted, note, say, write_json, write_lines
from scheduler.cli.planned import applied_lines, applied_row, plan_lines, plan_row, subject_lines
from scheduler.cli.waiting import Duration
from scheduler.offboard.applying import apply, refuse_unplanned, too_many
from scheduler.offboard.formats import READERS
from scheduler.offboard.items import Row
from scheduler.offboard.loading import AnySource, Loaded, Step, Survey, load, survey
from scheduler.offboard.orders import Asked, Owned
from scheduler.offboard.planning import make
from scheduler.offboard.source import Source, Spoken
from worker.ledger.plans import PlanRow
from worker.runtime import Runtime, step_back

FAILED = 1
WRONG_USE = 2
SHOWN_EVERY = 100


@click.command(name="offboard")
@click.argument("file", type=click.Path(path_type=Path), required=False)
@click.option("--as", "named", type=click.Choice(sorted(READERS)), help="What the file is; else its content tells.")
@click.option("--connection", default="", metavar="NAME", help="For rows and findings of its provider that name none.")
@click.option("--subject", metavar="WHO", help="Instead of a file: everything of one person at the connection.")
@click.option("--except", "spared", multiple=True, metavar="ID", help="What the subject keeps, by the provider's id.")
@click.option("--owned", type=click.Choice(get_args(Owned)), help="What becomes of machines that they made; else none.")
@click.option("--sink", "sinks", multiple=True, metavar="NAME", help="Where --owned rotate delivers the new keys.")
@click.option("--reason", metavar="TEXT", help="Why, for rows that say none; it is kept in the audit trail.")
@click.option("--skip-invalid", is_flag=True, help="Go on without the rows that are wrong; without it, one stops all.")
@click.option("--override-limit", is_flag=True, help="Go on although the settings call it too many for one batch.")
@click.option("--dry-run", is_flag=True, help="Only look, and keep a plan: exactly what would be done, and its hash.")
@click.option("--approve", "hashed", metavar="HASH", help="Do what this plan says, as far as it still is so.")
@click.option("--strict", is_flag=True, help="With --approve: do none of it where anything moved since.")
@click.option(
    "--signature", type=click.Path(path_type=Path), help="With --approve: an SSH signature over the plan's hash."
)
@click.option("--wait", is_flag=True, help="Wait for the end; the exit code tells how the worst of them ended.")
@click.option(
    "--timeout",
    type=Duration(),
    default=PATIENCE,
    show_default=True,
    help="How long --wait waits: 90s, 15m, 2h. The batch goes on all the same.",
)
@formatted
def command(  # noqa: PLR0913 - each is an option
    *,
    file: Path | None,
    named: str | None,
    connection: str,
    subject: str | None,
    spared: tuple[str, ...],
    owned: Owned | None,
    sinks: tuple[str, ...],
    reason: str | None,
    skip_invalid: bool,
    override_limit: bool,
    dry_run: bool,
    hashed: str | None,
    strict: bool,
    signature: Path | None,
    wait: bool,
    timeout: float,
    form: str,
) -> None:
    """End everything that FILE names, or all that one person has at a connection, as one batch.

    FILE is CSV, JSON Lines or YAML, a row each with rule, secret (or env:NAME, file:PATH, vault:MOUNT/PATH#FIELD,
    aws:ID#FIELD), variables, connection and reason; or a report of Kingfisher, TruffleHog or Gitleaks. A row with
    connection and subject is everything of a person. All of it is checked before anything is done.
    """
    given = [
        name for name, value in (("FILE", file), ("--subject", subject), ("--approve", hashed)) if value is not None
    ]
    if len(given) != 1:
        raise click.UsageError(f"expected one of FILE, --subject and --approve, got {' and '.join(given) or 'none'}")
    if hashed is None and (strict or signature is not None):
        raise click.UsageError("--strict and --signature are about a plan: say its hash with --approve")
    if dry_run and (wait or hashed is not None):
        raise click.UsageError("--dry-run only looks: it goes with neither --wait nor --approve")
    if (owned == "rotate") != bool(sinks):
        raise click.UsageError("--owned rotate needs a --sink for the new keys, and nothing else does")
    if spared and subject is None:
        raise click.UsageError("--except says what a --subject keeps; in a file that is the column `except`")
    runtime = open_runtime(open_settings())
    if connection:
        runtime.settings.connection(connection)
    if hashed is not None:
        applied = apply(runtime, hashed, actor=requester(), strict=strict, signature=signature, override=override_limit)
        told, lines, loaded = applied_row(applied), applied_lines(applied), applied.loaded
    else:
        asked = Asked(requester=requester(), connection=connection, reason=reason, owned=owned, sinks=sinks)
        row = Row(place="--subject", connection=connection or None, subject=subject, spared=spared)
        with Spoken(row) if file is None else Source(file) as source:
            found = _survey(runtime, source, asked, named, skip_invalid=skip_invalid)
            if not found.rows:
                _tell_nothing(found, source.path, form)
                return
            if dry_run:
                with _Counting("looked up") as step:
                    plan = make(runtime, source, asked, found, step)
                _tell_plan(plan, form, too_many(runtime, found.acting))
                return
            refuse_unplanned(runtime, found, override=override_limit)
            # Sealing and hashing thousands of rows keeps a processor busy; an incident on this machine goes before.
            step_back()
            with _Counting("loaded") as step:
                loaded = load(runtime, source, asked, found, step)
        told, lines = receipt_row(found, loaded, source.path), _lines(found, loaded, source.path)
    _follow(runtime, loaded, told, lines, timeout if wait else None, form)


def _survey(runtime: Runtime, source: AnySource, asked: Asked, named: str | None, *, skip_invalid: bool) -> Survey:
    with _Counting("checked") as step:
        found = survey(runtime, source, asked, named, step)
    if found.wrong and not skip_invalid:
        raise BadInput(mistakes_of(found, source.path))
    return found


def _follow(
    runtime: Runtime,
    loaded: Loaded,
    told: dict[str, Any],
    lines: list[tuple[int, str]],
    timeout: float | None,
    form: str,
) -> None:
    """Tell what was submitted; with a time, wait for its end and end with the code that fits."""
    if not loaded.rung:
        note("the broker does not answer; the batch is safe in the ledger and is rung when the broker is back")
    if form != JSON:
        write_lines(lines)
    if timeout is None:
        if form == JSON:
            write_json(told)
        return
    row = follow(runtime.database, loaded.batch, timeout)
    if form == JSON:
        write_json({**told, **row})
    else:
        say()
        tell_batch(row)
    click.get_current_context().exit(row["exit_code"])


def _tell_plan(plan: PlanRow, form: str, warnings: list[str]) -> None:
    """A plan, for a program or for a person."""
    if form == JSON:
        write_json(plan_row(plan, warnings))
    else:
        write_lines(plan_lines(plan, warnings))


class _Counting(ExitStack):
    """How many rows so far, on a terminal; nothing in a pipe."""

    def __init__(self, word: str) -> None:
        super().__init__()
        self._word = word

    def __enter__(self) -> Step:  # type: ignore[override]
        super().__enter__()
        paper = console(err=True)
        if not paper.is_terminal:
            return lambda _: None
        bar = self.enter_context(
            Progress(SpinnerColumn(), TextColumn("{task.completed:.0f} rows " + self._word), console=paper)
        )
        task = bar.add_task(self._word, total=None)

        def step(count: int) -> None:
            if count % SHOWN_EVERY == 0:
                bar.update(task, completed=count)

        return step


def mistakes_of(found: Survey, file: Path) -> str:
    """Every mistake with its place, one a line, and what to do."""
    lines = [f"{file}:{mistake.place}: {mistake.says}" for mistake in found.mistakes]
    if found.wrong > len(found.mistakes):
        lines.append(f"and {found.wrong - len(found.mistakes)} more")
    lines.append(
        f"{_count(found.wrong, 'mistake')}, so nothing was submitted: mend the file, or leave out what is wrong with "
        "--skip-invalid"
    )
    return "\n".join(lines)


def receipt_row(found: Survey, loaded: Loaded | None, file: Path) -> dict[str, Any]:
    """What became of the file, as keys that stay."""
    return {
        "batch": loaded.batch if loaded is not None else None,
        "format": found.format,
        "rows": found.rows,
        "submitted": loaded.opened if loaded is not None else 0,
        "joined": loaded.joined if loaded is not None else 0,
        "repeated": loaded.repeated if loaded is not None else 0,
        "rung": loaded.rung if loaded is not None else False,
        "skipped": found.wrong,
        "subjects": found.subjects,
        "mistakes": [{"place": mistake.place, "says": mistake.says} for mistake in found.mistakes],
        "without_rule": [
            {"kind": kind, "says": says, "count": count, "places": found.without_rule[kind, says]}
            for (kind, says), count in found.counts.items()
        ],
        "holds_secrets": _files(found, file),
    }


def _files(found: Survey, file: Path) -> list[str]:
    return [*([str(file)] if found.bare else []), *(str(path) for path in found.files)]


def _lines(found: Survey, loaded: Loaded, file: Path) -> list[tuple[int, str]]:
    """The same for a person."""
    lines = [(0, f"{loaded.batch}: {_count(loaded.opened, 'job')} submitted from {file} ({found.format}).")]
    if loaded.joined:
        lines.append((2, f"{loaded.joined} more of it were open already: they go on, and count here too."))
    if loaded.repeated:
        lines.append((2, f"{loaded.repeated} named a credential that this batch has already."))
    lines += [line for each in found.subjects for line in subject_lines(each)]
    lines += _skipped(found, file)
    lines += [(0, f"{path} still holds secrets: delete it when it is needed no more.") for path in _files(found, file)]
    lines.append((0, f"Follow it: revoq batches show {loaded.batch}"))
    return lines


def _skipped(found: Survey, file: Path) -> list[tuple[int, str]]:
    lines = [(2, f"left out, {file}:{mistake.place}: {mistake.says}") for mistake in found.mistakes]
    if found.wrong > len(found.mistakes):
        lines.append((2, f"left out: {found.wrong - len(found.mistakes)} more"))
    if found.unmatched:
        lines.append((0, f"{_count(found.unmatched, 'finding')} cannot be dealt with here:"))
    for (kind, says), count in found.counts.items():
        places = found.without_rule[kind, says]
        more = ", …" if count > len(places) else ""
        lines.append((2, f"{count} of {kind or 'others'}: {says} ({', '.join(places)}{more})"))
    return lines


def _tell_nothing(found: Survey, file: Path, form: str) -> None:
    """There is nothing to submit: that is well where there was nothing to find."""
    if form == JSON:
        write_json(receipt_row(found, None, file))
    else:
        write_lines(_skipped(found, file))
        say(f"{file} ({found.format}) names nothing that can be submitted.")
    click.get_current_context().exit(FAILED if found.unmatched or found.wrong else 0)


def _count(number: int, word: str) -> str:
    return f"{number} {word}{'' if number == 1 else 's'}"
