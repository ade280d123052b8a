"""What runs is kept running, and ends when the keeper ends, whatever it does about it."""

from __future__ import annotations

import os
import signal
import stat
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from scheduler.errors import NotStarted
from scheduler.keeper import Keeper, Kept, is_listening, members
from scheduler.processes import Process, control_socket, log_file, run_dir
from tests.scheduler.cli.conftest import short_folder
from worker.settings import Settings

__all__ = ["short_folder"]

SLEEPS = "import time\nprint('begun', flush=True)\ntime.sleep(600)"
STUBBORN = f"""
import signal, subprocess, sys
signal.signal(signal.SIGTERM, signal.SIG_IGN)
subprocess.Popen([sys.executable, "-c", {SLEEPS!r}])
{SLEEPS}
"""


@pytest.fixture
def settings(short_folder: Path) -> Settings:
    """Settings with a data folder of the test's own."""
    return Settings(data_dir=short_folder / "data")


@pytest.fixture
def keep(settings: Settings) -> Iterator[Callable[..., Keeper]]:
    """Start a keeper; it is stopped with the test."""
    started: list[Keeper] = []

    def start(**scripts: str) -> Keeper:
        processes = []
        for name, text in scripts.items():
            path = settings.data_dir.parent / f"{name}.py"
            path.write_text(text)
            processes.append(Process(name, (sys.executable, str(path)), patience=1))
        keeper = Keeper(settings, processes, os.environ)
        keeper.start()
        started.append(keeper)
        return keeper

    yield start
    for keeper in started:
        keeper.stop()


def wait_for(keeper: Keeper, wanted: Callable[[list[Kept]], bool]) -> list[Kept]:
    """Look until the processes are as wanted."""
    deadline = time.monotonic() + 20
    while not wanted(kept := keeper.states()):
        assert time.monotonic() < deadline, kept
        time.sleep(0.05)
    return kept


def all_running(kept: list[Kept]) -> bool:
    """Whether every process runs."""
    return bool(kept) and all(each.state == "RUNNING" for each in kept)


def session_of(keeper: Keeper) -> int:
    """The session that everything runs in."""
    return os.getsid(keeper.states()[0].pid or 0)


def test_what_dies_is_started_again(keep: Callable[..., Keeper]) -> None:
    """Kill -9 of a process: another one takes its place."""
    keeper = keep(sleeper=SLEEPS)
    (first,) = wait_for(keeper, all_running)
    assert first.pid is not None

    os.kill(first.pid, signal.SIGKILL)

    (second,) = wait_for(keeper, lambda kept: all_running(kept) and kept[0].pid != first.pid)
    assert second.name == "sleeper"


def test_nothing_is_left(keep: Callable[..., Keeper], settings: Settings) -> None:
    """A process that ignores SIGTERM is killed in the end, with the process that it started itself."""
    keeper = keep(sleeper=SLEEPS, stubborn=STUBBORN)
    wait_for(keeper, all_running)
    session = session_of(keeper)
    assert len(members(session)) >= 3

    keeper.stop()

    assert members(session) == []
    assert not is_listening(control_socket(settings))


def test_nothing_is_left_of_a_killed_supervisor(keep: Callable[..., Keeper]) -> None:
    """Kill -9 of the supervisor itself: the keeper sees it, and its stop ends the orphans."""
    keeper = keep(sleeper=SLEEPS)
    wait_for(keeper, all_running)
    session = session_of(keeper)

    os.kill(session, signal.SIGKILL)
    deadline = time.monotonic() + 10
    while keeper.alive:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    keeper.stop()

    assert members(session) == []


def test_only_one_has_the_folder(keep: Callable[..., Keeper], settings: Settings) -> None:
    """A second one is refused, and the first one goes on."""
    keeper = keep(sleeper=SLEEPS)

    with pytest.raises(NotStarted, match="is running already"):
        Keeper(settings, [], os.environ).start()

    assert keeper.alive


def test_everything_is_its_owners_alone(keep: Callable[..., Keeper], settings: Settings) -> None:
    """Folders, sockets and logs."""
    keeper = keep(sleeper=SLEEPS)
    wait_for(keeper, all_running)

    for path in [settings.data_dir, *run_dir(settings).rglob("*")]:
        assert not stat.S_IMODE(path.stat().st_mode) & 0o077, path
    assert "begun" in log_file(settings, "sleeper").read_text()


def test_a_supervisor_that_cannot_start(settings: Settings) -> None:
    """Its last word is ours."""
    with pytest.raises(NotStarted, match="the supervisor does not start"):
        Keeper(settings, [Process("not a name", ("/bin/true",))], os.environ).start()
