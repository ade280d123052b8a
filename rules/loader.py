"""Rule files into a catalogue, strictly: every mistake at once, each with its file and line.

The YAML itself is read by `strictyaml`, its shape described by `schema`, and what no schema can see found by `checks`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from rules import kingfisher, strictyaml
from rules.checks import Mistake, check_provider, check_rule
from rules.errors import RuleError, RuleErrors, UnknownRule
from rules.model import Model
from rules.schema import Provider, Rule
from rules.strictyaml import Document, Place
from rules.wording import describe, explain, nearest

LARGEST = 4 << 20
M = TypeVar("M", bound=Model)
SUFFIXES = frozenset({".yaml", ".yml"})


@dataclass(frozen=True, slots=True)
class LoadedRule:
    """A rule that can be used, where it stands, and a digest of it and of what its provider's rules share.

    `notices` say, each with its line, what of the file is not followed and why; the rule works without it.
    """

    rule: Rule
    provider: Provider | None
    file: str
    line: int
    digest: str
    notices: tuple[RuleError, ...] = ()


class Catalogue:
    """The rules by their ids; an alias leads to a rule unless an id says otherwise."""

    def __init__(self, rules: Sequence[LoadedRule]) -> None:
        """Sort by id; where two have one id, the first counts."""
        by_id: dict[str, LoadedRule] = {}
        for loaded in rules:
            by_id.setdefault(loaded.rule.id, loaded)
        self._rules = dict(sorted(by_id.items()))
        self._aliases: dict[str, LoadedRule] = {}
        for loaded in self._rules.values():
            for alias in loaded.rule.aliases:
                self._aliases.setdefault(alias, loaded)

    def get(self, name: str) -> LoadedRule:
        """Find the rule with this id or alias; the sentence for an unknown one names those that are near."""
        found = self._rules.get(name) or self._aliases.get(name)
        if found is None:
            near = get_close_matches(name, [*self._rules, *self._aliases], n=3, cutoff=0.5)
            hint = f"; did you mean {' or '.join(near)}?" if near else "; revoq rules list shows all of them"
            raise UnknownRule(f"there is no rule {name!r}{hint}")
        return found

    def __iter__(self) -> Iterator[LoadedRule]:
        """All rules, by id."""
        return iter(self._rules.values())

    def __len__(self) -> int:
        """How many rules there are."""
        return len(self._rules)

    def __contains__(self, name: object) -> bool:
        """Whether a rule has this id or alias."""
        return name in self._rules or name in self._aliases


def builtin() -> Path:
    """The folder of the rules that come with revoq."""
    return Path(__file__).parent / "providers"


def hosts_of(loaded: LoadedRule) -> Mapping[str, list[str]]:
    """The host variables of a rule, with the base URLs that each may stand for; the rule's own win."""
    shared = loaded.provider.hosts if loaded.provider is not None else {}
    return {**shared, **loaded.rule.hosts}


def load(paths: Sequence[Path]) -> Catalogue:
    """Read rule files and folders of them; raises RuleErrors with every mistake."""
    catalogue, mistakes = read(paths)
    if mistakes:
        raise RuleErrors(mistakes)
    return catalogue


def read(paths: Sequence[Path]) -> tuple[Catalogue, list[RuleError]]:
    """Read what can be used; a rule with a mistake is left out and its mistakes are named, and the others work."""
    rules: list[LoadedRule] = []
    mistakes: list[RuleError] = []
    for path in _files(paths, mistakes):
        found, wrong = _read_file(path)
        rules += found
        mistakes += wrong
    mistakes += _check_names(rules)
    return Catalogue(rules), list(RuleErrors(mistakes).mistakes)


def read_text(text: str, file: str) -> tuple[list[LoadedRule], list[RuleError]]:
    """Read the rules of one file's text."""
    try:
        document = strictyaml.parse(text, file)
    except RuleErrors as errors:
        return [], list(errors.mistakes)
    return _Reading(document).read()


def _files(paths: Sequence[Path], mistakes: list[RuleError]) -> Iterator[Path]:
    for path in dict.fromkeys(paths):
        try:
            if path.is_dir():
                yield from sorted(file for file in path.rglob("*") if file.suffix in SUFFIXES and file.is_file())
            else:
                yield path
        except (OSError, ValueError) as error:
            mistakes.append(RuleError(f"this folder cannot be read: {_reason(error)}", str(path)))


def _read_file(path: Path) -> tuple[list[LoadedRule], list[RuleError]]:
    try:
        if path.stat().st_size > LARGEST:
            return [], [RuleError(f"the file is larger than {LARGEST >> 20} MiB", str(path), 1)]
        text = path.read_text("utf-8")
    except (OSError, ValueError) as error:
        return [], [RuleError(f"this file cannot be read: {_reason(error)}", str(path), 1)]
    return read_text(text, str(path))


def _reason(error: Exception) -> str:
    return str(getattr(error, "strerror", None) or "it is not UTF-8 text")


class _Reading:
    """One file: its provider and its rules, each checked for itself, so that one mistake hides no other."""

    def __init__(self, document: Document) -> None:
        self._document = document
        self._mistakes: list[RuleError] = []
        # Only our own format has a provider; a file without one may hold whatever Kingfisher's 1.x format allows.
        self._kingfisher = isinstance(document.value, dict) and "provider" not in document.value

    def read(self) -> tuple[list[LoadedRule], list[RuleError]]:
        """Read all that can be used, and name all that is wrong."""
        value = self._document.value
        if not isinstance(value, dict):
            self._say((), f"expected a mapping with the key 'rules', got {describe(value)}")
            return [], self._mistakes
        for key in value:
            if key not in {"provider", "rules"}:
                self._say((key,), f"unknown key {key!r}{nearest(str(key), ['provider', 'rules'])}")
        provider = self._provider(value.get("provider"))
        usable = not self._mistakes
        rules = value.get("rules")
        if not isinstance(rules, list) or not rules:
            self._say(("rules",), f"rules: expected a list of rules, got {describe(rules or None)}")
            return [], self._mistakes
        found = [self._rule(number, rule, provider, usable=usable) for number, rule in enumerate(rules)]
        return [loaded for loaded in found if loaded is not None], self._mistakes

    def _provider(self, value: object) -> Provider | None:
        provider = None if value is None else self._build(Provider, ("provider",), value)
        if provider is None:
            return None
        wrong = check_provider(provider)
        self._say_all(("provider",), wrong)
        return None if wrong else provider

    def _rule(self, number: int, value: object, provider: Provider | None, *, usable: bool) -> LoadedRule | None:
        place = ("rules", number)
        notices: list[Mistake] = []
        wrong: list[Mistake] = []
        if self._kingfisher and isinstance(value, dict):
            adapted = kingfisher.adapt(value, self._written_below(place))
            value, wrong, notices = adapted.value, adapted.mistakes, adapted.notices
        rule = self._build(Rule, place, value)
        if rule is None or not usable:
            # What its provider shares cannot be read, so that every name from there would look like a mistake here.
            self._say_all(place, wrong)
            return None
        wrong += check_rule(rule, provider)
        if self._kingfisher:
            rule, wrong, more = kingfisher.soften(rule, wrong)
            notices += more
        self._say_all(place, wrong)
        if wrong:
            return None
        line = self._document.line(place)
        told = tuple(self._error((*place, *inner), sentence) for inner, sentence in notices)
        return LoadedRule(rule, provider, self._document.file, line, digest_of(rule, provider), told)

    def _written_below(self, place: Place) -> dict[Place, str]:
        depth = len(place)
        return {at[depth:]: text for at, text in self._document.written.items() if at[:depth] == place}

    def _build(self, model: type[M], place: Place, value: object) -> M | None:
        value = _raise_names(value)
        try:
            return model.model_validate(value)
        except ValidationError as error:
            self._say_all(place, explain(error, model, value))
        except RecursionError:
            self._say(place, "nested too deep")
        return None

    def _say_all(self, place: Place, mistakes: Sequence[Mistake] | Iterator[Mistake]) -> None:
        for inner, sentence in mistakes:
            self._say((*place, *inner), sentence)

    def _say(self, place: Place, sentence: str) -> None:
        self._mistakes.append(self._error(place, sentence))

    def _error(self, place: Place, sentence: str) -> RuleError:
        return RuleError(sentence, self._document.file, self._document.line(self._as_written(place)))

    def _as_written(self, place: Place) -> Place:
        """Undo `_raise_names` in a place: the file may spell a name under `extract` in small letters."""
        written: Place = ()
        for number, step in enumerate(place):
            known = (*written, step)
            if place[number - 1 : number] == ("extract",) and known not in self._document.lines:
                spelt = [at for at in self._document.lines if at and at[:-1] == written and str(at[-1]).upper() == step]
                known = spelt[0] if spelt else known
            written = known
        return written


def _raise_names(value: Any) -> Any:
    """Put the names under `extract` and of dependencies in upper case, as Kingfisher does before it uses them."""
    if isinstance(value, list):
        return [_raise_names(item) for item in value]
    if not isinstance(value, dict):
        return value
    raised = {key: _raise_names(item) for key, item in value.items()}
    if "rule_id" in raised and isinstance(raised.get("variable"), str):
        raised["variable"] = raised["variable"].upper()
    taken = raised.get("extract")
    if isinstance(taken, dict) and len({str(name).upper() for name in taken}) == len(taken):
        raised["extract"] = {str(name).upper(): item for name, item in taken.items()}
    return raised


def digest_of(rule: Rule, provider: Provider | None) -> str:
    """SHA-256 of the canonical JSON of a rule and of what its provider's rules share."""
    parts = {
        "rule": rule.model_dump(mode="json", by_alias=True),
        "provider": provider.model_dump(mode="json", by_alias=True) if provider is not None else None,
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def _check_names(rules: Sequence[LoadedRule]) -> list[RuleError]:
    """Find ids and aliases that two rules claim; an id wins over an alias, and the first over the second."""
    mistakes: list[RuleError] = []
    ids: dict[str, LoadedRule] = {}
    for loaded in rules:
        first = ids.setdefault(loaded.rule.id, loaded)
        if first is not loaded:
            says = f"the id {loaded.rule.id} is taken by {first.file}:{first.line}; that one is used"
            mistakes.append(RuleError(says, loaded.file, loaded.line))
    aliases: dict[str, LoadedRule] = {}
    for loaded in rules:
        for alias in loaded.rule.aliases:
            other = ids.get(alias) or aliases.setdefault(alias, loaded)
            if other is not loaded:
                says = f"the alias {alias} of {loaded.rule.id} leads to {other.rule.id} ({other.file}:{other.line})"
                mistakes.append(RuleError(says, loaded.file, loaded.line))
    return mistakes
