"""Strict YAML: a text becomes plain values with the line of each; what the values may say is for its reader to check.

Only the types of YAML 1.2 exist here: `no`, `012`, `12:30` and `2026-03-10` stay texts. A key must be a text and may
not repeat, tags of other kinds are refused, and neither nesting nor aliases can make the document grow without end.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml
from yaml.composer import Composer
from yaml.parser import Parser
from yaml.reader import Reader, ReaderError
from yaml.resolver import BaseResolver
from yaml.scanner import Scanner

from rules.errors import RuleError, RuleErrors

DEEPEST = 60
MOST_NODES = 200_000

Place = tuple[str | int, ...]
"""The keys and positions that lead to a value."""


@dataclass(frozen=True, slots=True)
class Document:
    """What a file says, and on which line it says it."""

    value: Any
    file: str
    lines: Mapping[Place, int]
    written: Mapping[Place, str]
    """Numbers and truths as the file spells them, for a reader that wants 1.50 and not 1.5."""

    def line(self, place: Sequence[str | int]) -> int:
        """The line of the value at `place`, or of the nearest thing around it that the file has."""
        known = tuple(place)
        while known and known not in self.lines:
            known = known[:-1]
        return self.lines.get(known, 1)


def parse(text: str, file: str) -> Document:
    """Read one document; raises RuleErrors with every mistake, each with `file` and its line."""
    node = _compose(text, file)
    reading = _Reading(file)
    value = None if node is None else reading.read(node, ())
    if reading.mistakes:
        raise RuleErrors(reading.mistakes)
    return Document(value, file, reading.lines, reading.written)


class _Resolver(BaseResolver):
    """What a plain text is taken for; nothing here can construct an object."""


class _Loader(Reader, Scanner, Parser, Composer, _Resolver):
    """PyYAML's own parser, whose mistakes have a sentence and a place."""

    def __init__(self, text: str) -> None:
        Reader.__init__(self, text)
        Scanner.__init__(self)
        Parser.__init__(self)
        Composer.__init__(self)
        _Resolver.__init__(self)


if yaml.__with_libyaml__:
    from yaml._yaml import CParser

    class _FastLoader(Composer, CParser, _Resolver):
        """The same by libyaml, at a fifth of the time; composed here, since its own composer overflows the stack."""

        def __init__(self, text: str) -> None:
            CParser.__init__(self, text)
            Composer.__init__(self)
            _Resolver.__init__(self)


def _tag(name: str) -> str:
    return f"tag:yaml.org,2002:{name}"


# Numbers with a leading zero and numbers too long to be counted with are names that look like numbers: they stay texts.
_NUMBER = r"[-+]?(?:0|[1-9][0-9]{0,17})"
_EXPONENT = r"[eE][-+]?[0-9]{1,3}"
_BEGIN_NUMBERS = "-+0123456789"
_TRUTHS = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_NOTHINGS = {"": None, "~": None, "null": None, "Null": None, "NULL": None}

_SCALARS: dict[str, Callable[[str], Any]] = {
    _tag("str"): str,
    _tag("null"): _NOTHINGS.__getitem__,
    _tag("bool"): _TRUTHS.__getitem__,
    _tag("int"): lambda text: int(text, 0),
    _tag("float"): float,
}

# Beside each pattern what its texts begin with: most texts begin with none of these, and are matched with nothing.
for _name, _pattern, _beginnings in (
    ("null", "|".join(_NOTHINGS), {text[:1] for text in _NOTHINGS}),
    ("bool", "|".join(_TRUTHS), {text[:1] for text in _TRUTHS}),
    ("int", rf"{_NUMBER}|0x[0-9a-fA-F]{{1,15}}|0o[0-7]{{1,20}}", _BEGIN_NUMBERS),
    ("float", rf"{_NUMBER}(?:\.[0-9]*(?:{_EXPONENT})?|{_EXPONENT})", _BEGIN_NUMBERS),
):
    _Resolver.add_implicit_resolver(_tag(_name), re.compile(rf"\A(?:{_pattern})\Z"), sorted(_beginnings))


def _compose(text: str, file: str) -> yaml.Node | None:
    if yaml.__with_libyaml__:
        try:
            return _FastLoader(text).get_single_node()
        except RecursionError:
            # The other parser would take minutes to come to the same end.
            raise RuleErrors([_too_deep(file)]) from None
        except (yaml.YAMLError, ValueError):
            # Read once more, by the parser whose sentences are told.
            pass
    try:
        return _Loader(text).get_single_node()
    except yaml.MarkedYAMLError as error:
        # The mark's own text quotes the file, secrets and all; the problem alone says enough.
        mark = error.problem_mark or error.context_mark
        what = " ".join(part for part in (error.problem, error.context) if part)
        mistake = RuleError(f"not YAML: {what}", file, mark.line + 1 if mark else 1)
    except ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        mistake = RuleError("not YAML: a character that no text file should hold", file, line)
    except RecursionError:
        mistake = _too_deep(file)
    raise RuleErrors([mistake])


def _too_deep(file: str) -> RuleError:
    return RuleError(f"nested deeper than {DEEPEST} levels", file, 1)


class _Reading:
    """One walk over the nodes: values out, lines and mistakes noted."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.lines: dict[Place, int] = {}
        self.written: dict[Place, str] = {}
        self.mistakes: list[RuleError] = []
        self.nodes = 0

    def read(self, node: yaml.Node, place: Place) -> Any:
        self.lines.setdefault(place, _line(node))
        self.nodes += 1
        if len(place) > DEEPEST:
            return self._refuse(node, f"nested deeper than {DEEPEST} levels")
        if self.nodes > MOST_NODES:
            # An alias of an alias of an alias: each level multiplies, so the walk ends here.
            return self._refuse(node, f"more than {MOST_NODES} values") if self.nodes == MOST_NODES + 1 else None
        if isinstance(node, yaml.MappingNode) and node.tag == _tag("map"):
            return dict(self._pairs(node, place))
        if isinstance(node, yaml.SequenceNode) and node.tag == _tag("seq"):
            return [self.read(item, (*place, number)) for number, item in enumerate(node.value)]
        if isinstance(node, yaml.ScalarNode):
            return self._scalar(node, place)
        return self._refuse(node, f"the tag {node.tag!r} is not allowed")

    def _pairs(self, node: yaml.MappingNode, place: Place) -> Iterator[tuple[str, Any]]:
        first: dict[str, int] = {}
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode) or key.tag != _tag("str"):
                shown = key.value if isinstance(key, yaml.ScalarNode) else "a list or a mapping"
                self._refuse(key, f"expected a text as key, got {shown}: put it in quotes")
            elif key.value in first:
                self._refuse(key, f"the key {key.value!r} stands on line {first[key.value]} already")
            else:
                first[key.value] = _line(key)
                self.lines[(*place, key.value)] = _line(key)
                yield key.value, self.read(value, (*place, key.value))

    def _scalar(self, node: yaml.ScalarNode, place: Place) -> Any:
        try:
            read = _SCALARS[node.tag]
        except KeyError:
            return self._refuse(node, f"the tag {node.tag!r} is not allowed")
        try:
            value = read(node.value)
        except (KeyError, ValueError):
            return self._refuse(node, f"the value does not fit its tag {node.tag!r}")
        if isinstance(value, bool | int | float):
            self.written[place] = str(node.value)
        return value

    def _refuse(self, node: yaml.Node, says: str) -> None:
        self.mistakes.append(RuleError(says, self.file, _line(node)))


def _line(node: yaml.Node) -> int:
    return int(node.start_mark.line) + 1
