"""Requests leave whole or not at all: one slash, no foreign host, no doubled header, no broken body."""

import json
from datetime import UTC, datetime
from functools import partial
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rules.errors import ExtractError, RevoqError, TemplateError
from rules.message import Prepared
from rules.request import add_headers, follow, parse_base, prepare, set_parameter, show
from rules.schema import Request
from rules.secret import MASK, Secret

SECRET = "s3cr3t/?&"
VALUES: dict[str, str | Secret] = {"TOKEN": Secret(SECRET), "ID": "x/a?y=1"}


def make(bases: dict[str, str] | None = None, **said: Any) -> Prepared:
    """Prepare a request of the values above."""
    return prepare(Request(**said), VALUES, bases or {}, now=datetime(2026, 3, 10, tzinfo=UTC))


def headers_of(prepared: Prepared) -> dict[str, str]:
    """Open the headers."""
    return {name: value.reveal() for name, value in prepared.headers.items()}


def test_url() -> None:
    """An id out of an answer is one segment, so that it cannot lead the request anywhere else."""
    prepared = make(url="https://api.example.com/keys/{{ ID }}?t={{ TOKEN }}", method="delete")
    assert prepared.method == "DELETE"
    assert prepared.url.reveal() == "https://api.example.com/keys/x%2Fa%3Fy%3D1?t=s3cr3t%2F%3F%26"
    assert prepared.shown == f"https://api.example.com/keys/x%2Fa%3Fy%3D1?t={MASK}"
    assert prepared.origin == "https://api.example.com"


@pytest.mark.parametrize(
    ("base", "url", "filled", "origin"),
    [
        (
            "https://Git.example/gitlab/",
            "{{ BASE }}/api/{{ ID }}",
            "https://git.example/gitlab/api/x%2Fa%3Fy%3D1",
            "https://git.example",
        ),
        ("https://h", "{{ BASE }}", "https://h/", "https://h"),
        ("https://h:8443", "{{ BASE }}?a=b", "https://h:8443/?a=b", "https://h:8443"),
        ("http://[::1]:80", "{{ BASE }}/x", "http://[::1]:80/x", "http://[::1]"),
        ("https://h/a%20b", "{{ BASE }}/x", "https://h/a%20b/x", "https://h"),
    ],
)
def test_base(base: str, url: str, filled: str, origin: str) -> None:
    """A base URL is joined with one slash and stands as it is; its path and its port stay."""
    prepared = make({"BASE": base}, url=url)
    assert (prepared.url.reveal(), prepared.origin) == (filled, origin)


@pytest.mark.parametrize(
    "base",
    [
        "",
        "h",
        "ftp://h",
        "https://",
        "https://u:p@h",
        "https://h?x",
        "https://h#x",
        "https://h/..",
        "https://h:x",
        "https://h\\@e",
        "https://h h",
        "//h",
    ],
)
def test_bad_base(base: str) -> None:
    """A base URL is http or https with a host, and nothing else in front of or behind its path."""
    with pytest.raises(TemplateError) as caught:
        parse_base(base)
    assert "u:p" not in str(caught.value)


def test_undefined_header() -> None:
    """An undefined name in a header is an error; Kingfisher drops the header, sends, and reports success."""
    with pytest.raises(TemplateError, match="ACCOUNT is not defined"):
        make(url="https://h/", headers={"X-Account": "{{ ACCOUNT }}"})


def test_header_break() -> None:
    """A value cannot add a header."""
    with pytest.raises(TemplateError, match="line break"):
        prepare(Request(url="https://h/", headers={"X": "{{ A }}"}), {"A": "b\r\nX-Admin: 1"}, {})


@pytest.mark.parametrize(
    "headers",
    [{"Accept": "a", "accept": "b"}, {"Host": "{{ ID }}"}, {"Content-Length": "{{ ID }}"}, {"a b": "c"}, {"a:": "c"}],
)
def test_bad_headers(headers: dict[str, str]) -> None:
    """No header is there twice, none has a name that is none, and none of those that frame a request is filled in."""
    with pytest.raises(TemplateError):
        make(url="https://h/", headers=headers)


def test_bodies() -> None:
    """A body is escaped by its content type, or by how it begins where there is none."""
    typed = make(
        url="https://h/",
        method="POST",
        headers={"content-type": "application/json; charset=utf-8"},
        body='{"t": "{{ TOKEN }}\\""}',
    )
    assert typed.body is not None
    assert json.loads(typed.body.reveal()) == {"t": SECRET + '"'}
    guessed = make(url="https://h/", method="POST", body='["{{ BREAK | default: TOKEN }}"]')
    assert guessed.body == Secret(json.dumps([SECRET]))
    form = make(
        url="https://h/",
        method="POST",
        headers={"Content-Type": "application/x-www-form-urlencoded"},
        body="t={{ TOKEN }}",
    )
    assert form.body == Secret("t=s3cr3t%2F%3F%26")
    text = make(url="https://h/", method="POST", headers={"Content-Type": "text/plain"}, body="{{ TOKEN }}")
    assert text.body == Secret(SECRET)


def test_form() -> None:
    """A form is encoded value by value and says what it is."""
    prepared = make(url="https://h/", method="POST", form={"token": "{{ TOKEN }} &", "a b": "c"})
    assert prepared.body == Secret("token=s3cr3t%2F%3F%26+%26&a+b=c")
    assert headers_of(prepared) == {"Content-Type": "application/x-www-form-urlencoded"}
    with pytest.raises(TemplateError, match="a form is sent as"):
        make(url="https://h/", method="POST", form={"a": "b"}, headers={"content-type": "application/json"})


def test_broken_json() -> None:
    """A body that says it is JSON and is not never leaves."""
    with pytest.raises(TemplateError, match="is not JSON"):
        make(url="https://h/", method="POST", headers={"content-type": "application/json"}, body='{"t": "{{ TOKEN }}"')


def test_digest_and_dates() -> None:
    """Digest credentials are filled in, and Kingfisher's two values of a request are the same throughout."""
    prepared = make(
        url="https://h/?t={{ REQUEST_UNIX_MILLIS }}",
        headers={"Date": "{{ REQUEST_RFC1123_DATE }}"},
        digest={"username": "me", "password": "{{ TOKEN }}"},
    )
    assert prepared.digest == (Secret("me"), Secret(SECRET))
    assert prepared.url.reveal() == "https://h/?t=1773100800000"
    assert headers_of(prepared) == {"Date": "Tue, 10 Mar 2026 00:00:00 GMT"}


def test_printing() -> None:
    """A prepared request prints no secret."""
    prepared = make(
        url="https://h/{{ TOKEN }}", headers={"Authorization": "Bearer {{ TOKEN }}"}, body="{{ TOKEN }}", method="POST"
    )
    assert "s3cr3t" not in repr(prepared)


def test_add_headers() -> None:
    """An identity signs by adding headers, and never in place of one that the rule has set."""
    prepared = make(url="https://h/", headers={"Accept": "x"})
    signed = add_headers(prepared, {"Authorization": "Bearer {{ SESSION }}"}, {"SESSION": Secret("abc")})
    assert headers_of(signed) == {"Accept": "x", "Authorization": "Bearer abc"}
    with pytest.raises(TemplateError, match="twice"):
        add_headers(prepared, {"accept": "y"}, {})


def test_set_parameter() -> None:
    """One parameter is set in place of its namesakes, in the URL that is sent and in the one that is shown."""
    prepared = make(url="https://h/x?t={{ TOKEN }}&page=1&page=2")
    following = set_parameter(prepared, "page", "3&")
    assert following.url.reveal() == "https://h/x?t=s3cr3t%2F%3F%26&page=3%26"
    assert following.shown == f"https://h/x?t={MASK}&page=3%26"


@pytest.mark.parametrize(
    ("link", "url"),
    [
        ("/n?c=1", "https://h/n?c=1"),
        ("?c=2", "https://h/a/b?c=2"),
        ("https://h:443/z#part", "https://h:443/z"),
        ("HTTPS://H/z", "https://H/z"),
    ],
)
def test_follow(link: str, url: str) -> None:
    """A link may be relative or absolute; its values are masked where it is shown."""
    following = follow(make(url="https://h/a/b?t={{ TOKEN }}"), link)
    assert following.url.reveal() == url
    assert "=1" not in following.shown


@pytest.mark.parametrize(
    "link",
    [
        "https://evil/",
        "//evil/",
        "http://h/",
        "https://h:8443/",
        "https://u@h/",
        "https://h@evil/",
        "javascript:1",
        "https://h\\@evil/",
        "https://[",
        "https://h /x",
    ],
)
def test_foreign_link(link: str) -> None:
    """A link of the provider's cannot take the secret to another host."""
    with pytest.raises(ExtractError):
        follow(make(url="https://h/a"), link)


@given(link=st.text() | st.text(alphabet="htps:/@\\?#[].%0h\t\n ", max_size=20), name=st.text(), value=st.text())
def test_any_link(link: str, name: str, value: str) -> None:
    """Whatever a link or a cursor holds, the request stays at its origin or is refused."""
    prepared = make(url="https://h/a?t={{ TOKEN }}")
    for change in (partial(follow, prepared, link), partial(set_parameter, prepared, name, value)):
        try:
            changed = change()
        except RevoqError as error:
            shown = str(error)
        else:
            shown = changed.shown
            assert changed.url.reveal().lower().startswith(("https://h/", "https://h:443", "https://h?"))
        assert "s3cr3t" not in shown


def test_multipart() -> None:
    """Parts are written below one another, under a boundary that is in none of them; a file's name is the part's."""
    parts = [
        {"name": "token", "content": "{{ TOKEN }}"},
        {"name": "list", "type": "file", "content": "a,{{ TOKEN }}\n", "content_type": "text/csv"},
    ]
    request = Request.model_validate(
        {"method": "POST", "url": "https://api.example.com/x", "multipart": {"parts": parts}}
    )

    prepared = prepare(request, {"TOKEN": Secret('s"1\r\n--x')}, {})

    kind = prepared.headers["Content-Type"].reveal()
    boundary = kind.partition("boundary=")[2]
    assert kind.startswith("multipart/form-data; ")
    assert prepared.body is not None
    assert prepared.body.reveal() == (
        f'--{boundary}\r\nContent-Disposition: form-data; name="token"\r\n\r\ns"1\r\n--x\r\n'
        f'--{boundary}\r\nContent-Disposition: form-data; name="list"; filename="list"\r\n'
        f'Content-Type: text/csv\r\n\r\na,s"1\r\n--x\n\r\n--{boundary}--\r\n'
    )
    assert 's"1' not in (show(request, {"TOKEN": Secret('s"1')}, {}).body or "")


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ({"headers": {"content-type": "application/json"}}, "multipart/form-data"),
        ({"multipart": {"parts": [{"name": 'a"b', "content": "x"}]}}, "a quote or a line break"),
        ({"multipart": {"parts": [{"name": "a", "content": "{{ NONE }}"}]}}, "NONE"),
    ],
)
def test_multipart_refused(more: dict[str, object], says: str) -> None:
    """Another content type, a name that would break out of its header, an unknown name: nothing leaves."""
    fields = {"method": "POST", "url": "https://a.example/x", "multipart": {"parts": [{"name": "a", "content": "x"}]}}
    request = Request.model_validate({**fields, **more})

    with pytest.raises(TemplateError, match=says):
        prepare(request, {}, {})
