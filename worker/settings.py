"""The settings as one frozen, checked value; reading them is `worker.sources`', what they lead to is their user's."""

from __future__ import annotations

import os
import re
import stat
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from enum import StrEnum
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Literal, Self
from urllib.parse import quote, urlsplit

import platformdirs
from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    PrivateAttr,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from rules.budget import Limits
from rules.model import Duration, Model, shown
from rules.notice import Event, Severity, at_least
from rules.secret import Secret
from worker import sources
from worker.errors import ConnectionUnusable, SettingsErrors, UnknownConnection, UnknownSink
from worker.schedules import Schedule, Targets, unknown_connections, unknown_sinks

CONFIG = sources.CONFIG
CONFIG_NAME = sources.CONFIG_NAME
KEYS_NAME = "keys"
AUDIT_KEYS_NAME = "audit_keys"

# ── the values ────────────────────────────────────────────────────────────────────────────────────────────────────


def _absolute(value: object, info: ValidationInfo) -> object:
    """Paths are made absolute where they are read: a daemon's working folder is not the operator's."""
    if not isinstance(value, str):
        return value
    if not value or "\0" in value:
        raise ValueError(f"expected a path, got {value!r}")
    return _base(info) / Path(value).expanduser()


def _base(info: ValidationInfo) -> Path:
    """The folder that a relative path starts from: that of the file it stands in, or where the command was given."""
    reading = sources.current.get()
    return Path.cwd() if reading is None else reading.base(info.field_name)


def _lower(value: object) -> object:
    return value.lower() if isinstance(value, str) else value


AbsolutePath = Annotated[Path, BeforeValidator(_absolute)]
Span = Annotated[Duration, Field(gt=0)]

NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,119}$"
SECRET_WORD = re.compile(r"(password|passwd|passphrase|token|secret|key|pat|pin|otp|cookie|credential)([_. -]|\Z)")
PLAIN_ENDING = re.compile(r"(\A|[_. -])(id|name|user|username|url)\Z")


def _means_secret(name: str) -> bool:
    """Whether a field of this name holds a secret: `api_key` and `token` do, `token_id` does not."""
    return bool(SECRET_WORD.search(name.lower())) and not PLAIN_ENDING.search(name.lower())


class Protected(Model):
    """Globs of what a connection must never act on."""

    subjects: list[str] = Field(default_factory=list)
    names: list[str] = Field(default_factory=list)
    ids: list[str] = Field(default_factory=list)


class Connection(Model):
    """One provider account and the identity that signs calls there; its secrets are references until they are used."""

    name: str = Field(pattern=NAME)
    provider: str = Field(pattern=r"^[a-z0-9_]+$")
    base_url: str | None = None
    identity: dict[str, str] = Field(default_factory=dict)
    owns: dict[str, str] = Field(default_factory=dict)
    protected: Protected = Protected()
    never_probe: bool = False
    limits: Limits | None = None
    proxy: str | None = None
    ca_bundle: AbsolutePath | None = None

    @field_validator("base_url")
    @classmethod
    def _web_address(cls, value: str | None) -> str | None:
        return None if value is None else _plain_url(value, ("https", "http")).rstrip("/")

    @field_validator("proxy")
    @classmethod
    def _proxy_address(cls, value: str | None) -> str | None:
        # A proxy that is itself reached by TLS would put TLS into TLS, whose handshake no deadline can bound.
        return None if value is None else _plain_url(value, ("http",), path=False).rstrip("/")

    @field_validator("identity")
    @classmethod
    def _references(cls, value: dict[str, str]) -> dict[str, str]:
        mistakes = [f"{name}: {says}" for name, text in value.items() if (says := _refuse_reference(name, text))]
        if mistakes:
            raise ValueError("; ".join(mistakes))
        return value

    def resolve(self, name: str, *, secret: bool = False, environ: Mapping[str, str] | None = None) -> Secret:
        """Read what the identity's field refers to. With `secret`, the provider says that it must be a reference."""
        where = f"connection {self.name}: identity.{name}"
        if name not in self.identity:
            raise ConnectionUnusable(f"{where}: not given in the settings")
        if secret or is_reference(self.identity[name]):
            return follow(self.identity[name], where, environ)
        return Secret(self.identity[name])

    @property
    def secret_files(self) -> list[Path]:
        """The files that the identity refers to."""
        return sources.files_of(self.identity.values())


NO_LITERAL = "expected a reference to the secret, such as file:/run/secrets/NAME or env:NAME, got the value itself"


def _refuse_reference(name: str, text: str) -> str | None:
    """Say what is wrong with one field of an identity; never its value, which is likely to be a secret."""
    kind, _, rest = text.partition(":")
    if kind == "env":
        return None if rest else "expected the name of a variable after env:"
    if kind == "file":
        return None if Path(rest).is_absolute() else "expected an absolute path after file:"
    return NO_LITERAL if _means_secret(name) else None


def is_reference(text: str) -> bool:
    """Whether a text says where a value is, and not the value."""
    return text.partition(":")[0] in {"env", "file"}


def follow(text: str, where: str, environ: Mapping[str, str] | None = None) -> Secret:
    """What a reference leads to; raises ConnectionUnusable where the text is none, or leads nowhere."""
    kind, _, rest = text.partition(":")
    if kind == "env":
        return _read_variable(rest, where, os.environ if environ is None else environ)
    if kind == "file":
        return _read_reference(Path(rest), where)
    raise ConnectionUnusable(f"{where}: {NO_LITERAL}")


def _read_variable(name: str, where: str, environ: Mapping[str, str]) -> Secret:
    if not environ.get(name):
        lacks = "empty" if name in environ else "not set"
        raise ConnectionUnusable(f"{where}: the environment variable {name} is {lacks}")
    return Secret.normalised(environ[name])


def _read_reference(path: Path, where: str) -> Secret:
    try:
        text = path.read_text("utf-8")
    except OSError as error:
        raise ConnectionUnusable(f"{where}: cannot read {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ConnectionUnusable(f"{where}: expected text in {path}, got bytes that are not UTF-8") from None
    if not text.strip():
        raise ConnectionUnusable(f"{where}: {path} is empty")
    return Secret.normalised(text)


def _plain_url(value: str, schemes: Sequence[str], *, path: bool = True) -> str:
    """A URL with a host and nothing that could hold a secret or smuggle in another place."""
    wanted = f"expected an address such as {schemes[0]}://host{'/path' if path else ':port'}"
    try:
        parts = urlsplit(value)
        usable = parts.scheme in schemes and bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        usable = False
    if not usable or re.search(r"[\s\\\x00-\x1f]", value):
        raise ValueError(f"{wanted}, got something else")
    if parts.username is not None or parts.query or parts.fragment:
        raise ValueError(f"{wanted}, without user, password, query or fragment")
    if not path and parts.path.strip("/"):
        raise ValueError(f"{wanted}, without a path")
    return value


# ── the sinks ─────────────────────────────────────────────────────────────────────────────────────────────────────


def _is_reference(value: str) -> str:
    says = _refuse_reference("secret", value)
    if says is not None:
        raise ValueError(says)
    return value


def _is_template(value: str) -> str:
    rest = PLACEHOLDER.sub("x", value)
    if not value or re.search(r"[{}\\\x00-\x1f]", rest):
        raise ValueError("expected a text whose only names in braces are {name}, {id} and {connection}")
    return value


def _is_path(value: str) -> str:
    parts = _is_template(value).removeprefix("/").split("/")
    if any(part in {"", ".", ".."} for part in parts):
        raise ValueError("expected a path without empty parts, `.` or `..`")
    return value


def _is_web_template(value: str) -> str:
    """A URL whose host is fixed: a name of a target must not choose who is told."""
    _plain_url(PLACEHOLDER.sub("x", _is_template(value)), ("https", "http"))
    if PLACEHOLDER.search(urlsplit(value).netloc):
        raise ValueError("expected names in braces in the path alone")
    return value


def _is_web_address(value: str) -> str:
    return _plain_url(value, ("https", "http")).rstrip("/")


PLACEHOLDER = re.compile(r"\{(name|id|connection)\}")
Reference = Annotated[str, AfterValidator(_is_reference)]
Template = Annotated[str, AfterValidator(_is_template)]
PathTemplate = Annotated[str, AfterValidator(_is_path)]
WebAddress = Annotated[str, AfterValidator(_is_web_address)]
WebTemplate = Annotated[str, AfterValidator(_is_web_template)]


class Named(Model):
    """What has a name in the settings, and fields that refer to secrets."""

    name: str = Field(pattern=NAME)

    @property
    def references(self) -> dict[str, str]:
        """The fields that say where a secret is; none of them holds one."""
        fields = {name: getattr(self, name) for name in type(self).model_fields if name in REFERENCES}
        return {name: text for name, text in fields.items() if text is not None}

    def resolve(self, name: str) -> Secret:
        """Read what a field refers to; raises ConnectionUnusable with sink and field."""
        return follow(self.references[name], f"sink {self.name}: {name}")

    @property
    def secret_files(self) -> list[Path]:
        """The files that it refers to."""
        return sources.files_of(self.references.values())


class Place(Named):
    """What the settings say of one sink, whatever its kind. Texts in braces are filled in for each target.

    `reload` names the sink, a program or a webhook, that is told the target, and no secret, after a delivery here.
    `unconfirmed` says what becomes of the old key where this sink cannot be read back.
    """

    reload: str | None = None
    unconfirmed: Literal["keep_old", "accept"] = "keep_old"

    @property
    def can_be_read(self) -> bool:
        """Whether it tells what it holds."""
        return True


REFERENCES = frozenset({"token", "role_id", "secret_id", "secret_access_key", "session_token", "secret"})
"""The fields of all kinds that are references."""


class Remote(Model):
    """What is on the network."""

    proxy: str | None = None
    ca_bundle: AbsolutePath | None = None

    @field_validator("proxy")
    @classmethod
    def _proxy_address(cls, value: str | None) -> str | None:
        return None if value is None else _plain_url(value, ("http",), path=False).rstrip("/")


class RemotePlace(Remote, Place):
    """A sink on the network."""


class FilePlace(Place):
    """A file for each target, mode 0600, in a folder that exists."""

    kind: Literal["file"]
    path: PathTemplate
    format: Literal["json", "env", "text"] = "json"
    field: str | None = None

    @model_validator(mode="after")
    def _sound(self) -> Self:
        if not self.path.startswith("/") or PLACEHOLDER.search(self.path.split("/")[1]):
            raise ValueError("path: expected an absolute path that begins with a folder's own name")
        if (self.field is not None) != (self.format == "text"):
            raise ValueError("field: the format `text` keeps a single field and needs its name; the others keep all")
        return self


class VaultPlace(RemotePlace):
    """A secret for each target in a KV engine of version 2, of Vault or OpenBao."""

    kind: Literal["vault"]
    url: WebAddress
    mount: PathTemplate = "secret"
    path: PathTemplate
    namespace: str | None = Field(default=None, pattern=r"^[A-Za-z0-9_./-]+$")
    token: Reference | None = None
    role_id: Reference | None = None
    secret_id: Reference | None = None
    approle: PathTemplate = "approle"

    @model_validator(mode="after")
    def _sound(self) -> Self:
        role = self.role_id is not None and self.secret_id is not None
        if role == (self.token is not None) or (self.role_id is None) != (self.secret_id is None):
            raise ValueError("expected either token, or role_id and secret_id")
        return self


class AwsPlace(RemotePlace):
    """A secret for each target in AWS Secrets Manager; `path` is its name there."""

    kind: Literal["aws_secrets_manager"]
    path: PathTemplate
    region: str = Field(pattern=r"^[a-z0-9-]+$")
    access_key_id: str
    secret_access_key: Reference
    session_token: Reference | None = None
    base_url: WebAddress | None = None
    kms_key_id: str | None = None


class WebhookPlace(RemotePlace):
    """A service that takes new secrets by a signed POST, and may let them be read at `read_url`."""

    kind: Literal["webhook"]
    url: WebTemplate
    read_url: WebTemplate | None = None
    secret: Reference

    @property
    def can_be_read(self) -> bool:
        """Whether it tells what it holds."""
        return self.read_url is not None


class CommandPlace(Place):
    """A program that takes a new secret on its input, and one that prints what is there."""

    kind: Literal["command"]
    run: list[Template] = Field(min_length=1)
    read: list[Template] | None = Field(default=None, min_length=1)

    @property
    def can_be_read(self) -> bool:
        """Whether it tells what it holds."""
        return self.read is not None

    @field_validator("run", "read")
    @classmethod
    def _is_program(cls, value: list[str] | None) -> list[str] | None:
        if value is not None and (not value[0].startswith("/") or PLACEHOLDER.search(value[0])):
            raise ValueError("expected the absolute path of a program first")
        return value


SinkPlace = Annotated[
    FilePlace | VaultPlace | AwsPlace | WebhookPlace | CommandPlace,
    Field(discriminator="kind"),
]

# ── where the audit trail's heads go ──────────────────────────────────────────────────────────────────────────────────


class AuditFile(Named):
    """A file that signed heads are appended to; it is worth something where this machine cannot rewrite it."""

    kind: Literal["file"]
    path: AbsolutePath


class AuditHook(Remote, Named):
    """A service that takes signed heads by a signed POST."""

    kind: Literal["webhook"]
    url: WebAddress
    secret: Reference


AuditSink = Annotated[AuditFile | AuditHook, Field(discriminator="kind")]

# ── offboarding ───────────────────────────────────────────────────────────────────────────────────────────────────────


class Approval(Model):
    """When a plan has to be approved: above so many credentials, and by whom.

    With `allowed_signers`, a file as ssh-keygen reads it, an approval is an SSH signature over the plan's hash.
    """

    above: int = Field(ge=0)
    by_another: bool = False
    allowed_signers: AbsolutePath | None = None

    @model_validator(mode="after")
    def _sound(self) -> Self:
        if self.by_another and self.allowed_signers is None:
            raise ValueError("by_another: whether it is another only a signature shows: say allowed_signers as well")
        return self


class BatchLimits(Model):
    """What stops a batch: more than `most` credentials or `most_percent` of a connection's, or failures in a row."""

    most: int | None = Field(default=None, ge=1)
    most_percent: float | None = Field(default=None, gt=0, le=100)
    failures: int | None = Field(default=50, ge=1)


# ── notices ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def _is_one_of(known: type[StrEnum]) -> Callable[[object], object]:
    """Read a word of a list; what is not in it gets a sentence with the nearest one."""

    def read(value: object) -> object:
        if not isinstance(value, str) or value not in set(known):
            near = sources.nearest(str(value), list(known))
            raise ValueError(f"expected one of {', '.join(known)}; got {shown(value)}{near}")
        return known(value)

    return read


class Route(Model):
    """Who is told of what: of these events, or of all, as far as they are grave enough; `to` refers to an address.

    The address is Apprise's, and often holds a password or a token: it is a secret like those of a connection.
    """

    events: list[Annotated[Event, BeforeValidator(_is_one_of(Event))]] = Field(default=list(Event), min_length=1)
    severity: Annotated[Severity, BeforeValidator(_is_one_of(Severity))] = Severity.INFO
    to: Reference

    @property
    def wants(self) -> frozenset[Event]:
        """The events that are told here."""
        return at_least(self.severity) & set(self.events)

    @property
    def secret_files(self) -> list[Path]:
        """The file that it refers to, where it is one."""
        return sources.files_of([self.to])


def read_address(to: str) -> Secret:
    """Read the address that a route refers to; raises ConnectionUnusable with a sentence."""
    return follow(to, f"notices: {to}")


# ── all of them ───────────────────────────────────────────────────────────────────────────────────────────────────


class Settings(BaseSettings):
    """Everything that can be set, checked; made by `load_settings`, or by hand in tests."""

    model_config = SettingsConfigDict(
        frozen=True, extra="forbid", strict=True, hide_input_in_errors=True, validate_default=False
    )

    data_dir: AbsolutePath = Field(default_factory=lambda: platformdirs.user_data_path("revoq"))
    # repr=False: it may hold a secret, so neither a printed setting nor a mistake shows it.
    database_url: str = Field(default="", validate_default=True, repr=False)
    broker_url: str = Field(default="", validate_default=True, repr=False)
    seal_keys: Secret | None = Field(default=None, validate_default=True, repr=False)
    audit_keys: Secret | None = Field(default=None, validate_default=True, repr=False)
    audit_heads: AbsolutePath | None = None
    rules_path: list[AbsolutePath] = Field(default_factory=list)
    trust_single_row: list[str] = Field(default_factory=list)
    commands_allowed: list[str] = Field(default_factory=list)
    claim: Span = 120.0
    # Checked even where it is not given: a shorter claim makes the default wrong.
    request_timeout: Span = Field(default="30s", validate_default=True)
    retry_for: Span = 7 * 86400.0
    shred_after: Span = 30 * 86400.0
    recheck: list[Span] = Field(default_factory=lambda: [3600.0, 25 * 3600.0, 7 * 86400.0])
    again_per_credential: int = Field(default=5, ge=0)
    again_per_connection: int = Field(default=500, ge=0)
    incident_share: float = Field(default=0.2, ge=0, lt=1)
    ring_after: Span = 60.0
    sweep_every: Span = 5.0
    urgent_threads: int = Field(default=8, ge=1, le=1000)
    bulk_threads: int = Field(default=32, ge=1, le=1000)
    flower_address: str = "127.0.0.1"
    flower_port: int = Field(default=5555, ge=1, le=65535)
    metrics_address: str = "127.0.0.1"
    metrics_port: int = Field(default=9464, ge=1, le=65535)
    log_format: Literal["auto", "json", "console"] = "auto"
    log_level: Annotated[Literal["debug", "info", "warning", "error"], BeforeValidator(_lower)] = "info"
    body_limit: int = Field(default=4 * 1024 * 1024, ge=1024)
    connections: dict[str, Connection] = Field(default_factory=dict)
    sinks: dict[str, SinkPlace] = Field(default_factory=dict)
    audit_sinks: dict[str, AuditSink] = Field(default_factory=dict)
    schedules: dict[str, Schedule] = Field(default_factory=dict)
    approval: Approval | None = None
    batch_limits: BatchLimits = Field(default_factory=BatchLimits)
    notices: list[Route] = Field(default_factory=list)

    _secret_files: tuple[Path, ...] = PrivateAttr(default=())

    @classmethod
    def settings_customise_sources(
        cls, settings_cls: type[BaseSettings], init_settings: PydanticBaseSettingsSource, *_: object, **__: object
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Variables over the file, and nothing else; what is made by hand has only what the hand gave it."""
        reading = sources.current.get()
        if reading is None:
            return (init_settings,)
        file = sources.File(settings_cls, reading)
        return sources.Variables(settings_cls, reading, file), file

    @field_validator("database_url", mode="before")
    @classmethod
    def _database(cls, value: object, info: ValidationInfo) -> object:
        if value == "" and "data_dir" in info.data:
            return f"sqlite:///{info.data['data_dir']}/revoq.db"
        return _database_url(value, _base(info)) if isinstance(value, str) and value else value

    @field_validator("broker_url", mode="before")
    @classmethod
    def _broker(cls, value: object, info: ValidationInfo) -> object:
        if value == "" and "data_dir" in info.data:
            return f"redis+socket://{quote(str(_socket(info.data['data_dir'])))}"
        if isinstance(value, str) and value and not value.startswith(("redis://", "rediss://", "redis+socket:///")):
            raise ValueError("expected redis://, rediss:// or redis+socket:///, got something else")
        return value

    @field_validator("seal_keys", "audit_keys", mode="before")
    @classmethod
    def _keys(cls, value: object, info: ValidationInfo) -> object:
        if value is not None or "data_dir" not in info.data:
            return value
        path = info.data["data_dir"] / (KEYS_NAME if info.field_name == "seal_keys" else AUDIT_KEYS_NAME)
        try:
            return Secret(path.read_text("utf-8"))
        except FileNotFoundError:
            return None
        except (OSError, UnicodeDecodeError):
            raise ValueError(f"cannot read {path} as text: look at its owner and mode") from None

    @field_validator("request_timeout")
    @classmethod
    def _within_claim(cls, value: float, info: ValidationInfo) -> float:
        # A request leaves only while the claim outlasts it, so one claim has to hold at least two of them.
        if "claim" in info.data and value >= info.data["claim"] / 2:
            raise ValueError(f"expected less than half of claim, which is {info.data['claim']:g}s; got {value:g}s")
        return value

    @field_validator("commands_allowed")
    @classmethod
    def _are_programs(cls, value: list[str]) -> list[str]:
        # Made absolute from where the file stands, `npm` would mean another program than its writer thought of.
        for program in value:
            if not program.startswith("/"):
                raise ValueError(f"expected absolute paths of programs, got {program!r}")
        return value

    @field_validator("flower_address", "metrics_address")
    @classmethod
    def _is_address(cls, value: str) -> str:
        try:
            return str(ip_address(value))
        except ValueError:
            raise ValueError(f"expected an address such as 127.0.0.1 or ::1, got {value!r}") from None

    @field_validator("schedules", mode="before")
    @classmethod
    def _known_names(cls, value: object, info: ValidationInfo) -> object:
        """What a schedule names has to exist; told with its own line, beside all other mistakes."""
        given = value if isinstance(value, dict) else {}
        wrong = list(unknown_connections(given, info.data["connections"])) if "connections" in info.data else []
        wrong += list(unknown_sinks(given, info.data["sinks"])) if "sinks" in info.data else []
        reading = sources.current.get()
        if reading is None and wrong:
            raise ValueError("; ".join(f"{'.'.join(place)}: {says}" for place, says in wrong))
        if reading is not None:
            for place, says in wrong:
                reading.refuse_at(("schedules", *place), says)
        return value

    @field_validator("connections", "sinks", "audit_sinks", "schedules", mode="before")
    @classmethod
    def _named(cls, value: object) -> object:
        """The name of a connection, a sink or a schedule is the key that it stands under, and is said once."""
        if not isinstance(value, dict):
            return value
        for name, fields in value.items():
            if isinstance(fields, dict) and "name" in fields:
                raise ValueError(f"{name}: the name is the key it stands under; take `name` out")
        return {name: {**given, "name": name} if isinstance(given, dict) else given for name, given in value.items()}

    @property
    def embedded_broker(self) -> bool:
        """Whether the broker is the one that `revoq up` brings along."""
        return self.broker_url == f"redis+socket://{quote(str(self.broker_socket))}"

    @property
    def broker_socket(self) -> Path:
        """Where the embedded broker listens."""
        return _socket(self.data_dir)

    @property
    def keys_file(self) -> Path:
        """Where the key ring is, unless the settings say it otherwise."""
        return self.data_dir / KEYS_NAME

    @property
    def audit_keys_file(self) -> Path:
        """Where the keys that sign the audit trail are, unless the settings say it otherwise."""
        return self.data_dir / AUDIT_KEYS_NAME

    @property
    def head_files(self) -> list[Path]:
        """The files that tell which heads of the audit trail were delivered."""
        files = [sink.path for sink in self.audit_sinks.values() if isinstance(sink, AuditFile)]
        return files + ([self.audit_heads] if self.audit_heads is not None else [])

    def connection(self, name: str) -> Connection:
        """Find a connection by name; raises UnknownConnection with the nearest names."""
        if name in self.connections:
            return self.connections[name]
        says = sources.nearest(name, self.connections) if self.connections else "; the settings have no connections"
        raise UnknownConnection(f"no connection is called {name!r}{says}")

    @field_validator("sinks")
    @classmethod
    def _hooks(cls, value: dict[str, Place]) -> dict[str, Place]:
        """Who is told has to be there, and must not be asked what it holds: it is told no secret."""
        for place in value.values():
            if place.reload is None:
                continue
            hook = value.get(place.reload)
            if not isinstance(hook, CommandPlace | WebhookPlace) or hook.can_be_read:
                says = "expected the name of a sink of the kind command or webhook, without read or read_url"
                raise ValueError(f"{place.name}: reload: {says}; got {place.reload!r}")
        return value

    def sink(self, name: str) -> SinkPlace:
        """Find a sink by name; raises UnknownSink with the nearest names."""
        if name in self.sinks:
            return self.sinks[name]
        says = sources.nearest(name, self.sinks) if self.sinks else "; the settings have no sinks"
        raise UnknownSink(f"no sink is called {name!r}{says}")


def _socket(data_dir: Path) -> Path:
    return data_dir / "run" / "broker.sock"


def _database_url(value: str, base: Path) -> str:
    """Only what was tried: SQLite in a file, and PostgreSQL through psycopg."""
    scheme, _, rest = value.partition("://")
    if scheme in {"postgresql", "postgres", "postgresql+psycopg"}:
        return f"postgresql+psycopg://{rest}"
    if scheme == "sqlite" and re.fullmatch(r"/[^?:]+", rest):
        return f"sqlite:///{base / rest[1:]}"
    raise ValueError("expected sqlite:///FILE or postgresql+psycopg://USER@HOST/DATABASE, got something else")


PLACES = (FilePlace, VaultPlace, AwsPlace, WebhookPlace, CommandPlace)
KEYS = {
    "connections": {*Connection.model_fields, *Protected.model_fields, *Limits.model_fields} - {"name"},
    "sinks": {field for place in PLACES for field in place.model_fields} - {"name"},
    "audit_sinks": {*AuditFile.model_fields, *AuditHook.model_fields} - {"name"},
    "schedules": {*Schedule.model_fields, *Targets.model_fields, "except"} - {"name", "exclude"},
    "approval": {*Approval.model_fields},
    "batch_limits": {*BatchLimits.model_fields},
    "notices": {*Route.model_fields},
}
"""What may stand in each section, further down."""


def load_settings(environ: Mapping[str, str] | None = None) -> Settings:
    """Read every source; raises SettingsErrors with all mistakes at once."""
    reading = sources.Reading(os.environ if environ is None else environ)
    under_way = sources.current.set(reading)
    try:
        made = Settings()
    except ValidationError as errors:
        reading.tell(errors, Settings, KEYS)
    finally:
        sources.current.reset(under_way)
    if reading.mistakes:
        raise SettingsErrors(reading.mistakes)
    made._secret_files = tuple(reading.secret_files)  # noqa: SLF001 - the same module's
    return made


# ── the one in use ────────────────────────────────────────────────────────────────────────────────────────────────

_lock = threading.Lock()
_current: Settings | None = None


def settings() -> Settings:
    """The settings of this process, read when they are first asked for."""
    global _current  # noqa: PLW0603 - one value for each process is what this is for
    with _lock:
        if _current is None:
            _current = load_settings()
        return _current


@contextmanager
def using(value: Settings) -> Iterator[Settings]:
    """Have `settings()` answer with `value` for a while."""
    global _current  # noqa: PLW0603 - see above
    with _lock:
        before, _current = _current, value
    try:
        yield value
    finally:
        with _lock:
            _current = before


# ── who else can read ─────────────────────────────────────────────────────────────────────────────────────────────


def private_files(settings: Settings) -> list[Path]:
    """The files that nobody but revoq's own user should be able to read, where they exist."""
    found = [settings.keys_file, settings.audit_keys_file, *settings._secret_files]  # noqa: SLF001 - the same module's
    if settings.database_url.startswith("sqlite:///"):
        found.append(Path(settings.database_url.removeprefix("sqlite:///")))
    known = (
        *settings.connections.values(),
        *settings.sinks.values(),
        *settings.audit_sinks.values(),
        *settings.schedules.values(),
        *settings.notices,
    )
    for each in known:
        found += each.secret_files
    return [path for path in dict.fromkeys(found) if path.exists()]


def check_private(path: Path) -> str | None:
    """Say so when others can read or change the file; None when all is well, or there is no such file."""
    try:
        mode = stat.S_IMODE(path.stat().st_mode)
    except FileNotFoundError:
        return None
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        return f"{path} has mode {mode:04o}, so others than its owner can use it: chmod 600 {path}"
    return None
