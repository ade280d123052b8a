"""Whatever a rule file holds: it is read, or each mistake is told with its line; `make fuzz` tries many more."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from rules.errors import RuleErrors
from rules.loader import builtin, read_text
from rules.strictyaml import MOST_NODES, parse

FILES = [yaml.safe_load(path.read_text("utf-8")) for path in sorted(builtin().glob("*.yaml"))]
BOMB = "a: &a [x]\n" + "".join(
    f"{here}: &{here} [{f'*{before},' * 9}]\n" for before, here in zip("abcdefgh", "bcdefghi", strict=True)
)
VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=8),
    st.sampled_from(
        [10**300, "\0", "\ud800", "9" * 5_000, "{{ TOKEN }}", "{{ TOKEN | date: 'x' }}", "{% for a in b %}"]
    ),
    st.sampled_from(
        ["(a+)+$", "(?P<TOKEN>(a|a)*)b", "$..[*]", "$[?(@.a==1)]", "http://127.0.0.1/", "https://evil.example"]
    ),
    st.lists(st.text(max_size=3), max_size=3),
    st.dictionaries(st.sampled_from(["type", "request", "url", "steps", "when", "is", "path"]), st.text(max_size=4)),
)


def places_of(value: Any, place: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every place in a document but its root."""
    steps = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in steps:
        yield (*place, key)
        yield from places_of(inner, (*place, key))


PLACES = [(number, place) for number, file in enumerate(FILES) for place in places_of(file)]


@given(where=st.sampled_from(PLACES), value=VALUES, gone=st.booleans())
def test_a_rule_file_of_ours_with_one_thing_wrong(
    where: tuple[int, tuple[Any, ...]], value: Any, *, gone: bool
) -> None:
    """Any value of any rule that comes with revoq is another one, or missing: read, or told with a line."""
    number, place = where
    file = copy.deepcopy(FILES[number])
    at = file
    for key in place[:-1]:
        at = at[key]
    if gone:
        del at[place[-1]]
    else:
        at[place[-1]] = value
    text = yaml.safe_dump(file, sort_keys=False)

    loaded, wrong = read_text(text, "x.yaml")

    assert loaded or wrong or not file.get("rules")
    assert all(1 <= mistake.line <= text.count("\n") + 1 and mistake.file == "x.yaml" for mistake in wrong)
    assert all(mistake.message for mistake in wrong)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (BOMB, f"more than {MOST_NODES} values"),
        ("rules: " + "[" * 100_000, "nested deeper"),
        ("rules: " + "{a: " * 50_000, "not YAML|nested deeper"),
        ("rules: [\0]", "a character that no text file should hold"),
        ("rules: [\ud800]", "a character that no text file should hold"),
        ("rules: &a [*a]", "nested deeper|more than|recursive"),
        ("rules: !!python/object/apply:os.system [id]", "tag"),
    ],
    ids=["aliases", "lists", "mappings", "NUL", "surrogate", "itself", "object"],
)
def test_bombs(text: str, says: str) -> None:
    """Each comes to a sentence, and quickly."""
    with pytest.raises(RuleErrors, match=says):
        parse(text, "x.yaml")


def test_a_huge_number_is_a_text() -> None:
    """Nobody counts with it."""
    assert parse("a: " + "9" * 100_000, "x.yaml").value == {"a": "9" * 100_000}
