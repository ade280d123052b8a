"""What a benchmark stands on: Redis, a PostgreSQL that waits for its disk, the provider, and workers as real processes.

What is measured is the rows'. Both sides get their whole queue while their workers are stopped (SIGSTOP), so that a
producer never takes the processor from what is measured; the time runs from the moment at which they go on.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

import httpx
import psutil
from sqlalchemy import func, select

from bench import bare
from rules.secret import Secret
from scheduler.bell import ring
from scheduler.submit import Order, Plans, check, new_job
from tests.acceptance.system import CELERY, QUIET, ROOT, System
from tests.servers.broker import Broker, start_broker
from tests.servers.database import Postgres, running_postgres
from tests.servers.ports import find_free_port
from tests.servers.process import Process
from worker.app import BULK
from worker.ledger import batches
from worker.ledger.rows import NewJob
from worker.ledger.tables import jobs
from worker.log import configure
from worker.runtime import Runtime, build
from worker.settings import load_settings, using

RULES = Path(__file__).parent / "rules"
PLAIN, PROVED = "bench.token", "bench.proved"
CONNECTION = "local"
DURABLE = {"fsync": "on", "full_page_writes": "on", "synchronous_commit": "on", "shared_buffers": "512MB"}
DEFAULTS = {"claim": "120s", "request_timeout": "30s", "ring_after": "60s", "sweep_every": "5s", "log_level": "info"}
"""The product's own, where the tests' systems have shorter ones."""
CHUNK = 100
POLL = 0.25
"""Seconds between two looks at what is measured: when it ended is told by who ended it, and looking costs processor."""
LOST = 300.0
"""Seconds without an end after which something is wrong."""
_names = count(1)


def connection_name(place: int) -> str:
    """What the accounts at the provider are called: `local`, `local-1` and so on."""
    return f"{CONNECTION}-{place}" if place else CONNECTION


@dataclass(frozen=True)
class Pool:
    """How a side's workers run: so many processes, each with this pool and so much at once."""

    kind: str
    at_once: int
    processes: int = 1

    def __str__(self) -> str:
        one = f"{self.kind} {self.at_once}"
        return one if self.processes == 1 else f"{self.processes} processes of {one}"


@dataclass
class Provider:
    """The pretend provider's process."""

    url: str
    process: Process
    client: httpx.Client = field(default_factory=httpx.Client)

    def reset(self, delay: float, faults: float = 0.0) -> None:
        """Count anew, and answer like this from now on."""
        self.client.post(f"{self.url}/stats", params={"delay": delay, "faults": faults}).raise_for_status()

    def stats(self) -> dict[str, Any]:
        said: dict[str, Any] = self.client.get(f"{self.url}/stats").json()
        return said

    def wait_for(self, deletions: int) -> float:
        """Wait until so many were deleted; when the last one was."""
        began, seen = time.monotonic(), -1
        while (said := self.stats())["deletions"] < deletions:
            if said["deletions"] != seen:
                began, seen = time.monotonic(), said["deletions"]
            if time.monotonic() - began > LOST:
                raise TimeoutError(f"{said['deletions']} of {deletions} deletions, and no more for {LOST:g} s")
            time.sleep(POLL)
        return float(said["last"])


@dataclass
class Workers:
    """Worker processes that can be held still."""

    processes: list[Process]
    queue: str = BULK

    def freeze(self) -> None:
        for member in self.family():
            member.suspend()

    def thaw(self) -> float:
        """Let them go on; since when."""
        at = time.time()
        for member in self.family():
            member.resume()
        return at

    def family(self) -> list[psutil.Process]:
        return [member for process in self.processes for member in process.family()]

    def stop(self) -> None:
        for member in self.family():
            member.resume()
        for process in self.processes:
            process.stop()


@dataclass
class Bare:
    """The bare Celery task's side."""

    stand: Stand
    workers: Workers

    def run(self, number: int, delay: float = 0.0) -> float:
        """Tasks per second."""
        self.workers.freeze()
        self.stand.provider.reset(delay)
        bare.app.conf.broker_url = self.stand.broker.url
        with bare.app.producer_pool.acquire(block=True) as producer:
            for place in range(number):
                bare.app.send_task("bare", args=(f"bt_bare-{place}",), queue="bare", producer=producer)
        began = self.workers.thaw()
        return number / (self.stand.provider.wait_for(number) - began)


@dataclass
class Rig:
    """One revoq: its ledger, its producer inside this process, and workers."""

    stand: Stand
    system: System
    runtime: Runtime
    workers: list[Workers] = field(default_factory=list)
    spare: list[str] = field(default_factory=list)
    """Jobs that are staged and rung, for who claims them by hand."""

    def work(self, pool: Pool, *, queue: str = BULK) -> Workers:
        """Start workers of one queue."""
        started = Workers([self._worker(pool, queue) for _ in range(pool.processes)], queue)
        self.workers.append(started)
        return started

    @contextmanager
    def working(self, pool: Pool, number: int) -> Iterator[Workers]:
        """Workers that have done so many jobs already, for a while."""
        workers = self.work(pool)
        try:
            self.run(workers, number)
            yield workers
        finally:
            self.workers.remove(workers)
            workers.stop()

    def _worker(self, pool: Pool, queue: str) -> Process:
        name = f"bulk-{next(_names)}"
        command = [*CELERY, "-A", "worker.app", "worker", *QUIET, "-l", "info", "-n", f"{name}@bench"]
        command += ["-Q", queue, "-P", pool.kind, "-c", str(pool.at_once)]
        process = Process.start(command, log=self.system.directory / f"{name}.log", cwd=ROOT, env=self.system.environ)
        process.wait_until(lambda: "ready." in process.output())
        return process

    def stage(self, number: int, rule: str = PLAIN, *, queue: str = BULK, accounts: int = 1) -> str:
        """Write so many jobs down as one batch, opened and not rung; its id."""
        db = self.runtime.database
        batch = batches.begin(db, name="bench", source=db.new_id("source"), actor="bench").id
        for chunk in self.new_jobs(number, rule, queue=queue, accounts=accounts):
            batches.stage(db, batch, chunk)
        batches.release(db, batch, actor="bench")
        return batch

    def new_jobs(
        self, number: int, rule: str = PLAIN, *, queue: str = BULK, accounts: int = 1
    ) -> Iterator[list[NewJob]]:
        """So many jobs, sealed and ready to be written down, some at a time."""
        plans: Plans = {}
        orders = (
            Order(
                rule=rule,
                secret=Secret(f"bt_a-{place}"),
                connection=connection_name(place % accounts),
                requester="bench",
                queue=queue,
            )
            for place in self.stand.numbers(number)
        )
        chunk = []
        for order in orders:
            chunk.append(new_job(self.runtime, check(self.runtime, order, plans)))
            if len(chunk) == CHUNK:
                yield chunk
                chunk = []
        if chunk:
            yield chunk

    def ring(self, number: int) -> None:
        """Ring all of them at once: nothing sweeps here."""
        settings = self.runtime.settings
        ring(
            batches.ring_due(
                self.runtime.database, number, settings.ring_after, self.runtime.limits, settings.incident_share
            )
        )

    def run(self, workers: Workers, number: int, rule: str = PLAIN, *, delay: float = 0.0) -> float:
        """Jobs per second, from the workers' start until the last row is committed."""
        workers.freeze()
        self.stand.provider.reset(delay)
        batch = self.stage(number, rule, queue=workers.queue)
        self.ring(number)
        began = workers.thaw()
        self.stand.provider.wait_for(number)
        return number / (self.wait_ended(batch, number) - began)

    def wait_ended(self, batch: str, number: int) -> float:
        """Wait until all jobs of a batch have ended; when the last one did."""
        query = select(func.count(), func.max(jobs.c.ended_at)).where(
            jobs.c.batch == batch, jobs.c.ended_at.is_not(None)
        )
        began = time.monotonic()
        while True:
            with self.runtime.database.read() as connection:
                ended, last = connection.execute(query).one()
            if ended == number:
                return float(last) / 1_000_000
            if time.monotonic() - began > LOST:
                raise TimeoutError(f"{ended} of {number} jobs ended: {batches.counts(self.runtime.database, batch)}")
            time.sleep(POLL)

    def close(self) -> None:
        for workers in self.workers:
            workers.stop()
        self.system.stop()
        self.runtime.connections.close()
        self.runtime.database.dispose()


@dataclass
class Stand:
    """The servers that every row shares."""

    folder: Path
    broker: Broker
    postgres: Postgres
    provider: Provider
    stack: ExitStack
    used: int = 0

    def processor(self, workers: Workers) -> dict[str, float]:
        """Seconds of processor that each part has had so far; this does not change with who else uses the machine."""
        families = {
            "worker": workers.family(),
            "PostgreSQL": self.postgres.process.family(),
            "Redis": self.broker.process.family(),
            "provider": self.provider.process.family(),
        }
        return {name: sum(map(_spent, family)) for name, family in families.items()}

    def numbers(self, number: int) -> range:
        """Numbers of tokens that no job of this run has had."""
        begin, self.used = self.used, self.used + number
        return range(begin, self.used)

    @contextmanager
    def rig(
        self, *, sqlite: bool = False, settings: Mapping[str, Any] | None = None, accounts: int = 1
    ) -> Iterator[Rig]:
        """A revoq of its own, with a new database and so many accounts at the provider; its workers end with it."""
        self.broker.flushall()
        folder = self.folder / f"rig-{next(_names)}"
        rules = folder / "rules"
        rules.mkdir(parents=True)
        for file in RULES.glob("*.yaml"):
            text = file.read_text(encoding="utf-8").replace("http://provider.example", self.provider.url)
            (rules / file.name).write_text(text, encoding="utf-8")
        system = System.build(
            folder,
            self.broker,
            f"sqlite:///{folder}/revoq.db" if sqlite else self.postgres.create_database(),
            connections={
                connection_name(place): {"provider": "bench", "base_url": self.provider.url}
                for place in range(accounts)
            },
            secrets={},
            settings={**DEFAULTS, "rules_path": [str(rules)], **(settings or {})},
        )
        chosen = load_settings(system.environ)
        configure(chosen.model_copy(update={"log_level": "error"}))
        with using(chosen):
            rig = Rig(self, system, build(chosen))
            try:
                yield rig
            finally:
                rig.close()

    @contextmanager
    def bare(self, pool: Pool) -> Iterator[Bare]:
        """The bare task's workers."""
        environ = {"BENCH_BROKER": self.broker.url, "BENCH_PROVIDER": self.provider.url, "PYTHONPATH": str(ROOT)}
        processes = []
        for _ in range(pool.processes):
            name = f"bare-{next(_names)}"
            command = [*CELERY, "-A", "bench.bare", "worker", *QUIET, "-n", f"{name}@bench"]
            command += ["-P", pool.kind, "-c", str(pool.at_once)]
            processes.append(Process.start(command, log=self.folder / f"{name}.log", cwd=ROOT, env=environ))
        workers = Workers(processes)
        try:
            yield Bare(self, workers)
        finally:
            workers.stop()


@dataclass
class Metered:
    """One side of a pair that does so many jobs, and what a job of its last turn has cost, in words."""

    stand: Stand
    workers: Workers
    number: int
    turn: Callable[[], float]
    cost: str = ""

    def __call__(self) -> float:
        before = self.stand.processor(self.workers)
        rate = self.turn()
        after = self.stand.processor(self.workers)
        spent = {name: (after[name] - before[name]) * 1000 / self.number for name in after}
        parts = ", ".join(f"{name} {milliseconds:.1f}" for name, milliseconds in spent.items() if milliseconds >= 0.05)
        self.cost = f"{sum(spent.values()):.1f} ms of processor ({parts})"
        return rate


def _spent(member: psutil.Process) -> float:
    """Seconds of processor, those of its children that have ended included."""
    try:
        times = member.cpu_times()
    except psutil.NoSuchProcess:
        return 0.0
    return float(times.user + times.system + times.children_user + times.children_system)


@contextmanager
def open_stand() -> Iterator[Stand]:
    """Start the servers, and end them."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="revoq-bench-")))
        broker = start_broker(folder)
        stack.callback(broker.stop)
        postgres = stack.enter_context(running_postgres(settings=DURABLE))
        port = find_free_port()
        command: Sequence[str] = [sys.executable, "-m", "bench.provider", str(port)]
        process = stack.enter_context(Process.start(command, log=folder / "provider.log", cwd=ROOT))
        process.wait_until(lambda: "ready." in process.output())
        yield Stand(folder, broker, postgres, Provider(f"http://127.0.0.1:{port}", process), stack)
