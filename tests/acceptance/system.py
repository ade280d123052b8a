"""One running revoq of a test's own: settings, keys, database and the processes of DESIGN part 2; no provider here."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import yaml
from sqlalchemy import func, make_url, select

from tests.servers.broker import Broker
from tests.servers.ports import find_free_port
from tests.servers.process import Process
from tests.servers.tables import make_tables
from worker.ledger.database import Database
from worker.ledger.tables import audit

ROOT = Path(__file__).parents[2]
CELERY = [sys.executable, "-m", "celery"]
QUIET = ["--without-gossip", "--without-mingle"]
"""A worker is ready sooner without these, and nothing here depends on them."""


@dataclass
class System:
    """Everything that a test needs to submit a job at a terminal and to see it worked by real processes."""

    directory: Path
    broker: Broker
    database_url: str
    environ: dict[str, str]
    processes: dict[str, Process] = field(default_factory=dict)

    @classmethod
    def build(
        cls,
        directory: Path,
        broker: Broker,
        database_url: str,
        *,
        connections: Mapping[str, Any],
        secrets: Mapping[str, str],
        settings: Mapping[str, Any] | None = None,
    ) -> Self:
        """Write the settings, make the keys and the tables; no process is started yet."""
        config = directory / "revoq.yaml"
        data = directory / "data"
        chosen = {
            "data_dir": str(data),
            "broker_url": broker.url,
            "claim": "8s",
            "request_timeout": "3s",
            "ring_after": "2s",
            "sweep_every": "1s",
            "log_level": "debug",
            "log_format": "json",
            "connections": dict(connections),
            **(settings or {}),
        }
        config.write_text(yaml.safe_dump(chosen))
        config.chmod(0o600)
        environ = {name: os.environ[name] for name in ("HOME", "LANG", "PATH", "TMPDIR") if name in os.environ}
        environ |= {
            **secrets,
            "REVOQ_CONFIG": str(config),
            "REVOQ_DATABASE_URL": database_url,
            "PYTHONPATH": str(ROOT),
            "PYTHONUNBUFFERED": "1",
            "COLUMNS": "120",
            # Flower gives its API to nobody without a password, or this.
            "FLOWER_UNAUTHENTICATED_API": "true",
        }
        system = cls(directory, broker, database_url, environ)
        system.revoq("keys", "generate").check_returncode()
        make_tables(make_url(database_url))
        return system

    # ── the operator's door ───────────────────────────────────────────────────────────────────────────────────────

    def revoq(self, *words: str, stdin: str = "", within: float = 180.0) -> subprocess.CompletedProcess[str]:
        """One command at the terminal, with its output."""
        return subprocess.run(
            [sys.executable, "-m", "scheduler.cli", *words],
            input=stdin,
            capture_output=True,
            text=True,
            timeout=within,
            cwd=ROOT,
            env=self.environ,
            check=False,
        )

    def ask(self, *words: str, stdin: str = "") -> Any:
        """A command's answer as JSON; its exit code may be any."""
        done = self.revoq(*words, "--format", "json", stdin=stdin)
        assert done.stdout, done.stderr
        return json.loads(done.stdout)

    def submit(self, *words: str, stdin: str = "") -> str:
        """Submit without waiting; the job's id."""
        return str(self.ask("revoke", *words, stdin=stdin)["job"])

    def job(self, job_id: str) -> dict[str, Any]:
        """How a job stands, with its steps."""
        shown: dict[str, Any] = self.ask("jobs", "show", job_id)
        return shown

    def wait_for(
        self, job_id: str, wanted: Callable[[dict[str, Any]], bool], *, within: float = 60.0
    ) -> dict[str, Any]:
        """Ask whenever something was written, until the job is as wanted; an error tells what the processes wrote.

        The door takes most of a second of processor to open: asked all the time, it would slow down who is waited for.
        """
        deadline = time.monotonic() + within
        db = Database(self.database_url)
        try:
            written = trail_length(db)
            while not wanted(found := self.job(job_id)):
                while trail_length(db) == written:
                    assert time.monotonic() < deadline, f"{json.dumps(found, indent=1)}\n{self.logs()[-6000:]}"
                    time.sleep(0.05)
                written = trail_length(db)
        finally:
            db.dispose()
        return found

    def wait_ended(self, job_id: str, *, within: float = 60.0) -> dict[str, Any]:
        """Until it is done, parked, cancelled or expired."""
        return self.wait_for(
            job_id, lambda job: job["state"] in {"done", "parked", "cancelled", "expired"}, within=within
        )

    # ── the processes ─────────────────────────────────────────────────────────────────────────────────────────────

    def start(self, *names: str, environ: Mapping[str, str] | None = None, ready: bool = True) -> None:
        """Start processes by their names: urgent, bulk, clock, beat, flower; wait until the workers are ready.

        A second one of a kind is called clock-2, and so on. `environ` is what these have beside all others.
        """
        for name in names:
            self.processes[name] = Process.start(
                self.command(name),
                log=self.directory / f"{name}.log",
                cwd=ROOT,
                env={**self.environ, **(environ or {})},
            )
        if ready:
            self.wait_ready(*names)

    def wait_ready(self, *names: str) -> None:
        """Until the workers among these take jobs."""
        for name in names:
            if kind_of(name) in {"urgent", "bulk", "fork", "clock", "nursery"}:
                process = self.processes[name]
                process.wait_until(lambda p=process: "ready." in p.output())  # type: ignore[misc]

    def start_all(self) -> None:
        """The workers, the clock and its bell; Flower only where a test looks at it."""
        self.start("urgent", "bulk", "clock", "beat")

    def command(self, name: str) -> list[str]:
        """The command line of DESIGN part 2."""
        worker = [*CELERY, "-A", "worker.app", "worker", *QUIET, "-l", "debug", "-n", f"{name}@{self.directory.name}"]
        match kind_of(name):
            case "urgent":
                return [*worker, "-Q", "urgent"]
            case "bulk":
                return [*worker, "-Q", "bulk,rotation"]
            case "fork":
                return [*worker, "-Q", "bulk,rotation", "-P", "prefork", "-c", "2"]
            case "nursery":
                own = worker[worker.index("worker") + 1 :]
                # One with a number works for its own line alone; the only one for everybody.
                queues = "bulk,rotation" if name == "nursery" else name
                return [sys.executable, "-m", "tests.servers.nursery", *own, "-Q", queues]
            case "clock":
                clock = [*CELERY, "-A", "scheduler.app", "worker", *QUIET, "-l", "debug"]
                return [*clock, "-Q", "clock", "-P", "solo", "-n", f"{name}@{self.directory.name}"]
            case "beat":
                return [*CELERY, "-A", "scheduler.app", "beat", "-l", "debug"]
            case _:
                self.flower_port = find_free_port()
                flower = [*CELERY, "-A", "worker.app", "flower", "--address=127.0.0.1"]
                return [*flower, f"--port={self.flower_port}", "--read-only=True"]

    flower_port = 0

    def kill(self, name: str) -> None:
        """SIGKILL to a process and its family, as a machine that loses power would."""
        self.processes[name].kill()
        self.processes.pop(name).stop()

    def restart(self, name: str) -> None:
        """Start again what was killed."""
        self.start(name)

    def stop(self) -> None:
        """End everything, the clock first."""
        order = ("beat", "clock", "flower", "urgent", "bulk", "fork", "nursery")
        for name in sorted(self.processes, key=lambda name: order.index(kind_of(name))):
            self.processes.pop(name).stop()

    def freeze(self, name: str) -> None:
        """Stop a process where it stands."""
        for member in self.processes[name].family():
            member.send_signal(signal.SIGSTOP)

    def logs(self) -> str:
        """All that the processes have written."""
        return "\n".join(path.read_text(errors="replace") for path in sorted(self.directory.glob("*.log")))


def trail_length(db: Database) -> int:
    """How many rows the audit trail has: every move adds one."""
    with db.read() as conn:
        return conn.scalar(select(func.count()).select_from(audit)) or 0


def kind_of(name: str) -> str:
    """What a process is, whichever of its kind."""
    return name.partition("-")[0]
