"""Long files: memory stays the same however long they are, and nobody who is in a hurry waits for them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from rules.errors import BadInput
from scheduler.offboard import loading
from scheduler.offboard.loading import CHUNK, load, survey
from scheduler.offboard.orders import Asked
from scheduler.offboard.source import Source
from tests.sandbox import Sandbox
from tests.sandbox.fixtures import sandbox
from tests.worker.bench import Bench, open_bench
from worker.ledger import batches, reads

__all__ = ["sandbox"]

LONG = bool(os.environ.get("REVOQ_TEST_LONG_FILES"))
SHORT_FILE, LONG_FILE = (10_000, 100_000) if LONG else (500, 5_000)
ROOT = Path(__file__).parents[3]
PEAK = """
import atexit, resource, sys
from scheduler.cli import door
atexit.register(lambda: print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, file=sys.stderr))
door.main(sys.argv[1:])
"""


def write_file(folder: Path, rows: int) -> Path:
    """A CSV with as many credentials."""
    file = folder / f"{rows}.csv"
    with file.open("w") as out:
        out.write("rule,secret,connection\n")
        out.writelines(f"jupyterhub.token,{number:032x},hub\n" for number in range(rows))
    return file


def measure(folder: Path, rows: int) -> int:
    """The peak memory of one command, in KiB, with a ledger of its own."""
    home = folder / str(rows)
    home.mkdir()
    (home / "revoq.yaml").write_text(
        json.dumps(
            {
                "data_dir": str(home),
                "broker_url": "redis://127.0.0.1:1/0",
                "connections": {
                    "hub": {
                        "provider": "jupyterhub",
                        "base_url": "https://hub.example.com",
                        "identity": {"token": "env:HUB_TOKEN"},
                    }
                },
            }
        )
    )
    kept = {name: os.environ[name] for name in ("HOME", "LANG", "PATH") if name in os.environ}
    environ = {**kept, "PYTHONPATH": str(ROOT), "REVOQ_CONFIG": str(home / "revoq.yaml"), "HUB_TOKEN": "its-own"}

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        argv = [sys.executable, "-c", PEAK, *words]
        return subprocess.run(argv, env=environ, capture_output=True, text=True, check=True, cwd=home)

    run("keys", "generate")
    run("db", "upgrade")
    done = run("offboard", str(write_file(home, rows)), "--format", "json")
    told = json.loads(done.stdout)
    assert (told["rows"], told["submitted"]) == (rows, rows)
    return int(done.stderr.split()[-1])


@pytest.mark.timeout(3600 if LONG else 300)
def test_memory_stays_flat(tmp_path: Path) -> None:
    """A file ten times as long takes at most half as much memory again; `make files` tries 100,000 rows."""
    short, long = measure(tmp_path, SHORT_FILE), measure(tmp_path, LONG_FILE)

    told = f"{SHORT_FILE} rows: {short} KiB, {LONG_FILE} rows: {long} KiB, ratio {long / short:.2f}"
    print(f"\n{told}")  # noqa: T201 - the figures are what the long variant is for
    assert long <= 1.5 * short, told


@pytest.fixture
def bench(tmp_path: Path, database_url: str, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    """A runtime with one connection, on both databases."""
    monkeypatch.setenv("HUB_TOKEN", "its-own")
    hub = {"provider": "jupyterhub", "base_url": sandbox.url("hub"), "identity": {"token": "env:HUB_TOKEN"}}
    with open_bench(tmp_path, database_url, sandbox, connections={"hub": hub}) as opened:
        yield opened


def test_an_incident_is_not_held_up(bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between any two chunks a single order goes in and can be claimed, while nothing of the batch can."""
    monkeypatch.setattr(loading, "ring_batches", lambda _runtime: True)
    urgent: list[str] = []
    asked = Asked(requester="ada")

    def order(rows: int) -> None:
        # As another process would: while the loader is between two transactions, and has not opened its gate.
        thread = threading.Thread(
            target=lambda: urgent.append(bench.submit("jupyterhub.token", f"{rows + 10**6:032x}", "hub"))
        )
        thread.start()
        thread.join(timeout=20)

    with Source(write_file(tmp_path, 3 * CHUNK)) as source:
        found = survey(bench.runtime, source, asked, None)
        loaded = load(bench.runtime, source, asked, found, order)

    assert len(urgent) == 3
    opened = batches.find(bench.runtime.database, loaded.batch).opened_at
    submitted = [reads.job(bench.runtime.database, job).first_seen for job in urgent]
    assert opened is not None
    assert all(at <= opened for at in submitted)
    assert loaded.opened == 3 * CHUNK


def test_what_was_checked_is_what_is_loaded(bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A reference that leads elsewhere by the second pass is caught by the number of rows, and nothing is opened."""
    (tmp_path / "token").write_text("f" * 32)
    file = tmp_path / "a.csv"
    file.write_text("rule,secret,connection\njupyterhub.token,file:token,hub\n")
    asked = Asked(requester="ada")
    with Source(file) as source:
        found = survey(bench.runtime, source, asked, None)
        assert found.rows == 1
        (tmp_path / "token").write_text("short")

        with pytest.raises(BadInput, match="changed between its check and its loading"):
            load(bench.runtime, source, asked, found)

    (batch,) = batches.newest(bench.runtime.database, 5)
    assert (batch.state.value, batches.counts(bench.runtime.database, batch.id)) == ("cancelled", [])
