"""`revoq audit`: read the trail, and check that nobody has changed it; writing it is the ledger's."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import click

from scheduler.cli.desk import open_ledger, open_settings
from scheduler.cli.output import JSON, formatted, say, working, write_json, write_lines
from scheduler.cli.present import audit_row
from worker.ledger import audit, reads

LISTED = 100
MOST = 100_000
BROKEN = 1
OWN = frozenset({"job", "chain", "number", "at", "hash", "event", "actor"})
DIGESTS = frozenset({"fingerprint", "rule_digest", "plan_hash", "evidence"})
"""What says nothing to a person; JSON has it."""


@click.group(name="audit")
def command() -> None:
    """Read the trail, and check that nobody has changed it."""


@command.command(name="list")
@click.option("--job", metavar="ID", help="The rows of one job; without it all rows, in the order of time.")
@click.option("--limit", type=click.IntRange(1, MOST), default=LISTED, show_default=True)
@formatted
def show_list(job: str | None, limit: int, form: str) -> None:
    """Show rows of the trail, the oldest first."""
    db = open_ledger(open_settings())
    chain = None if job is None else job if job == audit.GLOBAL else reads.job(db, job).id
    rows = [audit_row(row) for row in reads.audit_rows(db, chain, limit)]
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
@formatted
def verify(form: str) -> None:
    """Walk every chain and the seals; exit code 1 where something was changed, with the first wrong row of each."""
    db = open_ledger(open_settings())
    tally = audit.Tally()
    with working("checking every row of the trail"), db.read() as connection:
        findings = list(audit.verify(connection, tally))
    if form == JSON:
        write_json(
            {
                "sound": not findings,
                "rows": tally.rows,
                "chains": tally.chains,
                "seals": tally.seals,
                "unsealed": tally.unsealed,
                "findings": [
                    {"chain": found.chain, "number": found.number, "fault": found.fault.value, "says": found.says}
                    for found in findings
                ],
            }
        )
    else:
        for found in findings:
            say(f"{found.chain}, row {found.number}: {found.fault.value}: {found.says}")
        how = "BROKEN" if findings else "Sound"
        say(f"{how}: {tally.rows} rows in {tally.chains} chains, {tally.seals} of them sealed.")
        if tally.unsealed:
            say(f"{tally.unsealed} rows are not sealed yet: until then nothing but their own chain protects them.")
    if findings:
        click.get_current_context().exit(BROKEN)
