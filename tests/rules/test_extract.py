"""Values are taken out of an answer one at a time and never by chance; what is not there is said without a value."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter

from rules.errors import ExtractError, RevoqError, RuleError
from rules.extract import find, parse_path, row_answer, scalar, take, take_all
from rules.message import Answer
from rules.schema import Extraction
from rules.secret import Secret

EXTRACTION: TypeAdapter[Extraction] = TypeAdapter(Extraction)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
)


def extraction(**said: object) -> Extraction:
    """Build an extractor as a rule file would."""
    return EXTRACTION.validate_python(said)


def answer(body: object = None, *, status: int = 200, text: str | None = None) -> Answer:
    """An answer with a JSON body, or with this text."""
    return Answer(status, {"x-key-id": "k1"}, (json.dumps(body) if text is None else text).encode())


@pytest.mark.parametrize(
    ("value", "text"), [("a", "a"), ("", ""), (12, "12"), (True, "true"), (1.5, "1.5"), (10**30, "1" + "0" * 30)]
)
def test_scalars(value: object, text: str) -> None:
    """A scalar is taken as JSON writes it: true and not True."""
    assert take(extraction(type="JsonPath", path="$.id"), answer({"id": value}), {}) == text


@pytest.mark.parametrize("path", ["$.keys[*].id", "$..id"])
def test_several(path: str) -> None:
    """Several values are an error that tells how many, and never the first of them."""
    with pytest.raises(ExtractError, match="found 2"):
        take(extraction(type="JsonPath", path=path, optional=True), answer({"keys": [{"id": "a"}, {"id": "b"}]}), {})


@pytest.mark.parametrize("body", [{}, {"id": None}, [], "text", 5])
def test_missing(body: object) -> None:
    """What is missing or null is an error, and nothing where it may be missing."""
    with pytest.raises(ExtractError, match=r"a value at \$\.id"):
        take(extraction(type="JsonPath", path="$.id"), answer(body), {})
    assert take(extraction(type="JsonPath", path="$.id", optional=True), answer(body), {}) is None


@pytest.mark.parametrize("value", [{"a": [1, None]}, ["a", "b"], [], "text", 7, True])
def test_kept_as_json(value: object) -> None:
    """Where the rule asks for it, a list or an object is kept whole."""
    kept = take(extraction(type="JsonPath", path="$.id", json=True), answer({"id": value}), {})

    assert kept is not None
    assert json.loads(kept) == value


@pytest.mark.parametrize("value", [{}, {"a": "s3cr3t"}, [], ["s3cr3t"]])
def test_no_scalar(value: object) -> None:
    """An object or a list is no value, and the message does not repeat it."""
    with pytest.raises(ExtractError) as caught:
        take(extraction(type="JsonPath", path="$.id"), answer({"id": value}), {})
    assert "s3cr3t" not in str(caught.value)


def test_no_json() -> None:
    """A body that is not JSON has no paths."""
    with pytest.raises(ExtractError, match="not JSON"):
        take(extraction(type="JsonPath", path="$.id", optional=True), answer(text="<html>"), {})


def test_regex() -> None:
    """A pattern takes the one place where it fits; a secret in it stands for itself."""
    body = 'a.c="1" abc="2" a.c="1"'
    pattern = extraction(type="Regex", pattern='{{ TOKEN }}="(\\d)"')
    assert take(pattern, answer(text=body), {"TOKEN": Secret("a.c")}) == "1"
    with pytest.raises(ExtractError, match="2 different"):
        take(extraction(type="Regex", pattern='"(\\d)"'), answer(text=body), {})
    with pytest.raises(ExtractError, match="fits"):
        take(extraction(type="Regex", pattern="nowhere"), answer(text=body), {})


def test_endless_regex() -> None:
    """A pattern that does not come to an end is cut off."""
    with pytest.raises(ExtractError, match="did not come to an end"):
        take(extraction(type="Regex", pattern="^(?:(?:a+)+)+[bc]?\\z|((?:a|a)+)+b"), answer(text="a" * 80 + "!"), {})


def test_others() -> None:
    """A header is found in any case; the status and the body are taken as they are."""
    found = take_all(
        {
            "KEY": extraction(type="Header", name="X-Key-ID"),
            "STATUS": extraction(type="StatusCode"),
            "BODY": extraction(type="Body"),
            "NONE": extraction(type="Header", name="X-None", optional=True),
        },
        answer(text="all of it", status=204),
        {},
    )
    assert found == {"KEY": "k1", "STATUS": "204", "BODY": "all of it"}


def test_row() -> None:
    """A row is read as if it had been the whole answer."""
    assert take(extraction(type="JsonPath", path="$.id"), row_answer({"id": "k1"}), {}) == "k1"


@pytest.mark.parametrize("path", ["", "$.", "$[", "a b", "$.a.`len`", "$[?(@.a =~ 'x')]", "é", "x | y"])
def test_bad_paths(path: str) -> None:
    """A path that cannot be read, or that computes, is a mistake of the rule."""
    with pytest.raises(RuleError, match="JSONPath"):
        parse_path(path)


def test_find() -> None:
    """A path that does not fit the document finds nothing, and text is not indexed."""
    assert find("$.id[0]", {"id": "abc"}) == []
    assert find("$.a.b", [1]) == []
    assert find("$[*].id", [{"id": 1}, {"id": 2}]) == [1, 2]


@given(document=JSON, path=st.text(alphabet="$.[]*?@'\"ab0-:,() ", max_size=12))
def test_any_document(document: object, path: str) -> None:
    """No path and no document raises anything but our own errors."""
    try:
        taken = take(extraction(type="JsonPath", path=path), row_answer(document), {})
    except RevoqError:
        return
    assert isinstance(taken, str)


@given(text=st.text(), pattern=st.text(alphabet="ab()[]{}|*+?\\d^$.{{ TOKEN }}", max_size=15))
def test_any_pattern(text: str, pattern: str) -> None:
    """No pattern and no body raises anything but our own errors, and none repeats the secret."""
    says = ""
    try:
        take(extraction(type="Regex", pattern=pattern), answer(text=text), {"TOKEN": Secret("sEcReT")})
    except RevoqError as error:
        says = str(error)
    assert "sEcReT" not in says


@given(value=JSON)
def test_any_scalar(value: object) -> None:
    """What is written of a scalar reads back as the same scalar."""
    text = scalar(value)
    if text is not None and not isinstance(value, str):
        assert json.loads(text) == value
