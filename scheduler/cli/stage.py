"""Where the demo plays: a temporary folder, the pretend providers as a child process, settings that know both.

The pretend providers are part of a checkout (`tests/sandbox`) and not of an installation; they are spoken to over
loopback only. Nothing here reads or changes the settings, the database or the keys of whoever runs the demo.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import yaml

import scheduler
from rules.lifecycle import Reason, Verdict
from rules.secret import Secret
from scheduler.errors import NoCheckout, NotStarted
from worker.safe import Ring, write_ring
from worker.settings import CONFIG, Settings, load_settings
from worker.signing import write_signer

ANSWERS_WITHIN = 10.0
SINK = "files"
CONSUMERS = "consumers"
"""The folder in which each service user's consumer looks for its key."""
OURS = ("REVOQ_", "FLOWER_", "CELERY_")
"""Variables that could lead the demo to something real, and are kept from it."""


@dataclass(frozen=True, slots=True)
class Member:
    """One credential of the cast: what is done with it, what revoq must come to, and whether it must be dead then."""

    title: str
    rule: str
    connection: str
    provider: str
    id: str
    secret: str | None = field(repr=False)
    vars: Mapping[str, str]
    verdict: Verdict | None
    reason: Reason | None
    dead: bool

    @property
    def expected(self) -> str:
        """The verdict or the reason, in a word."""
        return str(self.verdict or self.reason)


@dataclass(frozen=True, slots=True)
class Rotation:
    """One service user whose key is replaced: its name in the sink, what its consumer has, what revoq must come to."""

    title: str
    rule: str
    connection: str
    provider: str
    name: str
    vars: Mapping[str, str]
    record: Mapping[str, str] = field(repr=False)
    secret_field: str
    verdict: Verdict | None
    reason: Reason | None

    @property
    def old(self) -> Secret:
        """The key that its consumer has at first."""
        return Secret(self.record[self.secret_field])


class Sandbox:
    """The pretend providers, running."""

    def __init__(self, process: subprocess.Popen[str], base_url: str) -> None:
        self._process = process
        # No proxy of the environment may stand between us and loopback.
        self._client = httpx.Client(base_url=base_url, timeout=ANSWERS_WITHIN, trust_env=False)
        self.base_url = base_url

    def seed_cast(self) -> dict[str, Any]:
        """Put the cast on stage; everything that is to be known of it."""
        answer: dict[str, Any] = self._client.post("/_sandbox/cast", json={}).raise_for_status().json()
        return answer

    def state(self) -> dict[str, dict[str, bool]]:
        """The truth: which credentials are really alive."""
        answer: dict[str, dict[str, bool]] = self._client.get("/_sandbox/state").raise_for_status().json()
        return answer

    def works(self, provider: str, secret: Secret) -> bool:
        """The truth of one secret: whether the provider takes it."""
        asked = {"provider": provider, "secret": secret.reveal()}
        return bool(self._client.post("/_sandbox/works", json=asked).raise_for_status().json())

    def stop(self) -> None:
        """End the process, the hard way where it does not listen."""
        self._client.close()
        self._process.terminate()
        try:
            self._process.wait(ANSWERS_WITHIN)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


@dataclass(frozen=True, slots=True)
class Stage:
    """Everything set up and nothing started yet but the providers."""

    folder: Path
    sandbox: Sandbox
    settings: Settings
    environ: dict[str, str]
    members: tuple[Member, ...]
    rotations: tuple[Rotation, ...]
    bystanders: tuple[tuple[str, str], ...]

    def file_of(self, name: str) -> Path:
        """Where the consumer of this name finds its key."""
        return self.folder / CONSUMERS / f"{name}.json"


@contextmanager
def set_up() -> Iterator[Stage]:
    """Build the stage, and take it down again whatever happens."""
    checkout = find_checkout()
    folder = Path(tempfile.mkdtemp(prefix="revoq-demo-"))
    try:
        sandbox = start_sandbox(checkout)
        try:
            yield furnish(folder, checkout, sandbox)
        finally:
            sandbox.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def find_checkout() -> Path:
    """The folder that holds the pretend providers."""
    root = Path(scheduler.__file__).parent.parent
    if not (root / "tests" / "sandbox" / "__main__.py").is_file():
        raise NoCheckout("the demo needs a checkout of revoq: its pretend providers (tests/sandbox) are not installed")
    return root


def start_sandbox(checkout: Path) -> Sandbox:
    """Start the providers on a port of their own choice; they say which in their first line."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.sandbox", "--port", "0"],
        cwd=checkout,
        env=clean(os.environ),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
        # Ctrl-C in a terminal goes to the whole group: the providers have to outlive the workers.
        start_new_session=True,
    )
    assert process.stdout is not None  # noqa: S101 - it is a pipe
    try:
        return Sandbox(process, str(json.loads(process.stdout.readline())["base_url"]))
    except BaseException as error:
        # A Ctrl-C that comes here must not leave it behind either.
        process.kill()
        process.wait()
        if isinstance(error, ValueError | KeyError | TypeError):
            raise NotStarted("the pretend providers do not start: python -m tests.sandbox tells why") from None
        raise


def furnish(folder: Path, checkout: Path, sandbox: Sandbox) -> Stage:
    """Keys, secrets in files of their owner's alone, and the settings."""
    cast = sandbox.seed_cast()
    data = folder / "data"
    write_ring(data / "keys", Ring.generate())
    write_signer(data / "audit_keys")
    config = folder / "revoq.yaml"
    chosen = {
        "data_dir": str(data),
        "rules_path": [str(checkout / "tests" / "sandbox" / "rules")],
        "flower_port": find_free_port(),
        "metrics_port": find_free_port(),
        "sweep_every": "1s",
        "ring_after": "5s",
        "request_timeout": "10s",
        "log_format": "json",
        "sinks": {SINK: {"kind": "file", "path": f"{folder / CONSUMERS}/{{name}}.json"}},
        "connections": refer(cast["connections"], write_secrets(folder / "secrets", cast["environment"])),
    }
    write_private(config, yaml.safe_dump(chosen, sort_keys=False))
    environ = {**clean(os.environ), CONFIG: str(config)}
    rotations = tuple(rotation_of(row) for row in cast["rotations"])
    (folder / CONSUMERS).mkdir(mode=0o700)
    for rotation in rotations:
        write_private(folder / CONSUMERS / f"{rotation.name}.json", json.dumps(dict(rotation.record)))
    return Stage(
        folder=folder,
        sandbox=sandbox,
        settings=load_settings(environ),
        environ=environ,
        members=tuple(member_of(row) for row in cast["members"]),
        rotations=rotations,
        bystanders=tuple((provider, identifier) for provider, identifier in cast["bystanders"]),
    )


def member_of(row: Mapping[str, Any]) -> Member:
    return Member(**{**row, **ending_of(row)})


def rotation_of(row: Mapping[str, Any]) -> Rotation:
    return Rotation(**{**row, **ending_of(row)})


def ending_of(row: Mapping[str, Any]) -> dict[str, Any]:
    """What revoq must come to, spelled."""
    verdict = Verdict(row["verdict"]) if row["verdict"] else None
    return {"verdict": verdict, "reason": Reason(row["reason"]) if row["reason"] else None}


def write_secrets(folder: Path, secrets: Mapping[str, str]) -> dict[str, str]:
    """Each secret in a file; the reference by the variable that it was meant for."""
    folder.mkdir(mode=0o700)
    for name, text in secrets.items():
        write_private(folder / name.lower(), text)
    return {f"env:{name}": f"file:{folder / name.lower()}" for name in secrets}


def refer(connections: Mapping[str, Any], references: Mapping[str, str]) -> dict[str, Any]:
    """The connections with their secrets in files, so that commands in another terminal find them too."""
    return {
        name: {
            **described,
            "identity": {key: references.get(text, text) for key, text in described["identity"].items()},
        }
        for name, described in connections.items()
    }


def write_private(path: Path, text: str) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        file.write(text)


def clean(environ: Mapping[str, str]) -> dict[str, str]:
    """The environment without what is set for a real revoq."""
    return {name: value for name, value in environ.items() if not name.startswith(OURS)}


def find_free_port() -> int:
    """A port of loopback that nobody listens on at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
