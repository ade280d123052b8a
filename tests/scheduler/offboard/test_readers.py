"""Every reader with whatever a file may hold: rows, findings or mistakes come out, and never anything else."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rules.errors import BadInput
from scheduler.offboard.formats import READERS, recognise
from scheduler.offboard.items import TOKEN, Finding, Item, Mistake, Row
from scheduler.offboard.source import Source

REPORTS = Path(__file__).parent / "reports"
KEYS = st.sampled_from(
    [
        *("rule", "secret", "variables", "connection", "reason", "subject", "except", "TOKEN_ID", "sekret", ""),
        *("finding", "findings", "snippet", "id", "path", "line", "dependent_captures", "audit", "metadata"),
        *("RuleID", "Secret", "Match", "File", "StartLine", "DetectorName", "Raw", "RawV2", "SourceMetadata", "Data"),
    ]
)
LEAVES = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.sampled_from(["a.b", "env:X", "REDACTED"])
)
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS | st.text(), inner, max_size=5),
    max_leaves=20,
)
JSON = VALUES.map(json.dumps) | st.lists(VALUES.map(json.dumps), max_size=5).map("\n".join)
PIECES = st.sampled_from(
    [*',;"\n\r\t|#:-[]{}&*!', "rule", "secret", "connection", "- ", "? ", "\x00", "\x85", "\ufeff", "&a [*a]", "..."]
)
SOUP = st.lists(PIECES | st.text(max_size=8), max_size=40).map("".join)
BYTES = (SOUP | JSON).map(lambda text: text.encode("utf-8", "replace")) | st.binary(max_size=400)


def read(data: bytes, name: str, *, ending: str = "") -> list[Item]:
    """What a reader makes of these bytes."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"input{ending}"
        path.write_bytes(data)
        with Source(path) as source:
            return list(READERS[name](source))


@pytest.mark.parametrize("name", sorted(READERS))
@given(data=BYTES)
def test_anything_is_read_or_refused(name: str, data: bytes) -> None:
    """No exception and no hang: what cannot be used is a mistake with a place, and what can is whole text."""
    for item in read(data, name):
        if isinstance(item, Mistake):
            assert item.place
            assert item.says
        elif isinstance(item, Finding):
            assert item.values[TOKEN]
            assert all(item.names)
        else:
            assert isinstance(item, Row)
            assert (item.rule is None) != (item.subject is None)


@given(data=BYTES, ending=st.sampled_from(["", ".csv", ".json", ".yaml"]))
def test_a_format_is_always_named(data: bytes, ending: str) -> None:
    """Whatever it is, it is one of ours, or refused with a sentence; and the digest is that of all of it."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"input{ending}"
        path.write_bytes(data)
        with Source(path) as source:
            try:
                named = recognise(source)
            except BadInput:
                # The one thing that is refused here: a list in JSON that no scanner wrote.
                named, listed = "", data.removeprefix(b"\xef\xbb\xbf").lstrip().startswith(b"[")
                assert listed
    assert named in {*READERS, ""}


HARD = {
    "deep lists": b"[" * 100_000,
    "deep mappings": b'{"a":' * 50_000,
    "deep YAML": b"- " * 50_000 + b"x",
    "aliases": b"a: &a [x]\n"
    + b"".join(b"%c: &%c [*%c,*%c,*%c,*%c,*%c]\n" % (n, n, *[n - 1] * 5) for n in range(98, 120)),
    "a huge number": b'{"rule": "r", "secret": "s", "line": ' + b"9" * 100_000 + b"}",
    "no number": b'[{"rule": "r", "secret": "s", "line": NaN}, {"rule": "r", "secret": "s", "line": 1e999}]',
    "NULs": b"rule,secret\nr,a\0b\n",
    "half a character": b'{"rule": "r", "secret": "\\ud800"}',
    "half a character in bytes": b"rule,secret\nr,\xed\xa0\x80\n",
    "a formula": b"rule,secret,reason\nr,s,\"=cmd|' /C calc'!A0\"\n",
    "an open quote": b'rule,secret\nr,"' + b"x\n" * 50_000,
    "many columns": b"rule,secret" + b",x" * 50_000 + b"\nr,s\n",
    "a long cell": b"rule,secret\nr," + b"x" * 5_000_000 + b"\n",
}


@pytest.mark.parametrize("name", sorted(READERS))
@pytest.mark.parametrize("what", sorted(HARD))
def test_what_is_made_to_hurt(name: str, what: str) -> None:
    """Each reader takes it or refuses it, soon and in a sentence; no secret in it is half a character."""
    for item in read(HARD[what], name):
        if isinstance(item, Mistake):
            assert item.says
            assert len(item.says) < 1_000
        elif isinstance(item, Row) and item.secret is not None:
            item.secret.encode("utf-8")


SECRETS = st.text(st.characters(codec="utf-8", exclude_characters="\0\r\n"), min_size=1, max_size=40)


@given(secrets=st.lists(SECRETS, min_size=1, max_size=8))
def test_secrets_survive(secrets: list[str]) -> None:
    """A secret comes out of JSON Lines and of quoted CSV as it went in, letter for letter."""
    lines = "\n".join(json.dumps({"rule": "r", "secret": each}) for each in secrets)
    quoted = "rule,secret\n" + "".join('r,"{}"\n'.format(each.replace('"', '""')) for each in secrets)

    for name, text in (("jsonl", lines), ("csv", quoted)):
        items = read(text.encode(), name)
        assert [item.secret for item in items if isinstance(item, Row)] == secrets


@pytest.mark.parametrize("ending", ["json", "jsonl"])
def test_kingfisher_2(ending: str) -> None:
    """A report of version 2.14.0: each finding with its id, its secret, its place and what was found beside it."""
    with Source(REPORTS / f"kingfisher-2.14.0.{ending}") as source:
        assert recognise(source) == "kingfisher"
        items = list(READERS["kingfisher"](source))

    found = {item.names[0]: item for item in items if isinstance(item, Finding)}
    assert len(items) == len(found) == 5
    assert found["veles.secrets/sendgrid"].values[TOKEN].startswith("SG.")
    assert found["veles.secrets/sendgrid"].where == "./d.env, line 1"
    assert len(found["betterleaks.aws-access-token"].values["AWS_SECRET_ACCESS_KEY"]) == 40


def test_kingfisher_2_redacted() -> None:
    """Each finding that hides its secret is a mistake, which says how to get a report that can be used."""
    with Source(REPORTS / "kingfisher-2.14.0-redacted.json") as source:
        items = list(READERS["kingfisher"](source))

    assert len(items) == 5
    assert all(isinstance(item, Mistake) and "hides the secret" in item.says for item in items)


TRUFFLEHOG = {
    "SourceMetadata": {"Data": {"Filesystem": {"file": "a.txt", "line": 2}}},
    "SourceID": 1,
    "SourceType": 15,
    "SourceName": "trufflehog - filesystem",
    "DetectorType": 2,
    "DetectorName": "AWS",
    "DecoderName": "PLAIN",
    "Verified": False,
    "Raw": "AKIAX5MPQ7RSTUVWYZ2K",
    "RawV2": "AKIAX5MPQ7RSTUVWYZ2K:" + "w" * 40,
    "Redacted": "AKIAX5MPQ7RSTUVWYZ2K",
    "ExtraData": {"resource_type": "Access key"},
    "StructuredData": None,
}
LOG = {"level": "info-0", "ts": "2026-03-01T00:00:00Z", "logger": "trufflehog", "msg": "running source"}


@pytest.mark.parametrize("join", [":", ""])
def test_trufflehog(tmp_path: Path, join: str) -> None:
    """Its log is passed over; of a pair both halves are taken, however they are joined."""
    path = tmp_path / "found.json"
    pair = {**TRUFFLEHOG, "RawV2": f"{TRUFFLEHOG['Raw']}{join}{'w' * 40}"}
    path.write_text(f"{json.dumps(LOG)}\n{json.dumps(pair)}\n")

    with Source(path) as source:
        assert recognise(source) == "trufflehog"
        (item,) = READERS["trufflehog"](source)

    assert isinstance(item, Finding)
    assert item.values == {TOKEN: TRUFFLEHOG["Raw"], "PAIR": "w" * 40}
    assert (item.place, item.where, item.names[0]) == ("2", "a.txt, line 2", "trufflehog.AWS")


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("[]", "gitleaks"),
        ('[\n {\n  "RuleID": "a", "Secret": "b"}]', "gitleaks"),
        ('{"rule": "a", "secret": "b"}', "jsonl"),
        ('{\n "findings": [\n', "kingfisher"),
        ("- rule: a\n", "yaml"),
        ("# leavers\n---\n- rule: a\n", "yaml"),
        ("rule,secret\n", "csv"),
        ("", "csv"),
    ],
)
def test_recognised_by_content(tmp_path: Path, text: str, name: str) -> None:
    """The content tells, whatever the file is called."""
    path = tmp_path / "input"
    path.write_text(text)

    with Source(path) as source:
        assert recognise(source) == name


def test_lines_tell_where_a_row_begins() -> None:
    """A row's place is the line that it begins on, past quoted line breaks and empty lines."""
    items = read(b'rule,secret\na,"x\ny"\n\nb,z\nc,d,e\n', "csv")

    assert [item.place for item in items] == ["2", "5", "6"]
