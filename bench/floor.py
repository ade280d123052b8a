"""What the parts can do at best on this machine: the disk, Redis, PostgreSQL, and the provider itself."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from statistics import median
from urllib.parse import urlsplit

from bench.stand import Stand
from tests.servers.database import find_programs

SYNCS = 100
SECONDS = 3
AT_ONCE = 8
PIPELINED = 100
# What a checkpoint of ours does at the least: a row changed, a row added to a chain, one COMMIT.
CHECKPOINT = """\\set id random(1, 1000)
BEGIN;
UPDATE bench_jobs SET fence = fence + 1 WHERE id = :id;
INSERT INTO bench_rows (job, row) VALUES (:id, repeat('x', 300));
COMMIT;
"""
TABLES = (
    "CREATE TABLE bench_jobs (id integer PRIMARY KEY, fence integer NOT NULL)",
    "INSERT INTO bench_jobs SELECT n, 0 FROM generate_series(1, 1000) AS n",
    "CREATE TABLE bench_rows (job integer NOT NULL, row text NOT NULL)",
)


def measure(stand: Stand) -> dict[str, str]:
    """Each by its name, in words that can stand below the table."""
    return {
        "fsync of 8 KiB": f"{_fsync(stand.folder) * 1e6:,.0f} µs",
        "redis-benchmark": _redis(stand),
        f"pgbench, {AT_ONCE} at once, one UPDATE, one INSERT, one COMMIT": _pgbench(stand),
        "the provider itself": _provider(stand),
        "cores": f"{os.cpu_count()}, load {os.getloadavg()[0]:.1f}",
    }


def _fsync(folder: Path) -> float:
    """Seconds until the disk says that it has a page: what a commit cannot do without."""
    times = []
    with tempfile.NamedTemporaryFile(dir=folder) as file:
        for _ in range(SYNCS):
            began = time.perf_counter()
            os.pwrite(file.fileno(), bytes(8192), 0)
            os.fdatasync(file.fileno())
            times.append(time.perf_counter() - began)
    return median(times)


def _redis(stand: Stand) -> str:
    program = shutil.which("redis-benchmark") or shutil.which("valkey-benchmark")
    if program is None:
        return "is not installed"
    words = ["-p", str(stand.broker.port), "-t", "lpush,lpop", "-n", "20000", "-c", str(AT_ONCE), "-q"]
    said = subprocess.run([program, *words], capture_output=True, text=True, check=True).stdout
    rates = re.findall(r"(LPUSH|LPOP): ([0-9.]+) requests per second", said)
    return ", ".join(f"{name} {float(rate):,.0f}" for name, rate in rates) + " a second"


def _pgbench(stand: Stand) -> str:
    program = find_programs() / "pgbench"
    url = stand.postgres.create_database()
    name, port = url.rpartition("/")[2], str(stand.postgres.port)
    server: tuple[str | Path, ...] = ("-h", "127.0.0.1", "-p", port, "-U", "postgres")
    for statement in TABLES:
        psql = [find_programs() / "psql", *server, "-qc", statement, name]
        subprocess.run(psql, check=True, capture_output=True)
    script = stand.folder / "checkpoint.sql"
    script.write_text(CHECKPOINT, encoding="utf-8")
    words = ["-n", "-c", str(AT_ONCE), "-T", str(SECONDS), "-f", str(script), *server, name]
    said = subprocess.run([program, *words], capture_output=True, text=True, check=True).stdout
    rate = re.search(r"tps = ([0-9.]+)", said)
    return f"{float(rate[1]):,.0f} a second" if rate is not None else said


def _provider(stand: Stand) -> str:
    """Its own ceiling: requests are sent many at a time, so that asking costs next to nothing."""
    stand.provider.reset(0)
    asked = b"GET /v1/token HTTP/1.1\r\nHost: provider\r\nAuthorization: Bearer bt_floor-1\r\n\r\n"
    answered, began = 0, time.perf_counter()
    with socket.create_connection(("127.0.0.1", urlsplit(stand.provider.url).port or 0)) as connection:
        while time.perf_counter() - began < SECONDS:
            connection.sendall(asked * PIPELINED)
            left, seen = PIPELINED, b""
            while left:
                seen += connection.recv(65536)
                left -= seen.count(b"HTTP/1.1 200")
                seen = seen[-11:] if left else b""
            answered += PIPELINED
    return f"{answered / (time.perf_counter() - began):,.0f} requests a second at 0 ms"
