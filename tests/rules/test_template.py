"""Templates: names are known or refused, values are escaped for their place, and a masked fill shows no secret."""

import base64
import json
from datetime import UTC, datetime
from urllib.parse import unquote

import pytest
import regex
from hypothesis import given
from hypothesis import strategies as st

from rules.errors import RevoqError, TemplateError
from rules.secret import MASK, Secret
from rules.template import Origin, Place, compile_template, split_origin

NOW = datetime(2026, 3, 10, 12, 30, 1, 500000, tzinfo=UTC)
SECRET = "s3cr3t-Xy/z?"
VALUES: dict[str, str | Secret] = {"TOKEN": Secret(SECRET), "ID": "x/a?y=1", "EMPTY": "", "BREAK": "x\r\ny: z"}


def fill(source: str, place: Place = Place.PLAIN, *, masked: bool = False) -> str:
    """Fill a template with the values above."""
    return compile_template(source).fill(VALUES, place, masked=masked, now=NOW, random=lambda count: b"\x07" * count)


# ── names ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("place", list(Place))
def test_undefined(place: Place) -> None:
    """An undefined name is an error that names it, wherever it stands; Kingfisher drops the header and sends."""
    with pytest.raises(TemplateError, match="ACCOUNT is not defined") as caught:
        fill("Bearer {{ ACCOUNT }}{{ TOKEN }}", place)
    assert SECRET not in str(caught.value)


def test_default() -> None:
    """`default` keeps its meaning, and what stands behind it is asked for only when it is needed."""
    assert fill("{{ ACCOUNT | default: TOKEN }}") == SECRET
    assert fill("{{ TOKEN | default: ACCOUNT }}") == SECRET
    with pytest.raises(TemplateError, match="OTHER is not defined"):
        fill("{{ ACCOUNT | default: OTHER }}")


def test_names() -> None:
    """A template tells what it asks for; its own variables are not among it, and `default` makes a name optional."""
    template = compile_template(
        "{% assign a = TOKEN | append: B %}{% capture c %}{{ a }}{% endcapture %}{{ c }}{{ D | default: E }}"
    )
    assert template.names == {"TOKEN", "B", "D", "E"}
    assert template.required == {"TOKEN", "B", "E"}


@pytest.mark.parametrize("source", ["{{ now }}", "{{ today }}", "{{ 'now' | date: '%Y' }}"])
def test_clock(source: str) -> None:
    """A template cannot read the clock behind our back."""
    with pytest.raises(TemplateError):
        fill(source)


@pytest.mark.parametrize(
    "source", ["{{ TOKEN | b64encode }}", "{{ TOKEN | prefix: 1, 2, 3 }}", "{{ TOKEN", "{% if %}", "{% x %}"]
)
def test_syntax(source: str) -> None:
    """What cannot be read is refused when it is read, and not when it is filled."""
    with pytest.raises(TemplateError, match="cannot be read"):
        compile_template(source)


def test_near_filter() -> None:
    """A misspelt filter is told with the one that was meant."""
    with pytest.raises(TemplateError, match="no filter b64encc; did you mean b64enc"):
        compile_template("{{ TOKEN | b64encc }}")


@pytest.mark.parametrize(
    "tag", ["echo TOKEN", "cycle TOKEN", "include 'a'", "render 'a'", "increment x", "liquid echo TOKEN"]
)
def test_tags(tag: str) -> None:
    """Tags that print past the escaping, or load other files, do not exist."""
    with pytest.raises(TemplateError, match="cannot be read"):
        compile_template(f"{{% {tag} %}}")


@pytest.mark.parametrize(
    "source",
    [
        "{% for i in (1..99999) %}x{% endfor %}",
        "{% for i in (1..999) %}{% for j in (1..999) %}x{% endfor %}{% endfor %}",
        "{% assign x = 'aa' %}{% for i in (1..99) %}{% assign x = x | append: x %}{% endfor %}",
        "{% assign x = 'aa' %}{% for i in (1..99) %}{% assign x = x | replace: 'a', x %}{% endfor %}",
        "{% assign x = 9 %}{% for i in (1..99) %}{% assign x = x | times: x %}{% endfor %}",
        "{{ (1..999999999) | slice: 0, 999999999 }}",
    ],
)
def test_bombs(source: str) -> None:
    """A template can neither loop nor grow without end."""
    with pytest.raises(TemplateError):
        fill(source)


# ── places ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_url() -> None:
    """A value is one segment of a path, whatever it holds."""
    assert fill("https://h/keys/{{ ID }}", Place.URL) == "https://h/keys/x%2Fa%3Fy%3D1"
    assert fill("https://h/?a={{ BREAK }}", Place.URL) == "https://h/?a=x%0D%0Ay%3A%20z"


@pytest.mark.parametrize("value", ["", ".", "..", " ", "../../x?y=1", "x/../y", "..\\x"])
@pytest.mark.parametrize(
    "source",
    ["https://h/keys/{{ X }}", "https://h/keys/{{ X }}/x", "https://h/{{ X }}?a=b", "https://h/{{ X | url_encode }}"],
)
def test_segments(value: str, source: str) -> None:
    """A value that would make a segment vanish, or lead upwards, is refused: the collection is not the item."""
    with pytest.raises(TemplateError, match="segment"):
        compile_template(source).fill({"X": value}, Place.URL)


def test_segment_of_two() -> None:
    """Two values that make `..` together are refused too, and an empty one beside text is not."""
    with pytest.raises(TemplateError, match="segment"):
        compile_template("https://h/{{ A }}{{ A }}").fill({"A": "."}, Place.URL)
    assert compile_template("https://h/{{ A }}x?b={{ A }}").fill({"A": ""}, Place.URL) == "https://h/x?b="


def test_header() -> None:
    """A header holds no line break, no control character and nothing outside Latin-1."""
    assert fill("Bearer {{ TOKEN }}\n", Place.HEADER) == f"Bearer {SECRET}"
    for value in ("x\r\ny: z", "x\n", "\0", "a\tb", "\x85", "é…"):
        with pytest.raises(TemplateError, match="header") as caught:
            compile_template("Bearer {{ X }}").fill({"X": value}, Place.HEADER)
        assert value not in str(caught.value)
    with pytest.raises(TemplateError, match="header"):
        fill("{{ '' | newline }}", Place.HEADER)


def test_json() -> None:
    """A value stays inside its string, `json_escape` brings its own quotes, and outside stand scalars only."""
    tricky = '"},{"admin":true,"\\'
    body = compile_template('{"a": "{{ X }}", "b": {{ X | json_escape }}, "c": {{ N }}}').fill(
        {"X": tricky, "N": "12"}, Place.BODY_JSON
    )
    assert json.loads(body) == {"a": tricky, "b": tricky, "c": 12}
    for bad in ("1,2", "1}", "", "[1]", "nul"):
        with pytest.raises(TemplateError, match="quote"):
            compile_template('{"ids": [{{ X }}]}').fill({"X": bad}, Place.BODY_JSON)
    with pytest.raises(TemplateError, match="brings its own quotes"):
        compile_template('{"a": "{{ X | json_escape }}"}').fill({"X": "x"}, Place.BODY_JSON)


def test_form_and_pattern() -> None:
    """In a form a value is form-encoded; in a pattern it means itself, in verbose patterns and sets too."""
    assert compile_template("a={{ X }}").fill({"X": "b&c d"}, Place.BODY_FORM) == "a=b%26c+d"
    text = "a.b*[c] #(d)-"
    pattern = compile_template("(?x) ^ {{ X }} $").fill({"X": text}, Place.REGEX)
    assert regex.fullmatch(pattern, text, regex.V1)
    assert not regex.fullmatch(pattern, text.replace(".", "x"), regex.V1)


def test_encoded_once() -> None:
    """What a filter encoded for a place is not encoded again there; what it encoded for another place is data."""
    assert fill("https://h/{{ TOKEN | url_encode }}", Place.URL) == "https://h/s3cr3t%2DXy%2Fz%3F"
    encoded = base64.b64encode(SECRET.encode()).decode()
    assert unquote(fill("https://h/{{ TOKEN | b64enc }}", Place.URL)) == f"https://h/{encoded}"
    assert "%22" in fill("https://h/{{ TOKEN | json_escape }}", Place.URL)
    assert fill("https://h/?{% capture q %}a={{ TOKEN }}&b=1{% endcapture %}{{ q }}", Place.URL).endswith(
        "?a=s3cr3t-Xy%2Fz%3F&b=1"
    )
    by_hand = "{% assign t = '' | iso_timestamp_no_frac | replace: ':', '%3A' %}https://h/?t={{ t }}"
    assert fill(by_hand, Place.URL) == "https://h/?t=2026-03-10T12%3A30%3A01Z"


# ── masks ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "source",
    [
        "{{ TOKEN }}",
        "{{ TOKEN | b64enc }}",
        "{{ 'user:' | append: TOKEN | b64enc }}",
        "{{ 'x' | hmac_sha256: TOKEN }}",
        "{{ TOKEN | prefix: 4 }}",
        "{{ TOKEN | split: '-' | first }}",
        "{% assign t = TOKEN | sha256 %}{{ t }}",
        "{% capture t %}{{ TOKEN }}{% endcapture %}{{ t | upcase }}",
        "{% for part in TOKEN %}{{ part }}{% endfor %}",
        "{% if TOKEN contains 's3' %}yes{% endif %}{{ TOKEN }}",
    ],
)
def test_masked(source: str) -> None:
    """Whatever a secret goes into prints as the mask, and never as something made of the secret."""
    shown = fill(f"https://h/{source}", Place.URL, masked=True)
    assert shown == f"https://h/{MASK}"


def test_masked_failure() -> None:
    """A template that cannot be filled with masks is masked whole."""
    assert fill("https://h/{{ TOKEN | crc32 | base62 | plus: 1 | divided_by: 0 }}", Place.URL, masked=True) in {
        MASK,
        f"https://h/{MASK}",
    }


# ── origins ───────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("source", "origin"),
    [
        ("https://Api.example.com:8443/{{ TOKEN }}", Origin(None, "https://api.example.com:8443")),
        ("https://api.example.com", Origin(None, "https://api.example.com")),
        ("  {% assign a = TOKEN %}\n https://h?x={{ a }}\n", Origin(None, "https://h")),
        ("http://[::1]:8080/", Origin(None, "http://[::1]:8080")),
        ("{{ BASE }}/x", Origin("BASE", None)),
        ("{{BASE}}", Origin("BASE", None)),
    ],
)
def test_origin(source: str, origin: Origin) -> None:
    """A URL begins with a host in the rule's own text, or with a declared base URL."""
    assert split_origin(source, {"BASE"}) == origin


@pytest.mark.parametrize(
    "source",
    [
        "{{ TOKEN }}/x",
        "https://{{ TOKEN }}/",
        "https://{{ TOKEN }}.example.com/",
        "https://example.com{{ TOKEN }}/",
        "https://example.com:{{ TOKEN }}/",
        "https://user@example.com/",
        "https://example.com{% comment %}{% endcomment %}.evil/",
        "https://example.com{% if TOKEN %}.evil{% endif %}/",
        "{% if TOKEN %}https://example.com/{% endif %}",
        "{{ BASE }}.evil/",
        "{{ BASE }}{{ TOKEN }}",
        "{{ BASE | append: TOKEN }}/",
        "{% assign BASE = TOKEN %}{{ BASE }}/",
        "{% capture BASE %}https://evil{% endcapture %}{{ BASE }}/",
        "ftp://example.com/",
        "/relative",
        "",
    ],
)
def test_no_origin(source: str) -> None:
    """A host never comes from a credential, whatever way it takes."""
    with pytest.raises(TemplateError, match="a host never comes from a credential"):
        split_origin(source, {"BASE"})


# ── whatever comes ────────────────────────────────────────────────────────────────────────────────────────────────

LIQUID = st.lists(
    st.sampled_from(
        [
            "{{ TOKEN }}",
            "{{ ID | ",
            "{{",
            "}}",
            "{% if TOKEN %}",
            "{% endif %}",
            "{% for i in TOKEN %}",
            "{% endfor %}",
            "{% assign x = TOKEN | ",
            "b64dec",
            "prefix: ID",
            "base62",
            "times: TOKEN",
            "split: ''",
            "%}",
            " | ",
            "x",
            '"',
            "{{ x[TOKEN] }}",
            "{{ TOKEN.first }}",
            "{{ TOKEN | slice: ID }}",
            "{% capture x %}",
            "{% endcapture %}",
        ]
    )
    | st.text(max_size=5),
    max_size=8,
).map("".join)


@given(source=LIQUID, value=st.text(max_size=20), place=st.sampled_from(list(Place)), masked=st.booleans())
def test_any_template(source: str, value: str, place: Place, masked: bool) -> None:  # noqa: FBT001 - drawn, not passed
    """No template and no value raises anything but our own errors, and no message repeats a secret."""
    secret = f"{value}sEcReT{value}"
    refusal: RevoqError | None = None
    try:
        shown = compile_template(source).fill({"TOKEN": Secret(secret), "ID": value}, place, masked=masked)
    except RevoqError as error:
        refusal, shown = error, str(error)
    if refusal is not None:
        assert (refusal.__context__, refusal.__cause__) == (None, None)
    if refusal is not None or masked:
        assert "sEcReT" not in shown


@given(value=st.text(min_size=1))
def test_any_path_value(value: str) -> None:
    """Whatever a value holds, it stays one segment of the path or is refused."""
    try:
        url = compile_template("https://h/a/{{ X }}/b").fill({"X": value}, Place.URL)
    except TemplateError:
        return
    assert url.startswith("https://h/a/")
    assert url.count("/") == 5
    assert unquote(url.split("/")[4]) == value


@given(value=st.text())
def test_any_json_value(value: str) -> None:
    """Whatever a value holds, it stays one string of the body."""
    try:
        body = compile_template('{"a": "{{ X }}"}').fill({"X": value}, Place.BODY_JSON)
    except TemplateError:
        return
    assert json.loads(body) == {"a": value}
