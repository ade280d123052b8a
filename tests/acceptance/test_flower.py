"""Flower during a batch, in a real browser and by its API: it tells how the work goes, and neither leaks nor destroys.

REVOQ_TEST_FLOWER says how many jobs; `make flower` takes 500 and leaves the pictures in the folder that
REVOQ_TEST_PICTURES names.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from flower.urls import handlers
from playwright.sync_api import Page

from rules.lifecycle import State
from scheduler.processes import FLOWER_CONF
from tests.acceptance.canaries.search import find
from tests.acceptance.conftest import Build
from tests.acceptance.system import CELERY, System
from tests.acceptance.test_big_batch import LIMITS, settled, write_file
from tests.sandbox import Sandbox
from tests.sandbox.crowd import Crowd, gather
from tests.sandbox.fixtures import sandbox
from tests.servers.browser import running_browser
from tests.servers.ports import find_free_port
from tests.servers.process import Process
from tests.worker.bench import SANDBOX_RULES
from worker.ledger import reads
from worker.ledger.database import Database

__all__ = ["sandbox"]

COUNT = int(os.environ.get("REVOQ_TEST_FLOWER", "40"))
WITHIN = 120.0 + COUNT
PASSWORD = "a password that nobody guesses"
OPEN = ("/static/", "/login", "/logout")
"""What a stranger gets: style sheets, and two pages about signing in that hold nothing."""
SHOWN = {State.DONE: "SUCCESS", State.PARKED: "FAILURE", State.WAITING: "RETRY"}

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(WITHIN * 3 + 240)]


@dataclass
class Watch:
    """One Flower with a password, which keeps what it knows in a file."""

    system: System
    port: int
    process: Process

    @classmethod
    def start(cls, system: System, port: int) -> Watch:
        """As compose.yaml starts it, but for the port."""
        file = system.directory / "flower-password"
        file.write_text(PASSWORD)
        words = ["--address=127.0.0.1", f"--port={port}", "--read-only=True", "--persistent=True"]
        words += [f"--db={system.directory / 'flower'}", f"--conf={FLOWER_CONF}"]
        environ = {name: value for name, value in system.environ.items() if not name.startswith("FLOWER_")}
        process = Process.start(
            [*CELERY, "-A", "worker.app", "flower", *words],
            log=system.directory / "flower.log",
            env={**environ, "FLOWER_PASSWORD_FILE": str(file)},
        )
        watch = cls(system, port, process)
        process.wait_until(watch.answers)
        return watch

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def answers(self) -> bool:
        try:
            return self.get("/healthcheck").status_code == 200
        except httpx.HTTPError:
            return False

    def get(self, path: str) -> httpx.Response:
        """One page, with the password."""
        return httpx.get(f"{self.url}{path}", auth=("revoq", PASSWORD), timeout=60, trust_env=False)

    def tasks(self) -> dict[str, dict[str, Any]]:
        """Every task that carries a job, by its id."""
        told: dict[str, dict[str, Any]] = self.get("/api/tasks?limit=100000").json()
        return {name: task for name, task in told.items() if (task["name"] or "") in {"revoke", "probe"}}


Start = Callable[..., Watch]


@pytest.fixture
def watching() -> Iterator[Start]:
    """Start Flower on a port of its own; it ends with the test."""
    started: list[Watch] = []

    def start(system: System, port: int = 0) -> Watch:
        started.append(Watch.start(system, port or find_free_port()))
        return started[-1]

    yield start
    for each in started:
        each.process.stop()


@pytest.fixture
def system(build_system: Build, sandbox: Sandbox, postgres_url: str) -> tuple[System, Crowd]:
    """Workers and the clock, with a crowd at slow providers; nothing is submitted yet."""
    crowd = gather(sandbox, COUNT)
    for provider in {member.provider for member in crowd.members if member.provider}:
        sandbox.fault(provider, "delay", times=None, seconds=0.1)
    system = build_system(
        postgres_url,
        connections=crowd.connections(LIMITS),
        secrets=crowd.environment(),
        settings={"rules_path": [str(SANDBOX_RULES)], "claim": "60s", "request_timeout": "20s", "ring_after": "45s"},
    )
    system.start("urgent", "bulk", "clock", "beat")
    return system, crowd


def test_what_an_operator_sees(system: tuple[System, Crowd], watching: Start, tmp_path: Path, ledger: Database) -> None:
    """Names that read as work, labels without names, states as in the ledger; the same after Flower began again."""
    revoq, crowd = system
    watch = watching(revoq)
    told = json.loads(revoq.revoq("offboard", str(write_file(tmp_path, crowd)), "--format", "json").stdout)
    db = ledger
    pages: list[str] = []
    with running_browser() as browser:
        password = {"username": "revoq", "password": PASSWORD}
        page = browser.new_page(http_credentials=password, viewport={"width": 1280, "height": 900})  # type: ignore[arg-type]
        wait_for(lambda: settled(db, told["batch"]) >= COUNT // 4)
        pages += [look(page, watch, "tasks", "/tasks"), look(page, watch, "workers", "/workers")]
        wait_for(lambda: settled(db, told["batch"]) == COUNT)
        wait_for(lambda: agree(watch, db, told["batch"]))
        parked = next(name for name, task in watch.tasks().items() if task["state"] == "FAILURE")
        pages += [look(page, watch, "task", f"/task/{parked}"), look(page, watch, "queues", "/broker")]

    tasks = watch.tasks()
    seen = {task["name"] for task in watch.get("/api/tasks?limit=100000").json().values()}
    assert seen == {"revoke"}, "the clock's ticks would push the jobs out of sight"
    assert {name.rpartition(".")[0] for name in tasks} == {
        job.id for job in reads.jobs(db, batch=told["batch"], limit=COUNT + 1)
    }
    rules = {member.rule for member in crowd.members}
    assert {task["args"] for task in tasks.values()} == {f"({rule} revoke {told['batch']})" for rule in rules}
    assert all(word in pages[0] for word in ("revoke", told["batch"], "bulk@"))
    assert all(f"{name}@" in pages[1] for name in ("urgent", "bulk", "clock"))
    assert parked in pages[2]
    assert "urgent" in pages[3]
    texts = [member.secret for member in crowd.members if member.secret] + [*crowd.environment().values(), PASSWORD]
    secrets = {f"secret {number}": text for number, text in enumerate(texts)}
    paths = [
        "/",
        "/tasks",
        "/workers",
        "/broker",
        "/metrics",
        "/api/tasks",
        "/api/workers?refresh=1",
        "/api/task/types",
    ]
    paths += [f"/worker/{name}" for name in watch.get("/api/workers").json()]
    paths += [f"/task/{name}" for name in tasks]
    answers = {path: watch.get(path) for path in paths}
    assert {path for path, answer in answers.items() if answer.status_code != 200} == set()
    assert [path for path, answer in answers.items() if find(answer.content, secrets)] == []
    assert find("\n".join(pages).encode(), secrets) == []

    watch.process.stop()
    assert watching(revoq, watch.port).tasks().keys() == tasks.keys()


def test_strangers_see_nothing_and_nobody_changes_anything(
    build_system: Build, watching: Start, sqlite_url: str
) -> None:
    """Every page asks for the password, and with it every call that would control a worker is refused."""
    watch = watching(build_system(sqlite_url, connections={}, secrets={}))
    known = [handler[0] if isinstance(handler, tuple) else handler.regex.pattern for handler in handlers]
    paths = [path.rstrip("$").replace("(.+)", "x").replace("(.*)", "x") for path in known if path != r".*"]
    closed = [path.replace("/?", "") for path in paths if not path.startswith(OPEN)]
    for path in closed:
        for method in ("GET", "POST"):
            answer = httpx.request(method, f"{watch.url}{path}", timeout=30, trust_env=False, auth=None)
            assert answer.status_code in {401, 405}, (method, path, answer.status_code)
    controls = [path for path in closed if path.startswith(("/api/worker/", "/api/task/")) and "POST" in methods(path)]
    assert len(controls) > 10
    refused = {path: httpx.post(f"{watch.url}{path}", auth=("revoq", PASSWORD), timeout=30) for path in controls}
    assert {path: answer.status_code for path, answer in refused.items()} == dict.fromkeys(controls, 403)


def methods(path: str) -> set[str]:
    """The methods that Flower's handler of a path has of its own."""
    for handler in handlers:
        pattern, kind = (
            (handler[0], handler[1]) if isinstance(handler, tuple) else (handler.regex.pattern, handler.handler_class)
        )
        if pattern.rstrip("$").replace("(.+)", "x").replace("(.*)", "x") == path:
            return {name.upper() for name in ("get", "post") if name in vars(kind)}
    return set()


def agree(watch: Watch, db: Database, batch: str) -> bool:
    """Whether the last task of each job stands as the job does in the ledger."""
    tasks = watch.tasks()
    last = {
        name.rpartition(".")[0]: (int(name.rpartition(".")[2]), task["state"])
        for name, task in sorted(tasks.items(), key=lambda item: int(item[0].rpartition(".")[2]))
    }
    jobs = reads.jobs(db, batch=batch, limit=COUNT + 1)
    return all(job.id in last and last[job.id][1] == SHOWN.get(job.state) for job in jobs)


def look(page: Page, watch: Watch, name: str, path: str) -> str:
    """Open a page as a person does, take its picture, and give its text."""
    page.goto(f"{watch.url}{path}")
    page.wait_for_load_state("networkidle")
    folder = Path(os.environ.get("REVOQ_TEST_PICTURES", watch.system.directory / "pictures"))
    folder.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=folder / f"flower-{name}.png")
    return page.inner_text("body")


def wait_for(done: Callable[[], bool]) -> None:
    """Until it is so."""
    deadline = time.monotonic() + WITHIN
    while not done():
        assert time.monotonic() < deadline
        time.sleep(0.3)
