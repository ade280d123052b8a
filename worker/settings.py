"""The settings: `REVOQ_*` variables and the files they name over `revoq.yaml`, as one frozen, checked value.

What a setting leads to is its user's affair: nothing here opens a database, a broker or a key ring.
"""

from __future__ import annotations

import difflib
import os
import re
import stat
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import quote, urlsplit

import platformdirs
from pydantic import BeforeValidator, ConfigDict, Field, PrivateAttr, ValidationError, ValidationInfo, field_validator
from pydantic_core import ErrorDetails

from rules import strictyaml
from rules.errors import RuleErrors
from rules.schema import Duration, Model
from rules.secret import Secret
from worker.errors import ConnectionUnusable, SettingsError, SettingsErrors, UnknownConnection

PREFIX = "REVOQ_"
CONFIG = "REVOQ_CONFIG"
CONFIG_NAME = "revoq.yaml"
KEYS_NAME = "keys"
SECRET_SETTINGS = frozenset({"database_url", "broker_url", "seal_keys"})
"""Settings whose value may hold a secret: no message repeats it."""

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
    bases: Mapping[str, Path] = (info.context or {}).get("bases", {})
    return bases.get(info.field_name or "", bases.get("", Path.cwd()))


def _lower(value: object) -> object:
    return value.lower() if isinstance(value, str) else value


AbsolutePath = Annotated[Path, BeforeValidator(_absolute)]
Span = Annotated[Duration, Field(gt=0)]

SECRET_WORDS = (
    "password",
    "passwd",
    "passphrase",
    "token",
    "secret",
    "key",
    "pat",
    "pin",
    "otp",
    "cookie",
    "credential",
)
PLAIN_ENDINGS = frozenset({"id", "name", "user", "username", "url"})


def _means_secret(name: str) -> bool:
    """Whether a field of this name holds a secret: `api_key` and `token` do, `token_id` does not."""
    words = re.split(r"[_\-. ]+", name.lower())
    return words[-1] not in PLAIN_ENDINGS and any(word.endswith(SECRET_WORDS) for word in words)


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
    if name not in environ:
        raise ConnectionUnusable(f"{where}: the environment variable {name} is not set")
    if not environ[name]:
        raise ConnectionUnusable(f"{where}: the environment variable {name} is empty")
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


class Settings(Model):
    """Everything that can be set, checked; made by `load_settings`, or by hand in tests."""

    model_config = ConfigDict(arbitrary_types_allowed=True, hide_input_in_errors=True)

    data_dir: AbsolutePath = Field(default_factory=lambda: platformdirs.user_data_path("revoq"))
    # What may hold a password is not shown where a setting is printed.
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

    _secret_files: tuple[Path, ...] = PrivateAttr(default=())

    def model_post_init(self, context: Any, /) -> None:
        """Remember which files were read: a doctor asks who else can read them."""
        self._secret_files = tuple((context or {}).get("secret_files", ()))

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

    @field_validator("connections", mode="before")
    @classmethod
    def _named(cls, value: object) -> object:
        """A connection's name is the key that it stands under, and is said once."""
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
        says = _nearest(name, self.connections) if self.connections else "; the settings have no connections"
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


# ── reading them ──────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass
class _Given:
    """What the sources say: values, where each came from, and the mistakes so far."""

    environ: Mapping[str, str]
    values: dict[str, Any] = field(default_factory=dict)
    where: dict[str, str] = field(default_factory=dict)
    bases: dict[str, Path] = field(default_factory=dict)
    secret_files: list[Path] = field(default_factory=list)
    mistakes: list[SettingsError] = field(default_factory=list)
    document: strictyaml.Document | None = None

    def refuse(self, setting: str, says: str, where: str) -> None:
        self.mistakes.append(SettingsError(setting, says, where))

    def take(self, setting: str, value: object, where: str, base: Path) -> None:
        self.values[setting], self.where[setting], self.bases[setting] = value, where, base


SETTINGS = tuple(Settings.model_fields)
LISTS = {"rules_path": os.pathsep, "trust_single_row": ",", "commands_allowed": os.pathsep}
NUMBERS = frozenset({"urgent_threads", "bulk_threads", "flower_port", "body_limit"})


def load_settings(environ: Mapping[str, str] | None = None) -> Settings:
    """Read every source; raises SettingsErrors with all mistakes at once."""
    given = _Given(os.environ if environ is None else environ)
    _read_config(given)
    _read_variables(given)
    made = _check(given)
    if given.mistakes or made is None:
        raise SettingsErrors(given.mistakes)
    return made


def _read_config(given: _Given) -> None:
    path = _find_config(given)
    if path is None:
        return
    file = _show(path)
    try:
        document = strictyaml.parse(path.read_text("utf-8"), file)
    except RuleErrors as errors:
        for mistake in errors.mistakes:
            given.refuse("", mistake.message, f"{file}:{mistake.line}")
        return
    except (OSError, UnicodeDecodeError) as error:
        given.refuse(CONFIG, f"cannot read it as text: {getattr(error, 'strerror', 'not UTF-8')}", file)
        return
    given.document, given.bases[""] = document, path.absolute().parent
    if isinstance(document.value, dict):
        _take_entries(given, document, path.absolute())
    elif document.value is not None:
        given.refuse("", "expected settings as `name: value`", f"{file}:1")


def _find_config(given: _Given) -> Path | None:
    """The named file, the one in this folder, or the one in the data folder. A named one has to exist."""
    if named := given.environ.get(CONFIG):
        return Path(named).expanduser()
    data_dir = given.environ.get(f"{PREFIX}DATA_DIR") or platformdirs.user_data_dir("revoq")
    nearby = (Path(CONFIG_NAME), Path(data_dir).expanduser() / CONFIG_NAME)
    return next((path for path in nearby if path.is_file()), None)


def _take_entries(given: _Given, document: strictyaml.Document, path: Path) -> None:
    for key, value in document.value.items():
        where = f"{document.file}:{document.line([key])}"
        setting = key.removesuffix("_file")
        if key == "seal_keys":
            given.refuse(
                key, "keys may not stand in this file: say seal_keys_file, or leave it to the data folder", where
            )
        elif key in SETTINGS:
            given.take(key, value, where, path.parent)
            if key in SECRET_SETTINGS and isinstance(value, str) and _has_password(value):
                given.secret_files.append(path)
        elif key == setting or setting not in SETTINGS or setting == "connections":
            given.refuse(key, f"there is no such setting{_nearest(key, SETTINGS)}", where)
        elif setting in document.value:
            given.refuse(setting, f"given twice: as {setting} and as {key}", where)
        elif not isinstance(value, str):
            given.refuse(key, "expected the path of a file", where)
        else:
            _take_file(given, setting, path.parent / Path(value).expanduser(), where)


def _read_variables(given: _Given) -> None:
    known = {CONFIG: ""}
    for setting in SETTINGS:
        name = PREFIX + setting.upper()
        if setting == "connections":
            continue
        known |= {name: setting, f"{name}_FILE": setting}
        # A variable that is set to nothing counts as not set: compose files pass on what was never given.
        value, file = given.environ.get(name), given.environ.get(f"{name}_FILE")
        if value and file:
            given.refuse(setting, f"given twice: as {name} and as {name}_FILE", "environment")
        elif value:
            given.take(setting, _from_text(setting, value), name, Path.cwd())
        elif file:
            _take_file(given, setting, Path(file).expanduser().absolute(), f"{name}_FILE")
    unknown = {name for name in given.environ if name.startswith(PREFIX)} - known.keys() - _referenced(given)
    for name in sorted(unknown):
        says = f"set it in {CONFIG_NAME}" if name == f"{PREFIX}CONNECTIONS" else f"no setting{_nearest(name, known)}"
        given.refuse(name, f"there is {says}" if says.startswith("no ") else says, "environment")


def _referenced(given: _Given) -> set[str]:
    """The variables that identities refer to: one of them may well start with our prefix."""
    connections = given.values.get("connections")
    found: set[str] = set()
    for connection in connections.values() if isinstance(connections, dict) else ():
        identity = connection.get("identity") if isinstance(connection, dict) else None
        texts = [text for text in identity.values() if isinstance(text, str)] if isinstance(identity, dict) else []
        found |= {text.removeprefix("env:") for text in texts if text.startswith("env:")}
    return found


def _take_file(given: _Given, setting: str, path: Path, where: str) -> None:
    try:
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        given.refuse(setting, f"cannot read {path} as text: {getattr(error, 'strerror', 'not UTF-8')}", where)
        return
    given.secret_files.append(path)
    text = text.removesuffix("\n").removesuffix("\r")
    given.take(setting, _from_text(setting, text), f"{where} ({path})", path.parent)


def _from_text(setting: str, text: str) -> object:
    """Variables and files know only texts; what does not look as it should is left for the check to refuse."""
    if setting == "seal_keys":
        return Secret(text)
    if setting in NUMBERS:
        return int(text) if re.fullmatch(r"\d{1,18}", text) else text
    if setting in LISTS:
        return [part.strip() for part in text.split(LISTS[setting]) if part.strip()]
    return text


def _check(given: _Given) -> Settings | None:
    context = {"bases": given.bases, "secret_files": given.secret_files}
    try:
        return Settings.model_validate(given.values, context=context)
    except ValidationError as errors:
        for error in errors.errors(include_url=False):
            place = tuple(part for part in error["loc"] if part != "[key]")
            given.refuse(".".join(map(str, place)), _explain(error), _place(given, place))
    return None


def _place(given: _Given, place: tuple[str | int, ...]) -> str:
    """A line of the file, where the value came from there; else the variable; nothing where it is a default."""
    setting = str(place[0]) if place else ""
    where = given.where.get(setting, "")
    if given.document is not None and where.startswith(f"{given.document.file}:") and not where.endswith(")"):
        return f"{given.document.file}:{given.document.line(place)}"
    return where


def _explain(error: ErrorDetails) -> str:
    """One sentence: what was expected and what came, unless that may be a secret."""
    if error["type"] == "extra_forbidden":
        known = [name for name in (*Connection.model_fields, *Protected.model_fields) if name != "name"]
        return f"there is no such key{_nearest(str(error['loc'][-1]), known)}"
    if error["type"] == "missing":
        return "expected a value, got nothing"
    if error["type"] == "value_error":
        return str(error["ctx"]["error"])
    if error["type"] == "string_pattern_mismatch":
        wanted = f"expected a text like {error['ctx']['pattern']}"
    else:
        wanted = re.sub(r"^Input (?:should be|is not) ", "expected ", error["msg"]).replace("dictionary", "mapping")
    hidden = error["loc"][0] in SECRET_SETTINGS or "identity" in error["loc"]
    return f"{wanted}, got {'something else' if hidden else _shorten(error['input'])}"


def _shorten(value: object) -> str:
    shown = repr(value)
    return shown if len(shown) <= 80 else f"{shown[:77]}..."


def _show(path: Path) -> str:
    """The path as a person would write it here."""
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)


def _nearest(name: str, known: Mapping[str, object] | Sequence[str]) -> str:
    near = difflib.get_close_matches(name, list(known), n=1)
    return f"; did you mean {near[0]}?" if near else ""


def _has_password(url: str) -> bool:
    try:
        return urlsplit(url).password is not None
    except ValueError:
        return True


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
