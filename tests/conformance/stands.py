"""One stand for each kind of sink: the place itself, looked at and changed without the sink, and how it can fail."""

from __future__ import annotations

import fcntl
import json
import os
import shlex
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import urlsplit

import pytest
from botocore.exceptions import ClientError

from tests.sandbox import Sandbox
from tests.servers.consumer import KEY, Consumer
from tests.servers.front import Front, open_front
from tests.servers.moto import ROOT_ID, ROOT_SECRET, Moto
from tests.servers.ports import find_free_port
from tests.servers.recorder import running_recorder
from worker.client import hang_up
from worker.safe import Ring, Safe
from worker.settings import AwsPlace, CommandPlace, FilePlace, Place, Settings, VaultPlace, WebhookPlace
from worker.sinks import Sink, Target, open_sink

TARGET = Target("ann-bot", "5f3a", "hub")
NOBODY = 65534

Said = Mapping[str, Any]


class Stand(ABC):
    """A place where secrets go."""

    place: ClassVar[type[Place]]
    reads_back: ClassVar[bool] = True
    loses: ClassVar[bool] = True
    """Whether a write can be done without an answer; a file answers at once."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.safe = Safe(Ring.parse(Ring.generate().text))

    def open(self, *, patience: str = "10s", **changes: Any) -> Sink:
        """The sink, with some of its settings changed; a setting that is None is left out."""
        said = {name: value for name, value in {**self.said(), **changes}.items() if value is not None}
        settings = Settings.model_validate(
            {
                "data_dir": str(self.folder),
                "request_timeout": patience,
                "commands_allowed": self.commands,
                "sinks": {"here": said},
            }
        )
        return open_sink("here", settings, self.safe)

    commands: list[str] = []  # noqa: RUF012 - each stand has its own, and none changes it

    @abstractmethod
    def said(self) -> Said:
        """What the settings say."""

    @abstractmethod
    def stored(self) -> Mapping[str, str] | None:
        """What is really there."""

    @abstractmethod
    def write_behind(self, record: Mapping[str, str]) -> None:
        """Somebody else writes."""

    @abstractmethod
    def denied(self) -> Any:
        """A sink, while it has no right."""

    @abstractmethod
    def unreachable(self) -> Any:
        """A sink, while nobody answers."""

    @abstractmethod
    def losing(self) -> Any:
        """A sink whose next write is done, without an answer."""


class Remote(Stand):
    """A place behind a front door, which can lose an answer."""

    base: str = "url"

    def __init__(self, folder: Path, front: Front) -> None:
        super().__init__(folder)
        self.front = front

    @contextmanager
    def unreachable(self) -> Iterator[Sink]:
        """Nobody listens at its port."""
        given = self.said()
        nowhere = f"http://127.0.0.1:{find_free_port()}"
        yield self.open(
            **{
                name: nowhere + value.removeprefix(self.front.url)
                for name, value in given.items()
                if isinstance(value, str) and value.startswith(self.front.url)
            }
        )


# ── files ─────────────────────────────────────────────────────────────────────────────────────────────────────────


class FileStand(Stand):
    """A folder with a file for each target."""

    place = FilePlace
    loses = False
    form: ClassVar[Said] = {"format": "json"}

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.places = folder / "places"
        self.places.mkdir(mode=0o755, parents=True)
        self.file = self.places / TARGET.name

    def said(self) -> Said:
        return {"kind": "file", "path": f"{self.places}/{{name}}", **self.form}

    def stored(self) -> Mapping[str, str] | None:
        if not self.file.exists():
            return None
        assert self.file.stat().st_mode & 0o777 == 0o600
        record: Mapping[str, str] = self.decode(self.file.read_bytes().decode())
        return record

    def decode(self, text: str) -> Any:
        return json.loads(text)

    def write_behind(self, record: Mapping[str, str]) -> None:
        self.file.write_text(json.dumps(record))
        self.file.chmod(0o600)

    @contextmanager
    def denied(self) -> Iterator[Sink]:
        """The folder cannot be written; root works as nobody for a while."""
        sink = self.open()
        self.places.chmod(0o555)
        with open_way(self.places), without_rights():
            yield sink
        self.places.chmod(0o755)

    @contextmanager
    def unreachable(self) -> Iterator[Sink]:
        """Somebody holds the folder for longer than we wait."""
        folder = os.open(self.places, os.O_RDONLY)
        try:
            fcntl.flock(folder, fcntl.LOCK_EX)
            yield self.open(patience="1s")
        finally:
            os.close(folder)

    def losing(self) -> Any:
        raise NotImplementedError


class EnvStand(FileStand):
    """Variables for a shell or for systemd."""

    form: ClassVar[Said] = {"format": "env"}

    def decode(self, text: str) -> Any:
        return dict(word.split("=", 1) for word in shlex.split(text))

    def write_behind(self, record: Mapping[str, str]) -> None:
        self.file.write_text("".join(f"{name}={shlex.quote(value)}\n" for name, value in record.items()))
        self.file.chmod(0o600)


class TextStand(FileStand):
    """The key alone."""

    form: ClassVar[Said] = {"format": "text", "field": "key"}

    def decode(self, text: str) -> Any:
        return {"key": text}

    def write_behind(self, record: Mapping[str, str]) -> None:
        self.file.write_text(record["key"])
        self.file.chmod(0o600)


@contextmanager
def without_rights() -> Iterator[None]:
    """Root may do everything, so as root we are nobody for a while."""
    root = os.geteuid() == 0
    if root:
        os.seteuid(NOBODY)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)


@contextmanager
def open_way(folder: Path) -> Iterator[None]:
    """Let everybody pass the folders above, which pytest closes: what is refused has to be the folder itself."""
    closed = [parent for parent in folder.parents if parent.stat().st_uid == os.getuid() and len(parent.parts) > 2]
    before = [(parent, parent.stat().st_mode & 0o777) for parent in closed]
    for parent, mode in before:
        parent.chmod(mode | 0o011)
    try:
        yield
    finally:
        for parent, mode in before:
            parent.chmod(mode)


# ── programs ──────────────────────────────────────────────────────────────────────────────────────────────────────

PUT = """#!/bin/sh
cd {folder} || exit 78
[ -e mood ] && exit "$(cat mood)"
umask 077
cat > "$1.new" && mv "$1.new" "$1"
[ -e dies ] && rm dies && kill -9 $$
exit 0
"""
READ = """#!/bin/sh
cd {folder} || exit 78
[ -e mood ] && exit "$(cat mood)"
[ -e "$1" ] || exit 66
cat "$1"
"""


class CommandStand(Stand):
    """Two programs and a folder of theirs."""

    place = CommandPlace

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.own = folder / "programs"
        self.own.mkdir()
        self.programs = []
        for name, text in (("put", PUT), ("read", READ)):
            program = self.own / name
            program.write_text(text.format(folder=shlex.quote(str(self.own))))
            program.chmod(0o755)
            self.programs.append(str(program))
        self.commands = self.programs

    def said(self) -> Said:
        put, read = self.programs
        return {"kind": "command", "run": [put, "{name}"], "read": [read, "{name}"]}

    def stored(self) -> Mapping[str, str] | None:
        file = self.own / TARGET.name
        return json.loads(file.read_bytes()) if file.exists() else None

    def write_behind(self, record: Mapping[str, str]) -> None:
        (self.own / TARGET.name).write_text(json.dumps(record))

    @contextmanager
    def ending(self, code: int) -> Iterator[Sink]:
        """Both programs end with this exit code."""
        (self.own / "mood").write_text(str(code))
        yield self.open()
        (self.own / "mood").unlink()

    def denied(self) -> Any:
        return self.ending(77)

    def unreachable(self) -> Any:
        return self.ending(75)

    @contextmanager
    def losing(self) -> Iterator[Sink]:
        (self.own / "dies").touch()
        yield self.open()


# ── Vault ─────────────────────────────────────────────────────────────────────────────────────────────────────────


class VaultStand(Remote):
    """The pretend server, and a token of it."""

    place = VaultPlace

    def __init__(self, folder: Path, front: Front, sandbox: Sandbox) -> None:
        super().__init__(folder, front)
        self.server = sandbox.vault_kv
        (folder / "token").write_text(self.server.add_token().token)

    def said(self) -> Said:
        url = f"{self.front.url}/vault_kv"
        return {"kind": "vault", "url": url, "mount": "kv", "path": "bots/{name}", "token": f"file:{self.folder}/token"}

    def stored(self) -> Mapping[str, str] | None:
        versions = self.server.secrets.get(("", f"bots/{TARGET.name}"))
        return versions[-1].values if versions and not versions[-1].deleted else None

    def write_behind(self, record: Mapping[str, str]) -> None:
        self.server.write_behind(f"bots/{TARGET.name}", dict(record))

    @contextmanager
    def denied(self) -> Iterator[Sink]:
        """A token that may read and nothing else."""
        reader = self.server.add_token({"kv/data/": ["read"]})
        (self.folder / "reader").write_text(reader.token)
        yield self.open(token=f"file:{self.folder}/reader", role_id=None, secret_id=None)

    @contextmanager
    def losing(self) -> Iterator[Sink]:
        """The version is written, and nobody hears of it."""
        self.front.lose_next_answer("POST", "/kv/data/")
        yield self.open()


class AppRoleStand(VaultStand):
    """An app role instead of a token."""

    def __init__(self, folder: Path, front: Front, sandbox: Sandbox) -> None:
        super().__init__(folder, front, sandbox)
        role = self.server.add_role()
        (folder / "role_id").write_text(role.role_id)
        (folder / "secret_id").write_text(role.secret_id)

    def said(self) -> Said:
        role = {name: f"file:{self.folder}/{name}" for name in ("role_id", "secret_id")}
        return {**super().said(), **role, "token": None}


# ── AWS ───────────────────────────────────────────────────────────────────────────────────────────────────────────


class AwsStand(Remote):
    """A moto server, and the root's key."""

    place = AwsPlace

    def __init__(self, folder: Path, front: Front, moto: Moto) -> None:
        super().__init__(folder, front)
        self.moto = moto
        self.secret = f"bots/{TARGET.name}"
        (folder / "aws").write_text(ROOT_SECRET)

    def said(self) -> Said:
        key = {"access_key_id": ROOT_ID, "secret_access_key": f"file:{self.folder}/aws"}
        place = {"path": "bots/{name}", "region": "us-east-1", "base_url": self.front.url}
        return {"kind": "aws_secrets_manager", **place, **key}

    def stored(self) -> Mapping[str, str] | None:
        with suppress(ClientError):
            found: Mapping[str, str] = json.loads(
                self.moto.client("secretsmanager").get_secret_value(SecretId=self.secret, VersionStage="AWSCURRENT")[
                    "SecretString"
                ]
            )
            return found
        return None

    def write_behind(self, record: Mapping[str, str]) -> None:
        client = self.moto.client("secretsmanager")
        if self.stored() is None:
            client.create_secret(Name=self.secret, SecretString=json.dumps(record))
        else:
            client.put_secret_value(SecretId=self.secret, SecretString=json.dumps(record))

    @contextmanager
    def denied(self) -> Iterator[Sink]:
        """A user without any policy."""
        self.moto.iam().create_user(UserName="powerless")
        key = self.moto.add_key("powerless")
        (self.folder / "powerless").write_text(key.secret)
        self.moto.demand_signatures()
        yield self.open(access_key_id=key.id, secret_access_key=f"file:{self.folder}/powerless")
        self.moto.trust_everybody()

    @contextmanager
    def losing(self) -> Iterator[Sink]:
        """The move of the label is done, and nobody hears of it."""
        self.front.lose_next_answer("POST", "UpdateSecretVersionStage")
        self.front.lose_next_answer("POST", "CreateSecret")
        yield self.open()


# ── webhooks ──────────────────────────────────────────────────────────────────────────────────────────────────────


class HookStand(Remote):
    """A real service that verifies what it is sent, and lets it be read."""

    place = WebhookPlace

    def __init__(self, folder: Path, front: Front, consumer: Consumer) -> None:
        super().__init__(folder, front)
        self.consumer = consumer
        (folder / "key").write_text(KEY)

    def said(self) -> Said:
        urls = {"url": f"{self.front.url}/secrets", "read_url": f"{self.front.url}/secrets/{{name}}"}
        return {"kind": "webhook", **urls, "secret": f"file:{self.folder}/key"}

    def stored(self) -> Mapping[str, str] | None:
        return self.consumer.records.get(TARGET.name)

    def write_behind(self, record: Mapping[str, str]) -> None:
        self.consumer.records[TARGET.name] = dict(record)

    @contextmanager
    def losing(self) -> Iterator[Sink]:
        """The service takes it, and the connection closes instead of an answer."""
        self.front.lose_next_answer("POST")
        yield self.open()

    @contextmanager
    def denied(self) -> Iterator[Sink]:
        """A key that the service does not know."""
        (self.folder / "other").write_text("whsec_" + "b3RoZXIg" * 6)
        yield self.open(secret=f"file:{self.folder}/other")


class DeafHookStand(HookStand):
    """The same service, without a way to read."""

    reads_back = False

    def said(self) -> Said:
        return {**super().said(), "read_url": None}


# ── all of them ───────────────────────────────────────────────────────────────────────────────────────────────────


@contextmanager
def before_vault(kind: type[VaultStand], request: pytest.FixtureRequest, folder: Path) -> Iterator[Stand]:
    with Sandbox() as sandbox, open_front("127.0.0.1", sandbox.port) as front:
        yield kind(folder, front, sandbox)


@contextmanager
def before_aws(kind: type[AwsStand], request: pytest.FixtureRequest, folder: Path) -> Iterator[Stand]:
    moto: Moto = request.getfixturevalue("moto")
    with open_front("127.0.0.1", urlsplit(moto.url).port or 0) as front:
        yield kind(folder, front, moto)


@contextmanager
def before_hook(kind: type[HookStand], request: pytest.FixtureRequest, folder: Path) -> Iterator[Stand]:
    consumer = Consumer()
    with running_recorder() as recorder:
        recorder.script = consumer.answer
        with open_front("127.0.0.1", urlsplit(recorder.url).port or 0) as front:
            yield kind(folder, front, consumer)


@contextmanager
def alone(kind: Callable[[Path], Stand], request: pytest.FixtureRequest, folder: Path) -> Iterator[Stand]:
    yield kind(folder)


STANDS: dict[type[Stand], Any] = {
    FileStand: alone,
    EnvStand: alone,
    TextStand: alone,
    CommandStand: alone,
    VaultStand: before_vault,
    AppRoleStand: before_vault,
    AwsStand: before_aws,
    HookStand: before_hook,
    DeafHookStand: before_hook,
}
"""How each stand is set up."""


@contextmanager
def open_stand(kind: type[Stand], request: pytest.FixtureRequest, folder: Path) -> Iterator[Stand]:
    with STANDS[kind](kind, request, folder) as stand:
        yield stand
    hang_up()
