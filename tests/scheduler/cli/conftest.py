"""A revoq of a test's own on SQLite, and two ways in: within this process, or as a command of its own.

What asks the broker goes in as a command of its own: Celery reads its settings once in a process.
"""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import structlog
import yaml
from click.testing import CliRunner, Result

from rules.lifecycle import Intent, Reason, Verdict
from rules.secret import Secret
from scheduler.cli import door
from tests.servers.tables import make_tables
from worker.ledger import moves
from worker.ledger.database import Database
from worker.ledger.rows import Claim, NewJob, SealedSecret
from worker.safe import Ring, Safe, write_ring

ROOT = Path(__file__).parents[3]
NOBODY_LISTENS = "redis://127.0.0.1:1/0"
TOKEN = "0123456789abcdef0123456789abcdef"
CONNECTIONS = {
    "hub": {"provider": "jupyterhub", "base_url": "https://hub.example.com", "identity": {"token": "env:HUB_TOKEN"}}
}

PAIRED = """
rules:
  - id: paired.key
    name: Paired key
    pattern: '\\b(pk_[a-z0-9]{8})\\b'
    examples: [pk_abcd1234]
    variables:
      REGION: {about: where it lives, required: true, pattern: "[a-z]{2}"}
      OTHER_HALF: {about: the other half of it, secret: true}
    validation:
      type: Http
      content:
        request:
          method: GET
          url: "https://api.example.com/{{ REGION }}/me"
          headers: {X-Key: "{{ TOKEN }}", X-Half: "{{ OTHER_HALF | default: '' }}"}
          response_matcher: [{type: StatusMatch, status: [200]}]
        dead: [{type: StatusMatch, status: [401]}]
"""
"""A rule with a variable that is secret and one that is not."""


@dataclass
class Home:
    """The folder, the settings and the ledger that a test works with."""

    folder: Path
    environ: dict[str, str]
    ring: Ring = field(default_factory=Ring.generate)

    @property
    def data(self) -> Path:
        return self.folder / "data"

    @property
    def database_file(self) -> Path:
        return self.data / "revoq.db"

    def write_config(self, **settings: Any) -> None:
        """Write revoq.yaml for its owner alone; it replaces what was there."""
        path = self.folder / "revoq.yaml"
        path.write_text(yaml.safe_dump({"broker_url": NOBODY_LISTENS, "connections": CONNECTIONS, **settings}))
        path.chmod(0o600)

    def write_keys(self) -> None:
        """Write the key ring where the settings look for it."""
        write_ring(self.data / "keys", self.ring)

    def create_tables(self) -> Database:
        """Make the ledger; it is closed again, and opens when it is used."""
        database = Database(f"sqlite:///{self.database_file}")
        make_tables(database.url)
        return database

    def run(self, *words: str, stdin: str | bytes = "") -> Result:
        """One command, within this process."""
        return CliRunner(env=self.environ).invoke(door, list(words), input=stdin, prog_name="revoq")

    def ask(self, *words: str, stdin: str = "") -> Any:
        """A command's answer as JSON; its exit code may be any."""
        return json.loads(self.run(*words, "--format", "json", stdin=stdin).stdout)

    def command(self, *words: str) -> tuple[list[str], dict[str, str]]:
        """The command line and the environment of a process of its own."""
        kept = {name: os.environ[name] for name in ("HOME", "LANG", "PATH", "TMPDIR") if name in os.environ}
        environ = {**kept, "PYTHONPATH": str(ROOT), **self.environ}
        return [sys.executable, "-m", "scheduler.cli", *words], environ

    def shell(self, *words: str, stdin: str = "", within: float = 60) -> subprocess.CompletedProcess[str]:
        """One command, as a process of its own."""
        argv, environ = self.command(*words)
        return subprocess.run(
            argv,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=within,
            cwd=self.folder,
            env=environ,
            check=False,
        )


@pytest.fixture
def quiet_logs() -> Iterator[None]:
    """A command sets up the log of its process; here that is everybody's."""
    root = logging.getLogger()
    handlers, level, processors = list(root.handlers), root.level, structlog.get_config()
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.configure(**processors)


@pytest.fixture
def empty_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quiet_logs: None) -> Home:
    """A folder in which nothing was set up, with settings that name no real broker."""
    for name in [name for name in os.environ if name.startswith("REVOQ_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    home = Home(tmp_path, {"REVOQ_DATA_DIR": str(tmp_path / "data"), "HUB_TOKEN": "the-hub-s-own", "COLUMNS": "80"})
    home.write_config()
    return home


@pytest.fixture
def home(empty_home: Home) -> Home:
    """The same with keys and tables."""
    empty_home.write_keys()
    empty_home.create_tables().dispose()
    return empty_home


@pytest.fixture
def db(home: Home) -> Iterator[Database]:
    """The ledger of `home`."""
    database = Database(f"sqlite:///{home.database_file}")
    yield database
    database.dispose()


@dataclass
class Jobs:
    """Puts jobs into the ledger in any state, as producers and workers would."""

    db: Database
    safe: Safe
    count: int = 0

    def queued(self, secret: str = "", **options: Any) -> str:
        """A job that nobody has claimed yet."""
        self.count += 1
        text = secret or f"{self.count:032x}"
        new = NewJob(
            **{
                "fingerprint": self.safe.fingerprint(Secret(text)),
                "fingerprint_key": self.safe.fingerprint_key,
                "rule": "jupyterhub.token",
                "connection": "hub",
                "intent": Intent.REVOKE,
                "rule_digest": "0" * 64,
                "plan": {},
                "plan_hash": "0" * 64,
                "queue": "urgent",
                "requester": "kim@host",
                "secrets": [self.seal(text)],
                **options,
            }
        )
        return moves.submit(self.db, new).job_id

    def seal(self, text: str) -> SealedSecret:
        now = self.db.now()
        sealed = self.safe.seal(Secret(text), secret_id=f"sec_{self.count}", owner="o", kind="token")
        return SealedSecret(
            id=f"sec_{self.count}",
            kind="token",
            fingerprint=sealed.fingerprint,
            fingerprint_key=sealed.fingerprint_key,
            version=sealed.version,
            algorithm=sealed.algorithm,
            key_id=sealed.key_id,
            nonce=sealed.nonce,
            ciphertext=sealed.ciphertext,
            created_at=now,
            shred_by=now + 10**12,
        )

    def claimed(self, job_id: str | None = None, **options: Any) -> Claim:
        """A job that a worker has."""
        claim = moves.claim(self.db, job_id or self.queued(**options), lease=60, worker="w1")
        assert claim is not None
        return claim

    def parked(
        self,
        reason: Reason,
        candidates: Sequence[Mapping[str, Any]] | None = None,
        says: str = "it came so",
        **options: Any,
    ) -> str:
        """A job that needs a person."""
        claim = self.claimed(**options)
        moves.park(self.db, claim, reason, says, candidates)
        return claim.job.id

    def done(self, verdict: Verdict, **options: Any) -> str:
        """A job that has ended."""
        claim = self.claimed(**options)
        moves.finish(self.db, claim, verdict, "the provider answered 401")
        return claim.job.id


@pytest.fixture
def jobs(home: Home, db: Database) -> Jobs:
    """What fills the ledger of `home`."""
    return Jobs(db, Safe(home.ring))


@pytest.fixture
def short_folder() -> Iterator[Path]:
    """A folder whose path is short enough for sockets."""
    with tempfile.TemporaryDirectory(prefix="rq") as folder:
        yield Path(folder)
