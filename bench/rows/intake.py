"""B6: how fast credentials get into the ledger, beside sealing them and one bulk INSERT by hand."""

from __future__ import annotations

import csv
import time
from pathlib import Path

from sqlalchemy import Column, MetaData, String, Table, insert

from bench.measure import Findings, Goal, Line, interleave, middle, ratios
from bench.rows import Bench, Group
from bench.stand import CONNECTION, PLAIN, Rig, Workers
from rules.secret import Secret
from scheduler.offboard.loading import load, survey
from scheduler.offboard.orders import Asked
from scheduler.offboard.source import Source
from worker.envelopes import TOKEN_KIND, owner_of, seal_row
from worker.ledger import batches
from worker.ledger.batches import KEPT
from worker.ledger.tables import secrets

CREDENTIALS = 10_000


def run(bench: Bench, _wanted: frozenset[str]) -> Findings:
    number = bench.some(CREDENTIALS)
    with bench.stand.rig() as rig:
        by_hand = _table_by_hand(rig)
        read: list[float] = []
        rounds = interleave([lambda: _submit(rig, number, read), lambda: _by_hand(rig, by_hand, number)])
        written, served = _written(rig, number)
    ours, theirs = middle(rounds, 0), middle(rounds, 1)
    line = Line(
        "B6",
        f"{number} credentials submitted, until the last row is committed ÷ sealing and one bulk INSERT by hand",
        Goal(2, at_most=True),
        ratios(rounds),
        f"{ours:.2f} ÷ {theirs:.2f} s",
        f"{bench.size}ours is `revoq offboard` without its start: checking the file takes {middle([read], 0):.2f} s "
        f"of it, and writing down what is ready {written:.2f} s: each credential becomes four rows (credential, job, "
        "sealed secret, first link of the trail) and two digests, in transactions of 100 so that an incident never "
        f"waits. PostgreSQL's own processor is at work for {served:.2f} s of that: with nothing before it the ratio "
        f"would be {served / theirs:.1f}. By hand it is one row without a further index, and one COMMIT",
    )
    return Findings([line])


def _submit(rig: Rig, number: int, read: list[float]) -> float:
    """Seconds from the file to the last COMMIT of its rows; bells are rung after that."""
    file = write(rig, number)
    asked = Asked(requester="bench")
    with Source(file) as source:
        began = time.time()
        found = survey(rig.runtime, source, asked, None)
        read.append(time.time() - began)
        loaded = load(rig.runtime, source, asked, found)
    # The gate is opened by the last of these transactions; ringing comes after it.
    took = (batches.find(rig.runtime.database, loaded.batch).opened_at or 0) / 1_000_000 - began
    if loaded.opened != number:
        raise ValueError(f"{loaded} of {number}: {found.mistakes}")
    return took


def write(rig: Rig, number: int) -> Path:
    file = rig.system.directory / "leavers.csv"
    with file.open("w", newline="", encoding="utf-8") as out:
        writer = csv.writer(out)
        writer.writerow(["rule", "secret", "connection"])
        writer.writerows([PLAIN, f"bt_a-{place}", CONNECTION] for place in rig.stand.numbers(number))
    return file


def _written(rig: Rig, number: int) -> tuple[float, float]:
    """Seconds for the transactions alone, and PostgreSQL's of processor in them: the rows are made before."""
    db = rig.runtime.database
    chunks = list(rig.new_jobs(number))
    batch = batches.begin(db, name="bench", source=db.new_id("source"), actor="bench").id
    nobody = Workers([])
    before, began = rig.stand.processor(nobody)["PostgreSQL"], time.monotonic()
    for chunk in chunks:
        batches.stage(db, batch, chunk)
    return time.monotonic() - began, rig.stand.processor(nobody)["PostgreSQL"] - before


def _table_by_hand(rig: Rig) -> Table:
    """What somebody would make who only wants the tokens sealed and kept: a row each, and no index but the id's."""
    columns = [Column(column.name, column.type) for column in secrets.c if column.name in KEPT and column.name != "id"]
    table = Table("by_hand", MetaData(), Column("id", String(40), primary_key=True), *columns)
    with rig.runtime.database.begin() as connection:
        table.create(connection)
    return table


def _by_hand(rig: Rig, table: Table, number: int) -> float:
    runtime = rig.runtime
    began = time.monotonic()
    rows = []
    for place in rig.stand.numbers(number):
        secret = Secret(f"bt_a-{place}")
        owner = owner_of(PLAIN, CONNECTION, runtime.safe.fingerprint(secret))
        sealed = seal_row(
            runtime.safe,
            secret,
            owner=owner,
            kind=TOKEN_KIND,
            now=runtime.database.now(),
            shred_after=runtime.settings.shred_after,
        )
        rows.append({name: getattr(sealed, name) for name in KEPT})
    with runtime.database.begin() as connection:
        connection.execute(insert(table), rows)
    return time.monotonic() - began


GROUP = Group(("B6",), run)
