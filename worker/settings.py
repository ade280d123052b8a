"""The settings as one frozen, checked value; reading them is `worker.sources`', what they lead to is their user's."""

from __future__ import annotations

import os
import re
import stat
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import quote, urlsplit

import platformdirs
from pydantic import BeforeValidator, Field, PrivateAttr, ValidationError, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from rules.schema import Duration, Model
from rules.secret import Secret
from worker import sources
from worker.errors import ConnectionUnusable, SettingsErrors, UnknownConnection
from worker.schedules import Schedule, Targets, unknown_connections, unknown_sinks

CONFIG = sources.CONFIG
CONFIG_NAME = sources.CONFIG_NAME
KEYS_NAME = "keys"

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

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,119}$")
    provider: str = Field(pattern=r"^[a-z0-9_]+$")
    base_url: str | None = None
    identity: dict[str, str] = Field(default_factory=dict)
    owns: dict[str, str] = Field(default_factory=dict)
    protected: Protected = Protected()
    never_probe: bool = False
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
        kind, _, rest = self.identity[name].partition(":")
        if kind == "env":
            return _read_variable(rest, where, os.environ if environ is None else environ)
        if kind == "file":
            return _read_reference(Path(rest), where)
        if secret:
            raise ConnectionUnusable(f"{where}: {NO_LITERAL}")
        return Secret(self.identity[name])

    @property
    def secret_files(self) -> list[Path]:
        """The files that the identity refers to."""
        return [Path(text.removeprefix("file:")) for text in self.identity.values() if text.startswith("file:")]


NO_LITERAL = "expected a reference to the secret, such as file:/run/secrets/NAME or env:NAME, got the value itself"


def _refuse_reference(name: str, text: str) -> str | None:
    """Say what is wrong with one field of an identity; never its value, which is likely to be a secret."""
    kind, _, rest = text.partition(":")
    if kind == "env":
        return None if rest else "expected the name of a variable after env:"
    if kind == "file":
        return None if Path(rest).is_absolute() else "expected an absolute path after file:"
    return NO_LITERAL if _means_secret(name) else None


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
    rules_path: list[AbsolutePath] = Field(default_factory=list)
    trust_single_row: list[str] = Field(default_factory=list)
    commands_allowed: list[str] = Field(default_factory=list)
    claim: Span = 120.0
    # Checked even where it is not given: a shorter claim makes the default wrong.
    request_timeout: Span = Field(default="30s", validate_default=True)
    retry_for: Span = 7 * 86400.0
    shred_after: Span = 30 * 86400.0
    ring_after: Span = 60.0
    sweep_every: Span = 5.0
    urgent_threads: int = Field(default=8, ge=1, le=1000)
    bulk_threads: int = Field(default=32, ge=1, le=1000)
    flower_address: str = "127.0.0.1"
    flower_port: int = Field(default=5555, ge=1, le=65535)
    log_format: Literal["auto", "json", "console"] = "auto"
    log_level: Annotated[Literal["debug", "info", "warning", "error"], BeforeValidator(_lower)] = "info"
    body_limit: int = Field(default=4 * 1024 * 1024, ge=1024)
    connections: dict[str, Connection] = Field(default_factory=dict)
    schedules: dict[str, Schedule] = Field(default_factory=dict)

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

    @field_validator("seal_keys", mode="before")
    @classmethod
    def _keys(cls, value: object, info: ValidationInfo) -> object:
        if value is not None or "data_dir" not in info.data:
            return value
        path = info.data["data_dir"] / KEYS_NAME
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

    @field_validator("flower_address")
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

    @field_validator("connections", "schedules", mode="before")
    @classmethod
    def _named(cls, value: object) -> object:
        """The name of a connection or a schedule is the key that it stands under, and is said once."""
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

    def connection(self, name: str) -> Connection:
        """Find a connection by name; raises UnknownConnection with the nearest names."""
        if name in self.connections:
            return self.connections[name]
        says = sources.nearest(name, self.connections) if self.connections else "; the settings have no connections"
        raise UnknownConnection(f"no connection is called {name!r}{says}")


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


KEYS = {
    "connections": {*Connection.model_fields, *Protected.model_fields} - {"name"},
    "schedules": {*Schedule.model_fields, *Targets.model_fields, "except"} - {"name", "exclude"},
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
    found = [settings.keys_file, *settings._secret_files]  # noqa: SLF001 - the same module's
    if settings.database_url.startswith("sqlite:///"):
        found.append(Path(settings.database_url.removeprefix("sqlite:///")))
    for connection in settings.connections.values():
        found += connection.secret_files
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
