"""Strict YAML: only what YAML 1.2 has, every mistake with its line, and nothing that grows without end."""

from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml

from rules.errors import RuleErrors
from rules.loader import builtin
from rules.strictyaml import parse


@pytest.mark.parametrize(
    ("text", "value"),
    [
        *(
            ("no", "no"),
            ("on", "on"),
            ("012", "012"),
            ("12:30", "12:30"),
            ("2026-03-10", "2026-03-10"),
            ("1_000", "1_000"),
        ),
        *(("true", True), ("False", False), ("~", None), ("null", None), ("", None), ("# nothing", None)),
        *(("12", 12), ("-3", -3), ("0x1f", 31), ("0o17", 15), ("1.5", 1.5), ("1e3", 1000.0), ("01.5", "01.5")),
        *(("'12'", "12"), ("!!str 12", "12"), ("!!int '12'", 12), ("1" * 5000, "1" * 5000)),
        ("{a: [1, {b: c}]}", {"a": [1, {"b": "c"}]}),
        ("{x: &x [1], y: *x}", {"x": [1], "y": [1]}),
    ],
)
def test_values(text: str, value: Any) -> None:
    """What looks like a date, a time, an octal or a yes stays a text; equal value means equal type, too."""
    found = parse(text, "f").value
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a: 1\nb: 2\na: 3", "f:3: the key 'a' stands on line 1 already"),
        ("a:\n  b: 1\n  b: 1", "f:3: the key 'b' stands on line 2 already"),
        ("404: x", "f:1: expected a text as key, got 404: put it in quotes"),
        ("[a, b]: x", "f:1: expected a text as key, got a list or a mapping: put it in quotes"),
        ("a: !!python/object:os.system x", "f:1: the tag 'tag:yaml.org,2002:python/object:os.system' is not allowed"),
        ("\na: !!binary eA==", "f:2: the tag 'tag:yaml.org,2002:binary' is not allowed"),
        ("a: !!set {x: y}", "f:1: the tag 'tag:yaml.org,2002:set' is not allowed"),
        ("!!bool 5", "f:1: the value does not fit its tag 'tag:yaml.org,2002:bool'"),
        ("a: 1\n---\nb: 1", "f:2: not YAML: but found another document expected a single document in the stream"),
        ("x: *y", "f:1: not YAML: found undefined alias 'y'"),
        ("a: 1\nb: \x00", "f:2: not YAML: a character that no text file should hold"),
        ("[" * 100_000, "f:1: nested deeper than 60 levels"),
        ("[" * 62 + "]" * 62, "f:1: nested deeper than 60 levels"),
        ("x: &a [*a]", "f:1: nested deeper than 60 levels"),
    ],
)
def test_mistakes(text: str, says: str) -> None:
    """Each mistake gets its line."""
    with pytest.raises(RuleErrors) as caught:
        parse(text, "f")
    assert str(caught.value) == says


def test_a_broken_file_is_not_quoted() -> None:
    """A parser's own message shows the line, secret and all; ours does not."""
    with pytest.raises(RuleErrors) as caught:
        parse("password: t0p-s3cret: [", "f")
    assert "t0p-s3cret" not in str(caught.value)


def test_every_mistake_comes_at_once() -> None:
    """A file is mended in one go."""
    with pytest.raises(RuleErrors) as caught:
        parse("a: 1\na: 2\n3: x\nb: !x y", "f")
    assert [mistake.line for mistake in caught.value.mistakes] == [2, 3, 4]


def test_aliases_do_not_explode() -> None:
    """Ten aliases of ten aliases of ten: the walk ends at a limit and says so."""
    names = "abcdefghij"
    lines = ["a: &a [x]", *(f"{b}: &{b} [{', '.join([f'*{a}'] * 10)}]" for a, b in pairwise(names))]
    with pytest.raises(RuleErrors, match="more than 200000 values"):
        parse("\n".join(lines), "f")


def test_lines() -> None:
    """A value's line is that of its key, or of the item; what the file does not have is where it would be."""
    document = parse("a: 1\nb:\n  - x\n  - c: 1\n    d: 2\n", "f")
    places: dict[tuple[str | int, ...], int] = {("a",): 1, ("b",): 2, ("b", 0): 3, ("b", 1, "d"): 5, ("b", 1, "e"): 4}
    assert {place: document.line(place) for place in places} == places
    assert document.line(["nowhere"]) == 1


@pytest.mark.parametrize("file", sorted(builtin().glob("[a-m]*.yaml")), ids=lambda file: file.stem)
def test_both_parsers_read_the_same(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Libyaml is only faster: values, lines and spellings are those of PyYAML's own parser."""
    text = file.read_text()
    fast = parse(text, "f")
    monkeypatch.setattr(yaml, "__with_libyaml__", False)
    assert parse(text, "f") == fast
