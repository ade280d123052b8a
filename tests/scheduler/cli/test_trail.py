"""The trail by command: exported, verified alone, archived, signed by keys that rotate, and noticed when restored."""

from __future__ import annotations

import json
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from rules.lifecycle import Verdict
from scheduler import sweep
from scheduler.cli import checkup, door
from tests.scheduler.cli.conftest import Home, Jobs
from tests.scheduler.cli.test_doctor import examine, failures
from worker import delivery
from worker.ledger import reads
from worker.ledger.database import Database
from worker.runtime import build
from worker.settings import load_settings

TOMORROW = (datetime.now(UTC) + timedelta(days=2)).strftime("%Y-%m-%d")


def sign(home: Home) -> None:
    """The clock's round."""
    runtime = build(load_settings({**home.environ, "REVOQ_CONFIG": str(home.folder / "revoq.yaml")}))
    sweep.seal(runtime)
    assert delivery.deliver(runtime.settings, runtime.database) == {}
    runtime.database.dispose()


def alone(*words: str) -> Result:
    """A command on a machine that has no revoq: no settings, no ledger."""
    nowhere = {"REVOQ_DATABASE_URL": "nonsense", "HOME": "/nonexistent"}
    return CliRunner(env=nowhere).invoke(door, list(words), prog_name="revoq")


@pytest.fixture
def public(home: Home) -> str:
    """The public half of the key of a home that delivers its heads to a file."""
    home.write_config(audit_sinks={"log": {"kind": "file", "path": "heads.jsonl"}})
    return home.run("keys", "generate", "--audit").stdout.split()[-1]


@pytest.mark.parametrize("form", ["jsonl", "csv"])
def test_exported_and_verified_alone(home: Home, jobs: Jobs, public: str, form: str, tmp_path: Path) -> None:
    """An export, the public key and the delivered heads are enough; a change is told by row and kind."""
    job = jobs.done(Verdict.REVOKED)
    sign(home)
    file = tmp_path / "trail"
    exported = home.run("audit", "export", str(file), "--format", form)
    assert exported.exit_code == 0, exported.stderr
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    known = ["--key", public, "--heads", str(tmp_path / "heads.jsonl")]

    sound = alone("audit", "verify", str(file), *known)
    file.write_bytes(file.read_bytes().replace(b"kim@host", b"sam@host"))
    broken = alone("audit", "verify", str(file), *known, "--format", "json")

    assert sound.exit_code == 0, sound.output
    assert "Sound: 3 rows in 1 chains, 3 of them sealed, 1 heads." in sound.stdout
    assert broken.exit_code == 1
    assert (job, "edited") in {(found["chain"], found["fault"]) for found in json.loads(broken.stdout)["findings"]}
    assert home.run("audit", "export", str(file)).exit_code == 2


def test_the_ledger_is_compared_with_what_was_delivered(home: Home, jobs: Jobs, public: str) -> None:
    """The check of the ledger itself knows its key and its file sinks."""
    jobs.queued()
    sign(home)
    sound = home.run("audit", "verify")
    other = alone("keys", "generate").exit_code
    heads = home.folder / "heads.jsonl"
    heads.write_bytes(heads.read_bytes().replace(b'"number":1', b'"number":7', 1))

    broken = home.run("audit", "verify")

    assert (sound.exit_code, other) == (0, 2), sound.output
    assert broken.exit_code == 1
    assert "heads, row 7: cut" in broken.stdout


def test_archived(home: Home, jobs: Jobs, public: str, tmp_path: Path) -> None:
    """Rows of ended jobs leave for a file; with it the export is checked as a whole."""
    jobs.done(Verdict.REVOKED)
    jobs.queued()
    sign(home)
    archived = home.run("audit", "archive", str(tmp_path / "old.jsonl"), "--before", TOMORROW)
    sign(home)
    export = tmp_path / "trail.jsonl"
    home.run("audit", "export", str(export))

    assert "3 rows are in" in archived.stdout, archived.output
    assert home.run("audit", "verify").exit_code == 0
    without = json.loads(alone("audit", "verify", str(export), "--key", public, "--format", "json").stdout)
    archive = ["--archive", str(tmp_path / "old.jsonl")]
    whole = json.loads(alone("audit", "verify", str(export), *archive, "--format", "json").stdout)
    assert (without["sound"], without["left"], without["rows"]) == (True, 3, 2)
    assert (whole["sound"], whole["left"], whole["rows"]) == (True, 0, 5)
    again = home.run("audit", "archive", str(tmp_path / "none.jsonl"), "--before", TOMORROW)
    assert "nothing was written" in again.stdout
    assert not (tmp_path / "none.jsonl").exists()


def test_keys_of_the_trail(home: Home, jobs: Jobs, public: str) -> None:
    """The new key is announced by the old one, and the old public key goes on being enough."""
    path = home.data / "audit_keys"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    jobs.queued()
    sign(home)
    rotated = home.run("keys", "rotate", "--audit").stdout.split()[0]
    for _ in range(2):
        jobs.queued()
        sign(home)

    assert len(path.read_text().splitlines()) == 2
    assert home.run("audit", "verify", "--key", public).exit_code == 0
    assert set(home.ask("audit", "verify")["keys"]) == {public, rotated}
    assert home.run("audit", "verify", "--key", "0" * 64).exit_code == 1
    assert home.run("audit", "verify", "--key", "nonsense").exit_code == 2
    assert home.run("keys", "generate", "--audit").exit_code == 2


def test_a_restored_ledger(home: Home, jobs: Jobs, public: str, db: Database) -> None:
    """The doctor says so, and reconciling holds on until its probes have ended."""
    assert "nothing to reconcile" in home.run("db", "reconcile", "--reason", "x").stdout
    jobs.done(Verdict.REVOKED)
    sign(home)
    heads = home.folder / "heads.jsonl"
    line = heads.read_bytes()
    heads.write_bytes(line + line.replace(b'"number":1', b'"number":2', 1))
    sign(home)

    found = examine(home, checkup.look_at_database)
    waiting = home.run("db", "reconcile", "--reason", "the disk died", "--timeout", "1s", "--format", "json")

    assert [check.mend for check in failures(found, "audit")] == ["revoq db reconcile"]
    assert [check.mend for check in found["hold"]] == ["revoq db reconcile --reason TEXT"]
    assert waiting.exit_code == 6, waiting.output
    assert len(reads.holds(db)) == 1


def test_doctor_asks_for_sinks(home: Home) -> None:
    """Heads that stay on this machine prove little, and neither do unsigned ones."""
    found = examine(home, checkup.look_at_database)["audit"]
    assert [check.mend for check in found] == ["revoq keys generate --audit", "name audit_sinks in revoq.yaml"]
