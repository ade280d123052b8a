"""B12: how fast the whole trail is checked, beside hashing its stored bytes and doing nothing else."""

from __future__ import annotations

import gc
import hashlib
import time
from collections.abc import Iterator

from sqlalchemy import text

from bench.fill import NUMBER, fill
from bench.measure import Findings, Goal, Line, interleave, middle, ratios
from bench.rows import Bench, Group
from bench.stand import Pool, Rig
from worker.ledger import audit, reads
from worker.ledger.rows import AuditRow
from worker.ledger.tables import credentials, jobs

ROWS = 200_000
"""Not the million that is asked for: rates are compared, and a million takes five times as long on either side."""
OWN = frozenset({"job", "number", "at", "event"})


def run(bench: Bench, _wanted: frozenset[str]) -> Findings:
    with bench.stand.rig() as rig:
        with rig.working(Pool("threads", 1), 1):
            pass
        (job,) = reads.jobs(rig.runtime.database, limit=1)
        trail = reads.audit_rows(rig.runtime.database, job.id, 100)
        chains = bench.some(ROWS) // len(trail)
        began = time.monotonic()
        _write(rig, trail, chains)
        wrote = time.monotonic() - began
        began = time.monotonic()
        stored = _stored(rig)
        fetched = len(stored) / (time.monotonic() - began)
        rounds = interleave([lambda: _verify(rig, len(stored)), lambda: _hash(stored)])
    line = Line(
        "B12",
        f"audit verify of {len(stored):,} sealed rows, rows/s ÷ SHA-256 alone",
        Goal(0.5),
        ratios(rounds),
        f"{middle(rounds, 0):,.0f} ÷ {middle(rounds, 1):,.0f} rows a second",
        f"{bench.size}{ROWS:,} rows instead of 1,000,000, since a check takes long (made in {wrote:.0f} s). A check "
        "reads every row from PostgreSQL, parses its JSON, follows its chain and the seals, and compares both; "
        f"to read the stored bytes alone goes at {fetched:,.0f} rows a second",
    )
    return Findings([line])


def _write(rig: Rig, trail: list[AuditRow], chains: int) -> None:
    """Chains that follow one another as the real one does, each under its own job, and their seals."""
    with rig.runtime.database.begin() as connection:
        cursor = connection.connection.cursor()
        sealed: list[tuple[object, ...]] = []
        head = audit.GENESIS.hash
        with cursor.copy("COPY audit (job, number, at, row, hash) FROM STDIN") as copy:
            for new in _entries(trail, chains):
                copy.write_row((new.job, new.number, new.at, new.row, new.hash))
                head = audit.seal_link(head, new.job, new.number, new.hash)
                sealed.append((len(sealed) + 1, new.job, new.number, new.hash, head, new.at))
        columns = "number, job, audit_number, hash, head, sealed_at"
        with cursor.copy(f"COPY seals ({columns}) FROM STDIN") as copy:
            for row in sealed:
                copy.write_row(row)
    last = f"(SELECT hash FROM audit WHERE job = 'job_0' || {NUMBER} AND number = {len(trail)})"  # noqa: S608 - our own names
    fill(rig, trail[0].job, chains, only=(credentials, jobs), also={jobs: {"audit_hash": last}})


def _entries(trail: list[AuditRow], chains: int) -> Iterator[audit.Entry]:
    told = [
        (row.at, row.facts["event"], {name: fact for name, fact in row.facts.items() if name not in OWN})
        for row in trail
    ]
    for chain in range(1, chains + 1):
        head, job = audit.GENESIS, f"job_0{chain:012}"
        for at, event, facts in told:
            new = audit.entry(head, job=job, at=at, event=event, **facts)
            head = new.head
            yield new


def _stored(rig: Rig) -> list[bytes]:
    with rig.runtime.database.read() as connection:
        return [bytes(row) for row in connection.scalars(text("SELECT row FROM audit ORDER BY job, number"))]


def _verify(rig: Rig, number: int) -> float:
    """Rows a second; a finding is an error, since nobody has touched this trail."""
    gc.collect()
    tally = audit.Tally()
    began = time.perf_counter()
    with rig.runtime.database.read() as connection:
        findings = list(audit.verify(connection, tally))
    took = time.perf_counter() - began
    if findings or tally.rows != number:
        raise ValueError(f"{tally.rows} of {number} rows, and {findings[:3]}")
    return number / took


def _hash(stored: list[bytes]) -> float:
    began = time.perf_counter()
    for row in stored:
        hashlib.sha256(row).hexdigest()
    return len(stored) / (time.perf_counter() - began)


GROUP = Group(("B12",), run)
