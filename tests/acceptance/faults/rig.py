"""The whole system for all cases of a run: servers, processes and the roads between them, and what can be done to them.

A worker is a child of the nursery, so that another one is there at once. It reaches the database and the broker by
roads that can be cut, and PostgreSQL by a tap that can stop at one statement.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import psycopg
from sqlalchemy import make_url
from sqlalchemy.exc import DBAPIError, DisconnectionError

from rules.lifecycle import Outcome
from scheduler.submit import check, new_job
from tests.acceptance.faults.stage import PEOPLE, Actor, Stage
from tests.acceptance.system import System
from tests.servers.broker import Broker, start_broker
from tests.servers.database import Postgres, running_postgres
from tests.servers.road import Road, open_road
from tests.servers.tap import open_tap
from tests.servers.trap import Edge, Trap, When
from tests.worker.bench import SANDBOX_RULES
from worker.ledger import moves, reads
from worker.ledger.rows import Job
from worker.runtime import Runtime, build
from worker.settings import load_settings

RULES = Path(__file__).with_name("rules")
CLAIM = 4.0
"""Seconds; the harness waits for its end often."""
SETTINGS = {
    "rules_path": [str(SANDBOX_RULES), str(RULES)],
    "claim": f"{CLAIM:g}s",
    "request_timeout": "1.5s",
    "ring_after": "1s",
    "sweep_every": "1s",
    "log_level": "info",
}
WITHIN = 240.0
ROOM = 384
"""Megabytes of the small disk on which both servers keep their data."""
AWAY = (DBAPIError, DisconnectionError)


@dataclass
class Rig:
    """Everything that runs."""

    directory: Path
    broker: Broker
    postgres: Postgres | None
    system: System
    runtime: Runtime
    roads: Mapping[str, Road]
    tap: Trap
    small: Path | None
    sprung: Callable[[], None] = lambda: None
    extra: list[str] = field(default_factory=list)

    # ── the processes ─────────────────────────────────────────────────────────────────────────────────────────────

    @property
    def workers(self) -> list[psutil.Process]:
        """The workers of the nursery, oldest first."""
        return self.system.processes["nursery"].family()[1:]

    def signal_workers(self, number: signal.Signals) -> None:
        """To all that there are."""
        for worker in self.workers:
            with suppress(psutil.NoSuchProcess):
                worker.send_signal(number)

    def kill_workers(self) -> None:
        """SIGKILL; the nursery forks another one."""
        self.signal_workers(signal.SIGKILL)

    def another_worker(self) -> None:
        """One more beside those that are there."""
        self.system.processes["nursery"].send(signal.SIGUSR1)

    def restart(self, name: str) -> None:
        """Kill a process of the system and start it again."""
        self.system.kill(name)
        self.system.restart(name)

    def also(self, *names: str, environ: Mapping[str, str] | None = None) -> None:
        """Start more processes for this case alone."""
        self.system.start(*names, environ={**self.by_road, **(environ or {})})
        self.extra += names

    by_road: dict[str, str] = field(default_factory=dict)

    def tidy(self) -> None:
        """Make it whole again: what a case has hurt and not mended itself hurts no other."""
        for road in self.roads.values():
            road.heal()
        for name in self.extra:
            if name in self.system.processes:
                self.system.kill(name)
        self.extra.clear()
        self.tap.arm(None)
        for member in self.system.processes["nursery"].family():
            member.send_signal(signal.SIGCONT)
        for surplus in self.workers[:-1]:
            surplus.kill()
        self.keep_up("nursery", "clock", "beat")

    def keep_up(self, *names: str) -> None:
        """Start what has ended by itself, as a supervisor does."""
        for name in names:
            process = self.system.processes.get(name)
            if process is None or not process.alive:
                if process is not None:
                    process.stop()
                self.system.start(name, environ=self.by_road)

    # ── jobs ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def submit(self, actors: Sequence[Actor]) -> None:
        """Commit their jobs; the sweep rings for them."""
        for actor in actors:
            new = new_job(self.runtime, check(self.runtime, actor.order))
            actor.job_id = moves.submit(self.runtime.database, new).job_id

    def jobs(self, stage: Stage) -> dict[str, Job]:
        """How the jobs of a stage stand."""
        return {actor.job_id: reads.job(self.runtime.database, actor.job_id) for actor in stage.actors}

    def lost(self, stage: Stage) -> frozenset[str]:
        """The jobs of a stage of which the answer to a step that changes something was lost."""
        database = self.runtime.database
        return frozenset(
            actor.job_id
            for actor in stage.actors
            for step in reads.steps(database, actor.job_id)
            if step.mutating and step.outcome is Outcome.LOST
        )

    def settle(self, stage: Stage, *, waits: bool = False, within: float = WITHIN) -> dict[str, Job]:
        """Until each has ended, or is parked, or waits where that is how it has to end; else how they stand by then."""
        deadline, found = time.monotonic() + within, dict[str, Job]()
        while time.monotonic() < deadline:
            self.keep_up(*self.system.processes.keys() & {"clock", "beat"})
            with suppress(*AWAY):
                found = self.jobs(stage)
                if all(
                    job.state in PEOPLE or (waits and job.says and job.attempt == 0 and job.state == "waiting")
                    for job in found.values()
                ):
                    return found
            time.sleep(0.1)
        return found

    # ── the database ──────────────────────────────────────────────────────────────────────────────────────────────

    @property
    def server(self) -> Postgres:
        """PostgreSQL, in a case that is about it."""
        assert self.postgres is not None
        return self.postgres

    def signal_postgres(self, number: signal.Signals) -> None:
        for member in self.server.process.family():
            with suppress(psutil.NoSuchProcess):
                member.send_signal(number)

    def hang_up(self) -> None:
        """End every connection to every ledger there, as an operator would."""
        with psycopg.connect(host="127.0.0.1", port=self.server.port, user="postgres", autocommit=True) as connection:
            connection.execute(
                "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
                " WHERE pid <> pg_backend_pid() AND datname LIKE 'test%'"
            )

    def spring(self) -> None:
        """The statement has come."""
        self.sprung()

    def strike_at(self, begins: str, skip: int, when: When, hurt: Callable[[], None]) -> None:
        """Have something done at a statement; who has sent it hears nothing."""
        self.sprung = hurt
        self.tap.arm(Edge(skip + 1, when, begins))

    # ── the small disk ────────────────────────────────────────────────────────────────────────────────────────────

    @contextmanager
    def full_disk(self) -> Iterator[None]:
        """Not a byte is left for either server."""
        assert self.small is not None
        ballast = self.small / "ballast"
        with ballast.open("wb", buffering=0) as file, suppress(OSError):
            while file.write(b"\0" * 65536):
                pass
        try:
            yield
        finally:
            ballast.unlink()


@contextmanager
def open_rig(directory: Path, kind: str, stages: Sequence[Stage]) -> Iterator[Rig]:
    """Start everything. `kind` is the database's."""
    with ExitStack() as stack:
        small = stack.enter_context(small_disk())
        (directory / "sink").mkdir()
        redis_folder = (small or directory) / "redis"
        redis_folder.mkdir()
        broker = start_broker(redis_folder)
        stack.callback(broker.stop)
        postgres = None
        url = f"sqlite:///{directory / 'ledger.db'}"
        if kind == "postgresql":
            # A worker that is told "committed" may rely on that here, since this server is killed.
            postgres = stack.enter_context(
                running_postgres(small, {"synchronous_commit": "on", "max_wal_size": "64MB"})
            )
            url = postgres.create_database()
        for stage in stages:
            stage.open()
            stack.callback(stage.close)
        system = System.build(
            directory,
            broker,
            url,
            connections={name: each for stage in stages for name, each in stage.connections.items()},
            secrets={},
            settings={**SETTINGS, "sinks": {"file": {"kind": "file", "path": f"{directory}/sink/{{name}}"}}},
        )
        stack.callback(system.stop)
        runtime = build(load_settings(system.environ))
        stack.callback(runtime.database.dispose)
        stack.callback(runtime.connections.close)
        roads = {"broker": stack.enter_context(open_road("127.0.0.1", broker.port))}
        by_road = {"REVOQ_BROKER_URL": f"redis://127.0.0.1:{roads['broker'].port}/0"}
        tap = Trap(lambda: None)
        if postgres is not None:
            port = stack.enter_context(open_tap("127.0.0.1", postgres.port, tap))
            roads["database"] = stack.enter_context(open_road("127.0.0.1", port))
            by_road["REVOQ_DATABASE_URL"] = (
                make_url(url).set(port=roads["database"].port).render_as_string(hide_password=False)
            )
        rig = Rig(directory, broker, postgres, system, runtime, roads, tap, small, by_road=by_road)
        tap.kill = rig.spring
        system.start("nursery", "clock", "beat", environ=by_road)
        yield rig


@contextmanager
def small_disk() -> Iterator[Path | None]:
    """A disk that can be filled, where we may mount one; else None, and the cases that need it are skipped."""
    folder = Path(tempfile.mkdtemp(prefix="revoq-small-"))
    mount = ["mount", "-t", "tmpfs", "-o", f"size={ROOM}m,mode=0755", "tmpfs", str(folder)]
    mounted = os.geteuid() == 0 and subprocess.run(mount, capture_output=True, check=False).returncode == 0
    try:
        yield folder if mounted else None
    finally:
        if mounted:
            subprocess.run(["umount", "-l", str(folder)], check=False)
        shutil.rmtree(folder, ignore_errors=True)
