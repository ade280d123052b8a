"""`revoq up` starts everything in one terminal, keeps it running, and leaves nothing behind."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import psutil
import pytest

import scheduler
from scheduler.cli import stage
from scheduler.cli.following import Tail
from scheduler.errors import NoCheckout
from scheduler.keeper import members
from tests.scheduler.cli.conftest import Home
from tests.servers.ports import find_free_port

WITHIN = 90.0


def until(look: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    """Look again until it is so; a process that has ended will not change any more."""
    deadline = time.monotonic() + WITHIN
    while not look():
        assert process.poll() is None, "revoq up has ended by itself"
        assert time.monotonic() < deadline
        time.sleep(0.2)


def test_up(short_folder: Path) -> None:
    """A first run makes keys and database; what dies is started again; Flower changes nothing; SIGTERM ends it all."""
    port = find_free_port()
    home = Home(short_folder, {"REVOQ_DATA_DIR": str(short_folder / "data"), "REVOQ_FLOWER_PORT": str(port)})
    home.environ["REVOQ_METRICS_PORT"] = str(find_free_port())
    # Without it Flower refuses every call of its API, and nothing would show that it is read-only.
    home.environ["FLOWER_UNAUTHENTICATED_API"] = "true"
    argv, environ = home.command("up")
    output = short_folder / "output"
    with output.open("w") as file:
        process = subprocess.Popen(
            argv, stdout=file, stderr=subprocess.STDOUT, text=True, cwd=short_folder, env=environ
        )
    try:
        until(lambda: output.read_text().count(" ready.") >= 3, process)
        session = int((home.data / "run" / "supervisor.pid").read_text())
        assert all(path.exists() for path in (home.data / "keys", home.database_file))
        assert home.shell("doctor").returncode == 0, home.shell("doctor").stdout

        with httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=30) as flower:
            assert flower.get("/api/tasks").status_code == 200
            assert flower.post("/api/worker/shutdown/urgent").status_code == 403
        figures = httpx.get(
            f"http://127.0.0.1:{home.environ['REVOQ_METRICS_PORT']}/metrics", trust_env=False, timeout=30
        )
        assert "revoq_ledger_up 1.0" in figures.text

        second = home.shell("up")
        assert (second.returncode, "is running already" in second.stderr) == (1, True)

        os.kill(next(pid for pid in members(session) if is_worker(pid, "bulk@%h")), signal.SIGKILL)
        until(lambda: "bulk was started again" in output.read_text(), process)

        process.send_signal(signal.SIGTERM)
        assert process.wait(WITHIN) == 0
        assert members(session) == []
        assert "Everything has stopped." in output.read_text()
    finally:
        process.kill()


def is_worker(pid: int, name: str) -> bool:
    """Whether this process is the worker of this name."""
    return name in psutil.Process(pid).cmdline()


@pytest.mark.parametrize("setting", ["REVOQ_FLOWER_PORT", "REVOQ_METRICS_PORT"])
def test_a_port_that_is_taken(home: Home, setting: str) -> None:
    """Said before anything is started."""
    home.environ["REVOQ_FLOWER_PORT"] = str(find_free_port())
    with socket.create_server(("127.0.0.1", 0)) as taken:
        home.environ[setting] = str(taken.getsockname()[1])
        result = home.run("up")

    assert result.exit_code == 1
    assert f"choose another one with {setting}" in result.stderr


def test_the_demo_needs_a_checkout(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An installation has no pretend providers, and says so."""
    monkeypatch.setattr(scheduler, "__file__", str(tmp_path / "scheduler" / "__init__.py"))

    with pytest.raises(NoCheckout, match="the demo needs a checkout"):
        stage.find_checkout()


def test_the_demo_touches_nothing_of_ours(tmp_path: Path) -> None:
    """No setting of a real revoq reaches it, and its secrets are in files of their owner's alone."""
    assert stage.clean({"REVOQ_DATABASE_URL": "x", "FLOWER_PORT": "1", "HOME": "/root"}) == {"HOME": "/root"}
    references = stage.write_secrets(tmp_path / "secrets", {"DEMO_TOKEN": "hunter2"})
    connections = {"x": {"provider": "x", "identity": {"token": "env:DEMO_TOKEN", "user": "kim"}}}

    found = stage.refer(connections, references)

    path = tmp_path / "secrets" / "demo_token"
    assert found["x"]["identity"] == {"token": f"file:{path}", "user": "kim"}
    assert (path.read_text(), path.stat().st_mode & 0o777) == ("hunter2", 0o600)


def test_a_log_is_followed_over_its_rotation(tmp_path: Path) -> None:
    """Whole lines only; what was written to the old file before the new one began is not lost."""
    path = tmp_path / "x.log"
    tail = Tail(path)
    seen = [list(tail.read())]
    path.write_text("one\ntw")
    seen.append(list(tail.read()))
    with path.open("a") as file:
        file.write("o\nthree\n")
    path.rename(tmp_path / "x.log.1")
    path.write_text("four\n")
    seen.append(list(tail.read()))
    tail.close()

    assert seen == [[], ["one"], ["two", "three", "four"]]
