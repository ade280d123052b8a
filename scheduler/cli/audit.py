"""`revoq audit`: read the trail, check that nobody has changed it, take it elsewhere; writing it is the ledger's."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path
from typing import Any

import click

from rules.errors import BadInput
from rules.units import SECOND
from scheduler.cli.desk import open_ledger, open_settings, requester
from scheduler.cli.output import JSON, formatted, say, working, write_json, write_lines
from scheduler.cli.present import audit_row
from worker.errors import SafeError
from worker.ledger import audit, heads, reads
from worker.ledger.archives import archive
from worker.ledger.exports import Form, export, read_heads, verify_file
from worker.ledger.heads import Signed
from worker.signing import read_public, read_signers

LISTED = 100
MOST = 100_000
BROKEN = 1
EXISTING = click.Path(exists=True, dir_okay=False, path_type=Path)
OWN = frozenset({"job", "chain", "number", "at", "hash", "event", "actor"})
DIGESTS = frozenset({"fingerprint", "rule_digest", "plan_hash", "evidence"})
"""What says nothing to a person; JSON has it."""


@click.group(name="audit")
def command() -> None:
    """Read the trail, check that nobody has changed it, export and archive it."""


@command.command(name="list")
@click.option("--job", metavar="ID", help="The rows of one job; without it all rows, in the order of time.")
@click.option("--limit", type=click.IntRange(1, MOST), default=LISTED, show_default=True)
@formatted
def show_list(job: str | None, limit: int, form: str) -> None:
    """Show rows of the trail, the oldest first."""
    db = open_ledger(open_settings())
    of = None if job is None else job if job == audit.GLOBAL else reads.job(db, job).id
    rows = [audit_row(row) for row in reads.audit_rows(db, of, limit)]
    if form == JSON:
        write_json(rows)
        return
    write_lines(line for row in rows for line in describe(row))


def describe(row: dict[str, Any]) -> Iterator[tuple[int, str]]:
    """A row for a person: when, where, what and who; below it what else it says, without the digests."""
    yield 0, f"{str(row['at'])[:19]} {row['chain']} {row['number']}: {row.get('event')} {row.get('actor', '')}".rstrip()
    facts = [f"{name} {_short(value)}" for name, value in row.items() if name not in OWN | DIGESTS]
    if facts:
        yield 4, ", ".join(facts)


def _short(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


@command.command(name="verify")
@click.argument("file", required=False, type=EXISTING)
@click.option("--key", metavar="PUBLIC", help="The public key that must have signed it; 64 characters, or their file.")
@click.option(
    "--heads", "heads_file", type=EXISTING, help="The heads that were delivered: what a file sink has written."
)
@click.option(
    "--archive", "archives", multiple=True, type=EXISTING, help="Rows that left, to check as well; repeatable."
)
@formatted
def verify(file: Path | None, key: str | None, heads_file: Path | None, archives: tuple[Path, ...], form: str) -> None:
    """Check every chain, the seals and the signed heads; of an export FILE, or of the ledger itself.

    An export is checked without ledger, settings or network. Exit code 1 where something was changed, with the first
    wrong row of each chain.
    """
    tally = audit.Tally()
    anchors = [] if key is None else [public_key(key)]
    delivered = read_heads(heads_file) if heads_file is not None else iter(())
    if file is not None:
        with working("checking every row of the export"), file.open("rb") as opened:
            findings = verify_file(opened, tally, anchors=anchors, delivered=delivered, archives=archives)
    elif archives:
        raise click.UsageError("--archive goes with an export: revoq audit verify FILE --archive ARCHIVE")
    else:
        findings = verify_ledger(anchors, delivered, tally)
    if form == JSON:
        write_json(
            {
                "sound": not findings,
                **asdict(tally),
                "findings": [
                    {"chain": found.chain, "number": found.number, "fault": found.fault.value, "says": found.says}
                    for found in findings
                ],
            }
        )
    else:
        write_lines((0, line) for line in tell(findings, tally))
    if findings:
        click.get_current_context().exit(BROKEN)


def public_key(text: str) -> str:
    """A public key, or the file that it is in."""
    return read_public(Path(text).read_text("utf-8", "replace") if Path(text).is_file() else text)


def verify_ledger(anchors: Sequence[str], delivered: Iterable[Signed], tally: audit.Tally) -> list[audit.Finding]:
    """The ledger of the settings, with our own keys and file sinks to go by where nothing else is said."""
    settings = open_settings()
    db = open_ledger(settings)
    with working("checking every row of the trail"), db.read() as connection:
        if not anchors and settings.audit_keys is not None and heads.latest(connection) is not None:
            anchors = [signer.public for signer in read_signers(settings.audit_keys)]
        ours = chain.from_iterable(read_heads(path) for path in settings.head_files if path.exists())
        return list(audit.verify(connection, tally, anchors=anchors, delivered=chain(delivered, ours)))


def tell(findings: Sequence[audit.Finding], tally: audit.Tally) -> Iterator[str]:
    """The result in sentences."""
    for found in findings:
        yield f"{found.chain}, row {found.number}: {found.fault.value}: {found.says}"
    how = "BROKEN" if findings else "Sound"
    yield f"{how}: {tally.rows} rows in {tally.chains} chains, {tally.seals} of them sealed, {tally.heads} heads."
    if tally.keys:
        yield f"Signed with {', '.join(tally.keys)}: compare that with what you know, or say --key."
    if tally.unsealed:
        yield f"{tally.unsealed} rows are not sealed yet: until then nothing but their own chain protects them."
    if tally.unsigned:
        yield f"{tally.unsigned} seals are not signed yet: until then the database's password is enough to forge them."
    if tally.left:
        yield f"{tally.left} rows left with archives, as signed heads tell."
    if tally.lost:
        yield f"{tally.lost} heads were lost when the ledger was restored, as a signed head tells."


@command.command(name="export")
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--format", "form", type=click.Choice([form.value for form in Form]), default="jsonl", show_default=True)
def export_trail(file: Path, form: str) -> None:
    """Write the whole trail into a new FILE, with its seals and signed heads, so that it can be verified anywhere."""
    db = open_ledger(open_settings())
    try:
        with open(file, "xb", opener=private) as out, db.read() as connection:
            out.writelines(export(connection, Form(form)))
    except FileExistsError:
        raise BadInput(f"{file} is there already: name a new file") from None
    except OSError as error:
        raise BadInput(f"cannot write {file}: {error.strerror}") from None
    say(f"The trail is in {file}, mode 0600: revoq audit verify {file} --key PUBLIC --heads FILE")


def private(path: str, flags: int) -> int:
    """Open for the owner alone."""
    return os.open(path, flags, 0o600)


@command.command(name="archive")
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@click.option(
    "--before", required=True, type=click.DateTime(["%Y-%m-%d"]), help="Jobs that ended before this day, UTC."
)
def archive_rows(file: Path, before: datetime) -> None:
    """Move the rows of jobs that ended before a day into a new FILE; a signed seam takes their place.

    Their seals stay, so that the trail goes on across the seam. Keep the file: with it, verify checks these rows, too.
    """
    settings = open_settings()
    if settings.audit_keys is None:
        raise SafeError("a seam has to be signed: run this where REVOQ_AUDIT_KEYS is, or revoq keys generate --audit")
    moment = int(before.replace(tzinfo=UTC).timestamp()) * SECOND
    signers = read_signers(settings.audit_keys)
    archived = archive(open_ledger(settings), signers, moment, file.absolute(), actor=requester())
    if archived is None:
        say("No sealed and signed row belongs to a job that ended before then: nothing was written.")
        return
    say(
        f"{archived.rows} rows are in {file}, mode 0600, and not in the ledger any more; head {archived.head} tells so."
    )
    say(f"SHA-256 {archived.digest}")
