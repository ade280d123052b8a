"""Where settings come from, `REVOQ_*` over `revoq.yaml`, and how mistakes are told; what may be set is not ours."""

from __future__ import annotations

import difflib
import logging
import os
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import platformdirs
from pydantic import ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings, EnvSettingsSource, InitSettingsSource

from rules import strictyaml
from rules.errors import RuleErrors
from rules.model import shown
from rules.secret import Secret
from worker.errors import SettingsError

PREFIX = "REVOQ_"
CONFIG = "REVOQ_CONFIG"
CONFIG_NAME = "revoq.yaml"
SECTIONS = ("connections", "sinks", "audit_sinks", "schedules", "notices")
"""What is written in `revoq.yaml` alone: it has a shape that no variable could hold."""
KEY_RINGS = frozenset({"seal_keys", "audit_keys"})
KINDS = frozenset({"sinks", "audit_sinks"})
"""The sections whose entries are one of several models."""
LISTS = {"rules_path": os.pathsep, "trust_single_row": ",", "commands_allowed": os.pathsep}

# With PYDANTIC_SETTINGS_DEBUG it logs whatever the sources say, passwords too.
logging.getLogger("pydantic_settings").setLevel(logging.WARNING)


@dataclass(frozen=True)
class Origin:
    """Where a value was given, where relative paths in it start, and the document if it has lines."""

    where: str
    base: Path
    document: strictyaml.Document | None = None


@dataclass
class Reading:
    """One reading of all sources: where each value is from, and the mistakes so far, which are told together."""

    environ: Mapping[str, str]
    origins: dict[str, Origin] = field(default_factory=dict)
    secret_files: list[Path] = field(default_factory=list)
    mistakes: list[SettingsError] = field(default_factory=list)

    def refuse(self, setting: str, says: str, where: str) -> None:
        self.mistakes.append(SettingsError(setting, says, where))

    def read(self, path: Path, setting: str, where: str, called: object) -> str | None:
        try:
            return path.read_text("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            self.refuse(setting, f"cannot read {called} as text: {getattr(error, 'strerror', 'not UTF-8')}", where)
            return None

    def read_value(self, path: Path, setting: str, where: str) -> str | None:
        """A setting whose value is a whole file; its last line break is not part of it."""
        if (text := self.read(path, setting, where, path)) is None:
            return None
        self.secret_files.append(path)
        self.origins[setting] = Origin(f"{where} ({path})", path.parent)
        return text.removesuffix("\n").removesuffix("\r")

    def base(self, setting: str | None) -> Path:
        """Where a relative path starts; what is nested has paths further down, under names of their own."""
        nested = [self.origins[name] for name in SECTIONS if name in self.origins]
        return (self.origins.get(setting or "") or nested[0]).base

    def refuse_at(self, place: Sequence[str], says: str) -> None:
        """Refuse what stands at a place of a section."""
        self.refuse(".".join(place), says, self._where(place))

    def _where(self, place: Sequence[str | int]) -> str:
        origin = self.origins.get(str(place[0]), Origin("", Path()))
        return f"{origin.document.file}:{origin.document.line(place)}" if origin.document else origin.where

    def tell(self, errors: ValidationError, model: type[BaseSettings], keys: Mapping[str, Collection[str]]) -> None:
        """Note what the check found, each with its place; `keys` are the known ones of each section."""
        for error in errors.errors(include_url=False):
            place = tuple(part for part in error["loc"] if part != "[key]")
            if place[0] in KINDS:
                # The kind, by which one of several models was chosen, is no key of the file.
                place = (*place[:2], *place[3:])
            hidden = (
                not model.model_fields[str(place[0])].repr
                or not {"identity", "to"}.isdisjoint(place)
                or place[0] in KINDS
            )
            self.refuse(
                ".".join(map(str, place)),
                _explain(error, keys.get(str(place[0]), ()), hidden=hidden),
                self._where(place),
            )


current: ContextVar[Reading | None] = ContextVar("current", default=None)
"""The reading under way; without one, settings are made by hand."""

# ── the sources ───────────────────────────────────────────────────────────────────────────────────────────────────


class File(InitSettingsSource):
    """`revoq.yaml`: an entry `x` is a setting, `x_file` names a file whose text is the setting."""

    def __init__(self, settings_cls: type[BaseSettings], reading: Reading) -> None:
        self.reading, self.fields = reading, settings_cls.model_fields
        path = _find_config(reading.environ)
        super().__init__(settings_cls, {} if path is None else dict(self._entries(path)))

    def _entries(self, path: Path) -> Iterator[tuple[str, object]]:
        file = str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)
        text = self.reading.read(path, CONFIG, file, "it")
        try:
            document = strictyaml.parse(text or "", file)
        except RuleErrors as errors:
            for mistake in errors.mistakes:
                self.reading.refuse("", mistake.message, f"{file}:{mistake.line}")
            return
        if isinstance(document.value, dict):
            for key in document.value:
                yield from self._entry(key, document, path.absolute())
        elif document.value is not None:
            self.reading.refuse("", "expected settings as `name: value`", f"{file}:1")

    def _entry(self, key: str, document: strictyaml.Document, path: Path) -> Iterator[tuple[str, object]]:
        value, setting = document.value[key], key.removesuffix("_file")
        where = f"{document.file}:{document.line([key])}"
        if key in KEY_RINGS:
            says = f"keys may not stand in this file: say {key}_file, or leave it to the data folder"
        elif key in self.fields:
            self.reading.origins[key] = Origin(where, path.parent, document)
            if not self.fields[key].repr and re.search(r"//.*:.*@", str(value)):
                self.reading.secret_files.append(path)
            yield key, value
            return
        elif key == setting or setting not in self.fields or setting in SECTIONS:
            says = f"there is no such setting{nearest(key, self.fields)}"
        elif setting in document.value:
            key, says = setting, f"given twice: as {setting} and as {key}"
        elif not isinstance(value, str):
            says = "expected the path of a file"
        else:
            text = self.reading.read_value(path.parent / Path(value).expanduser(), setting, where)
            if text is not None:
                yield setting, _from_text(setting, self.fields[setting], text)
            return
        self.reading.refuse(key, says, where)


class Variables(EnvSettingsSource):
    """`REVOQ_X` and `REVOQ_X_FILE`; any other `REVOQ_*` is a mistake, unless a section refers to it."""

    def __init__(self, settings_cls: type[BaseSettings], reading: Reading, file: File) -> None:
        super().__init__(settings_cls, env_prefix=PREFIX)
        self.reading = reading
        names = [f"{PREFIX}{name}".upper() for name in settings_cls.model_fields if name not in SECTIONS]
        known = {CONFIG, *names, *(f"{name}_FILE" for name in names)}
        # A variable that is set to nothing counts as not set: compose files pass on what was never given.
        self.env_vars = {name.lower(): text for name in known if (text := reading.environ.get(name))}
        given = {name for name in reading.environ if name.startswith(PREFIX)}
        referred = set().union(*(_references(file.init_kwargs.get(nested)) for nested in SECTIONS))
        for name in sorted(given - known - referred):
            elsewhere = name in {f"{PREFIX}{nested}".upper() for nested in SECTIONS}
            says = f"set it in {CONFIG_NAME}" if elsewhere else f"there is no setting{nearest(name.upper(), known)}"
            reading.refuse(name, says, "environment")

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        text, key, _ = super().get_field_value(field, field_name)
        name = f"{PREFIX}{field_name}".upper()
        file = self.env_vars.get(f"{name}_FILE".lower())
        if text and file:
            self.reading.refuse(field_name, f"given twice: as {name} and as {name}_FILE", "environment")
            text = None
        elif text:
            self.reading.origins[field_name] = Origin(name, Path.cwd())
        elif file:
            text = self.reading.read_value(Path(file).expanduser().absolute(), field_name, f"{name}_FILE")
        return text, key, False

    def prepare_field_value(self, field_name: str, field: FieldInfo, value: Any, *_: object, **__: object) -> Any:
        return None if value is None else _from_text(field_name, field, value)


def _find_config(environ: Mapping[str, str]) -> Path | None:
    """The named file, the one in this folder, or the one in the data folder. A named one has to exist."""
    if named := environ.get(CONFIG):
        return Path(named).expanduser()
    data_dir = environ.get(f"{PREFIX}DATA_DIR") or platformdirs.user_data_dir("revoq")
    nearby = (Path(CONFIG_NAME), Path(data_dir).expanduser() / CONFIG_NAME)
    return next((path for path in nearby if path.is_file()), None)


def _from_text(setting: str, field: FieldInfo, text: str) -> object:
    """Variables and files know only texts; what does not look as it should is left for the check to refuse."""
    if setting in LISTS:
        return [part.strip() for part in text.split(LISTS[setting]) if part.strip()]
    if field.annotation is int and re.fullmatch(r"\d{1,18}", text):
        return int(text)
    return Secret(text) if setting in KEY_RINGS else text


def _references(value: object) -> set[str]:
    """The variables that are referred to: one of them may well start with our prefix."""
    if isinstance(value, dict | list):
        return set().union(*map(_references, value.values() if isinstance(value, dict) else value))
    return {value.removeprefix("env:")} if isinstance(value, str) and value.startswith("env:") else set()


# ── how mistakes are told ─────────────────────────────────────────────────────────────────────────────────────────


def _explain(error: ErrorDetails, keys: Collection[str], *, hidden: bool) -> str:
    """One sentence: what was expected and what came, unless that may be a secret."""
    if error["type"] == "extra_forbidden":
        return f"there is no such key{nearest(str(error['loc'][-1]), keys)}"
    if error["type"] == "union_tag_not_found":
        return "expected a kind, got nothing"
    if error["type"] == "union_tag_invalid":
        return f"kind: expected one of {error['ctx']['expected_tags']}, got {shown(error['input'].get('kind'))}"
    if error["type"] == "missing":
        return "expected a value, got nothing"
    if error["type"] == "value_error":
        return str(error["ctx"]["error"])
    if error["type"] == "string_pattern_mismatch":
        wanted = f"expected a text like {error['ctx']['pattern']}"
    else:
        wanted = re.sub(r"^Input (?:should be|is not) ", "expected ", error["msg"]).replace("dictionary", "mapping")
    came = "something else" if hidden else shown(error["input"])
    return f"{wanted}, got {came if len(came) <= 80 else f'{came[:77]}...'}"


def files_of(references: Iterable[str]) -> list[Path]:
    """The files that these lead to."""
    return [Path(text.removeprefix("file:")) for text in references if text.startswith("file:")]


def nearest(name: str, known: Collection[str]) -> str:
    """The known name that was likely meant, as the end of a sentence."""
    near = difflib.get_close_matches(name, list(known), n=1)
    return f"; did you mean {near[0]}?" if near else ""
