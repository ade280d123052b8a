"""The weekly rotation of Pangolin's service users, as twins and in place, against the pretend server in both of its
stores, with each trap of the real one: no key is lost, nobody loses a right, and what cannot be done says so.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from rules.lifecycle import Intent, Reason, Stage, State, Verdict
from rules.secret import Secret
from tests.sandbox import Sandbox
from tests.sandbox.pangolin import DAY, ServiceUser
from tests.worker.bench import Bench, open_bench
from tests.worker.test_providers import hurry
from worker.ledger import moves, reads
from worker.ledger.rows import Job

TWIN = "pangolin.service_user"
IN_PLACE = "pangolin.service_user_key"
ELSEWHERE = "11111111-0000-4000-8000-000000000001"
SALES = {"type": "catalog", "catalog_id": "5a1e5000-0000-4000-8000-000000000001"}
RAW = {"type": "namespace", "catalog_id": "5a1e5000-0000-4000-8000-000000000001", "namespace": "raw \"1\""}
FOR_EVER = 10_000


class Weekly:
    """A bench with service users whose keys a file sink holds, and what is to be seen of both."""

    def __init__(self, bench: Bench, folder: Path) -> None:
        self.bench, self.folder = bench, folder
        self.server = bench.sandbox.pangolin
        self.target = self.add("etl")

    def add(self, name: str, **options: Any) -> ServiceUser:
        """One more, with its key where its consumer finds it."""
        added = self.server.add_service_user(name, **options)
        self.deliver(added)
        return added

    def deliver(self, held: ServiceUser) -> None:
        """Put a key there, as if it had been delivered before."""
        self.file(held).write_text(json.dumps({"id": held.id, "key": held.key}))

    def file(self, target: ServiceUser) -> Path:
        """Where a consumer looks, whatever its service user is called this week."""
        return self.folder / f"{target.name.partition('~')[0]}.json"

    def delivered(self, target: ServiceUser) -> dict[str, str]:
        """The record that a consumer finds."""
        found: dict[str, str] = json.loads(self.file(target).read_text())
        return found

    def holder(self, target: ServiceUser) -> ServiceUser:
        """The service user that a consumer's record is about; its key has to be the one that is there."""
        record = self.delivered(target)
        found = self.server.service_users[record["id"]]
        assert found.key == record["key"]
        return found

    def submit(self, target: ServiceUser, rule: str = TWIN, connection: str = "pangolin", **options: Any) -> str:
        """Ask for a rotation; its job's id."""
        named = {"SERVICE_USER_ID": target.id, "SERVICE_USER_NAME": target.name}
        return self.bench.submit(
            rule,
            connection=connection,
            intent=Intent.ROTATE,
            variables=named | options.pop("variables", {}),
            sinks=("files",),
            grace=options.pop("grace", 0.0),
            **options,
        )

    def rotate(self, target: ServiceUser | None = None, rule: str = TWIN, **options: Any) -> Job:
        """Rotate, and carry the job to its end."""
        return self.bench.carry(self.submit(target or self.target, rule, **options), rounds=20)

    def retry(self, job: Job) -> Job:
        """Drive it again, and carry it to its end."""
        moves.retry(self.bench.runtime.database, job.id, actor="tester", why="it was mended")
        return self.bench.carry(job.id, rounds=20)

    def mutations(self) -> list[str]:
        """What was asked for that changes something, sign-ins and what they leave apart."""
        calls = self.bench.sandbox.mutations("pangolin", "/api/v1/*")
        return [call.method for call in calls if not call.path.endswith(("/login", "/auth/revoke"))]

    def named(self, base: str) -> list[ServiceUser]:
        """Every service user under this name, suffixed or not."""
        return [each for each in self.server.service_users.values() if each.name.partition("~")[0] == base]

    def stage(self, secret: str, rule: str = TWIN) -> Stage | None:
        """The stage that the ledger gives to a key."""
        fingerprint = self.bench.runtime.safe.fingerprint(Secret(secret))
        found = reads.find_credential(self.bench.runtime.database, fingerprint, rule, "pangolin")
        return None if found is None else found.stage

    def purposes(self, job: Job) -> list[str]:
        """What each step was for."""
        return [purpose for purpose, _, _ in self.bench.outline(job)]


def connect(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Connections as a tenant's administrator, as a service user, and as root with a tenant that it owns."""
    machine = sandbox.pangolin.add_service_user("revoq-machine", "tenant-admin")
    admin = sandbox.pangolin.add_user("revoq-bot", "tenant-admin")
    root = sandbox.pangolin.add_user("root", "root")
    monkeypatch.setenv("TEST_ADMIN", admin.password)
    monkeypatch.setenv("TEST_ROOT", root.password)
    monkeypatch.setenv("TEST_MACHINE", machine.key)
    where = {"provider": "pangolin", "base_url": sandbox.url("pangolin")}
    signed = {"service_user_id": machine.id, "key": "env:TEST_MACHINE", "tenant": machine.tenant}
    return {
        "pangolin": {**where, "identity": {"username": admin.username, "password": "env:TEST_ADMIN"}},
        "machine": {**where, "identity": signed},
        "owner": {
            **where,
            "identity": {"username": root.username, "password": "env:TEST_ROOT"},
            "owns": {"tenant": sandbox.pangolin.tenant},
        },
    }


@pytest.fixture(params=["memory", "postgres"])
def store(request: pytest.FixtureRequest, sandbox: Sandbox) -> str:
    """The real server's traps depend on where it keeps its things."""
    sandbox.switch("pangolin", store=request.param)
    return str(request.param)


def open_weekly(
    folder: Path, url: str, sandbox: Sandbox, connections: Mapping[str, Any], **settings: Any
) -> Iterator[Weekly]:
    """A bench with a file sink."""
    sink = folder / "sink"
    sink.mkdir()
    sinks = {"files": {"kind": "file", "path": f"{sink}/{{name}}.json"}}
    with open_bench(folder, url, sandbox, connections=connections, settings={"sinks": sinks, **settings}) as bench:
        hurry(bench)
        yield Weekly(bench, sink)


@pytest.fixture
def weekly(tmp_path: Path, sqlite_url: str, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> Iterator[Weekly]:
    """On SQLite, where a test is not about the ledger."""
    yield from open_weekly(tmp_path, sqlite_url, sandbox, connect(sandbox, monkeypatch))


@pytest.fixture
def impatient(tmp_path: Path, sqlite_url: str, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> Iterator[Weekly]:
    """One that gives up after a second."""
    yield from open_weekly(tmp_path, sqlite_url, sandbox, connect(sandbox, monkeypatch), retry_for="1s")


@pytest.fixture
def anywhere(tmp_path: Path, database_url: str, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> Iterator[Weekly]:
    """On SQLite and on PostgreSQL."""
    yield from open_weekly(tmp_path, database_url, sandbox, connect(sandbox, monkeypatch))


# ── the twin ──────────────────────────────────────────────────────────────────────────────────────────────────────


def is_rotated(weekly: Weekly, job: Job, old: ServiceUser) -> ServiceUser:
    """Whatever happened on the way: the consumer's record works, and nothing else of this name is left; the twin."""
    assert (job.state, job.verdict) == (State.DONE, Verdict.ROTATED), job.says
    twin = weekly.holder(old)
    assert weekly.named(old.name.partition("~")[0]) == [twin]
    assert weekly.server.may_sign_in(twin)
    assert (twin.role, twin.tenant) == (old.role, old.tenant)
    assert not any(weekly.server.is_alive(token) for token in weekly.server.tokens.values() if not token.username.startswith("revoq"))
    return twin


@pytest.mark.usefixtures("store")
def test_a_twin_takes_the_place_of_the_first(anywhere: Weekly) -> None:
    """Every step in its order; at the end one service user is there, and the ledger knows both keys."""
    old = anywhere.target
    job = anywhere.rotate()
    twin = is_rotated(anywhere, job, old)
    assert twin.id != old.id
    assert twin.name == f"etl~{job.id[-8:]}"
    assert twin.description == f"rotated (revoq {job.id})"
    assert anywhere.stage(twin.key) is Stage.CURRENT
    assert anywhere.stage(old.key) is Stage.RETIRED
    assert anywhere.bench.outline(job) == []
