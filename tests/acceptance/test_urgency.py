"""That incidents go before bulk, with real workers; how much sooner is measured in bench/, and not here."""

from __future__ import annotations

import os
import time

import psutil
import pytest

from tests.acceptance.conftest import Build
from worker.runtime import NICE

pytestmark = pytest.mark.acceptance


def test_bulk_leaves_the_processor_to_incidents(build_system: Build, sqlite_url: str) -> None:
    """The worker that takes no incidents, and each of its threads, stands behind the one that does."""
    system = build_system(sqlite_url, connections={}, secrets={})
    system.start("urgent", "bulk")
    assert niceness(system.processes["urgent"].family()) == {os.nice(0)}
    deadline = time.monotonic() + 10
    while (found := niceness(system.processes["bulk"].family())) != {NICE} and time.monotonic() < deadline:
        time.sleep(0.1)
    assert found == {NICE}


def niceness(family: list[psutil.Process]) -> set[int]:
    """How nice the threads of these processes are that outlive a glance."""
    threads = [thread.id for member in family if "celery" in " ".join(member.cmdline()) for thread in member.threads()]
    return {os.getpriority(os.PRIO_PROCESS, thread) for thread in threads}
