"""Whatever settings, answers, sealed rows and exports hold: our own errors alone, no secret in them, nobody else asked.

Rule files are tried in tests/rules, files of leavers and reports of scanners in tests/scheduler/offboard.
`make fuzz` tries many more.
"""

from __future__ import annotations

import copy
import dataclasses
import io
import json
import re
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from rules.errors import RevoqError
from rules.loader import LoadedRule, builtin, hosts_of, load
from rules.message import Answer, Prepared
from rules.parts import looks_of, named, names_in
from rules.plan import Planned, Purpose
from rules.schema import Acting, Request
from rules.secret import Secret
from worker.connections import Account
from worker.errors import SafeError, SettingsErrors
from worker.ledger.audit import Tally
from worker.ledger.exports import verify_file
from worker.safe import Ring, Safe, Sealed
from worker.settings import Settings, load_settings
from worker.step import Filling, Tools
from worker.steps import http

PLANTED = "pl4nted-s3cret-hunter2"
HOST = "https://provider.example.com"
ELSEWHERE = ["http://169.254.169.254/latest", "//evil.example.net/x", "https://provider.example.com@evil.example.net/"]
TEXTS = ["\0", "\ud800", "=1+1", "\u202e", "\x1b[2J", "9" * 400, "1e999", "NaN", "{{ TOKEN }}", "{% raw %}", "env:"]
LONG = ["a" * 70_000, "%00", "../../etc/passwd", "\r\nX-Evil: 1", f"{HOST}:99999/"]
NASTY = st.sampled_from([*TEXTS, *LONG, *ELSEWHERE])
LEAF = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from([10**300, -(10**19), 2**63])
    | st.floats()
    | st.text(max_size=8)
    | NASTY
)


def nested(keys: st.SearchStrategy[str]) -> st.SearchStrategy[Any]:
    """Any value, with these keys where it is a mapping."""
    return st.recursive(
        LEAF, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=4), max_leaves=12
    )


def places_of(value: Any, place: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every place in a document but its root."""
    steps = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in steps:
        yield (*place, key)
        yield from places_of(inner, (*place, key))


def changed(document: Any, place: tuple[Any, ...], value: Any) -> Any:
    """The document with another value at a place."""
    found = copy.deepcopy(document)
    at = found
    for key in place[:-1]:
        at = at[key]
    at[place[-1]] = value
    return found


# ── revoq.yaml ────────────────────────────────────────────────────────────────────────────────────────────────────────

FULL: dict[str, Any] = {
    "database_url": f"postgresql+psycopg://revoq:{PLANTED}@db/revoq",
    "broker_url": f"redis://:{PLANTED}@broker/0",
    "claim": "2m",
    "recheck": ["1h", "1d"],
    "commands_allowed": ["/bin/true"],
    "connections": {
        "lake": {
            "provider": "pangolin",
            "base_url": HOST,
            "identity": {"username": "revoq-bot", "password": "env:LAKE"},
            "owns": {"tenant": "t1"},
            "protected": {"subjects": ["revoq-bot"], "names": ["break-*"]},
            "limits": {"requests": 5, "per": "1s"},
            "proxy": "http://proxy:3128",
        }
    },
    "sinks": {
        "vault": {"kind": "vault", "url": HOST, "mount": "kv", "path": "u/{name}", "token": "env:VAULT"},
        "files": {"kind": "file", "path": "/srv/keys/{name}.json"},
    },
    "schedules": {
        "weekly": {
            "intent": "rotate",
            "rule": "pangolin.service_user",
            "connection": "lake",
            "cron": "0 3 * * MON",
            "timezone": "Europe/Berlin",
            "targets": {"names": ["*"], "max_age": "7d"},
            "sinks": ["vault"],
        }
    },
    "notices": [{"events": ["still_alive"], "to": "env:NOTICES"}],
}
NAMES = ("schedules", "weekly", "sinks")
"""Here a mapping leads from targets to names of sinks, and a name that does not exist is told."""
STRUCTURED = [
    *(place for place in places_of(FULL) if len(place) > 1 and place[: len(NAMES)] != NAMES),
    *(("database_url",), ("broker_url",)),
]
"""Where only somebody who has indented wrongly puts a mapping."""
KEYS = st.sampled_from(sorted({str(key) for place in places_of(FULL) for key in place})) | st.text(max_size=6)


def load_file(data: bytes) -> list[str]:
    """What is told of a settings file; nothing, where it can be used."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "revoq.yaml"
        file.write_bytes(data)
        try:
            load_settings({"REVOQ_DATA_DIR": f"{folder}/data", "REVOQ_CONFIG": str(file)})
        except SettingsErrors as errors:
            return [str(mistake) for mistake in errors.mistakes]
    return []


@given(place=st.sampled_from(list(places_of(FULL))), value=nested(KEYS))
def test_any_settings(place: tuple[Any, ...], value: Any) -> None:
    """One value is another one: it can be used, or its mistake is told; passwords elsewhere in the file are not."""
    told = load_file(yaml.safe_dump(changed(FULL, place, value)).encode("utf-8", "surrogatepass"))
    assert all(told)
    assert PLANTED not in "\n".join(told)


@given(
    place=st.sampled_from(STRUCTURED),
    deep=st.integers(0, 3),
)
def test_a_secret_in_the_wrong_place_is_not_told(place: tuple[Any, ...], deep: int) -> None:
    """A mapping that holds one, indented wrongly: what is told is where, and not what."""
    value: Any = {"password": PLANTED, "token": [PLANTED]}
    for _ in range(deep):
        value = {"identity": value} if deep % 2 else [value]
    assert PLANTED not in "\n".join(load_file(yaml.safe_dump(changed(FULL, place, value)).encode()))


@given(
    data=st.binary(max_size=200)
    | st.text("abc:- []{}&*!|>'\"\n#%@1?,\t\0é\ud800").map(lambda text: text.encode("utf-8", "surrogatepass"))
)
@example(
    data=b"a: &a [x,x]\nb: &b [*a,*a]\n"
    + b"".join(
        b"%c: &%c [*%c,*%c,*%c,*%c]\n" % (here, here, here - 1, here - 1, here - 1, here - 1) for here in range(99, 123)
    )
)
@example(data=b"connections: " + b"[" * 50_000)
@example(data=b"connections: " + b"{a: " * 20_000)
@example(data=b"claim: " + b"9" * 100_000)
@example(data=b"claim: 1e999\nclaim: .inf\n")
@example(data=b"? " * 5_000)
def test_any_bytes_as_settings(data: bytes) -> None:
    """Bombs, depth, huge numbers, what is not UTF-8: each comes to sentences."""
    assert all(load_file(data))


# ── answers ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def http_parts(loaded: LoadedRule) -> Iterator[Acting]:
    """Every look and step of a rule that is a request."""
    rule = loaded.rule
    parts: list[Acting] = [*looks_of(rule).values(), *(step for _, step in named([*rule.steps, *rule.restoring]))]
    if rule.rotation is not None:
        parts += [*rule.rotation.looks.values(), *rule.rotation.steps.values()]
    yield from (part for part in parts if isinstance(part.action, Request))


PARTS = [(loaded, part) for loaded in load([builtin()]) for part in http_parts(loaded)]
WORDS = st.sampled_from(
    sorted({word for _, part in PARTS for word in re.findall(r"[a-z][A-Za-z_]{1,20}", part.model_dump_json())})
)
HEADERS = st.dictionaries(
    st.sampled_from(["link", "location", "content-type", "retry-after", "date", "x-next-page", "x-request-id"]),
    NASTY | st.sampled_from([f'<{place}>; rel="next"' for place in ELSEWHERE]) | st.text(max_size=8),
    max_size=3,
)
BODIES = (
    nested(WORDS).map(lambda value: json.dumps(value).encode("utf-8", "surrogatepass"))
    | st.binary(max_size=60)
    | st.sampled_from([b"[" * 100_000, b"9" * 5_000, b"<html>", b"\xef\xbb\xbf{}", b'{"a": 1e999}', b"<!DOCTYPE a"])
)
ANSWERS = st.builds(Answer, st.sampled_from([200, 200, 201, 204, 302, 401, 403, 404, 429, 500]), HEADERS, BODIES)


class Saying(Account):
    """An account at a provider that answers what was drawn, and notes who was asked."""

    def __init__(self, chosen: Settings, answers: list[Answer]) -> None:
        """Know no connection, so that nothing can be signed."""
        super().__init__(chosen, None, None)
        self.answers, self.asked = answers, list[Prepared]()

    def send(self, prepared: Prepared, *, actor: bool, mutates: bool = False) -> Answer:
        """The next answer; the last one for ever."""
        self.asked.append(prepared)
        return self.answers[min(len(self.asked), len(self.answers)) - 1]


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(which=st.sampled_from(PARTS), answers=st.lists(ANSWERS, min_size=1, max_size=3), acts=st.booleans())
def test_any_answer_to_any_step(which: tuple[LoadedRule, Acting], answers: list[Answer], *, acts: bool) -> None:
    """Every step of every rule comes to an outcome in a sentence; nobody is asked but the host that was bound."""
    loaded, part = which
    values: Mapping[str, Secret] = {name: Secret(PLANTED) for name in names_in(part.action.templates)}
    bases = dict.fromkeys(hosts_of(loaded), HOST)
    purpose = Purpose.ACT if acts else Purpose.BEFORE
    chosen = Settings(data_dir="/nowhere")  # type: ignore[arg-type]
    account = Saying(chosen, answers)
    tools = Tools(account, Safe(Ring.parse(RING)), chosen, lambda: None)
    try:
        step = http.ready(Filling(Planned("sample", purpose), part, loaded.rule, values, bases))
    except RevoqError as error:
        # Some names are no secrets, and do not fit where they go.
        says = str(error)
    else:
        check_step(step, part, tools, account)
        return
    assert PLANTED not in says


def check_step(step: http.HttpStep, part: Acting, tools: Tools, account: Saying) -> None:
    """Take it, and look at what came of it and at who was asked."""
    result = step.perform(tools)

    assert result.says
    assert account.asked
    assert {prepared.origin for prepared in account.asked} == {step.prepared.origin}
    hosts = {"provider.example.com", *re.findall(r"https://([a-z0-9.-]+)", part.model_dump_json())}
    assert {
        re.sub(r"^https://([^/?#]+).*", r"\1", each.url.reveal(), flags=re.DOTALL) for each in account.asked
    } <= hosts
    kept = json.dumps([result.says, dict(result.taken), dict(result.evidence)])
    assert PLANTED not in kept
    assert len(kept.encode("utf-8", "surrogatepass")) < 2_000_000


# ── sealed rows ───────────────────────────────────────────────────────────────────────────────────────────────────────

RING = Ring.generate().text
PLACE = {"secret_id": "sec_1", "owner": "o", "kind": "token"}
RINGS = [Safe(Ring.parse(RING)), Safe(Ring.parse(RING).for_producers())]
FIELDS: dict[str, st.SearchStrategy[Any]] = {
    "version": st.integers(),
    "algorithm": st.sampled_from(["AES-256-GCM", "HPKE-X25519"]) | st.text(),
    "key_id": st.sampled_from([key.id for key in (*Ring.parse(RING).seals, *Ring.parse(RING).opens)]) | st.text(),
    "nonce": st.none() | st.binary(max_size=64),
    "ciphertext": st.none() | st.binary(max_size=200),
}


@given(changes=st.fixed_dictionaries({}, optional=FIELDS).filter(bool), whose=st.sampled_from(RINGS))
def test_any_sealed_row(changes: dict[str, Any], whose: Safe) -> None:
    """However a row was changed: it opens as what it is, where nothing was, or it is refused by the safe's own word."""
    sealed = whose.seal(Secret(PLANTED), **PLACE)
    other = dataclasses.replace(sealed, **changes)
    try:
        opened = RINGS[0].open(other, **PLACE, shred_by=2, now=1)
    except SafeError as error:
        says = f"{error} {error.__context__!r}"
    else:
        says = ""
        assert (other, opened) == (sealed, Secret(PLANTED))
    assert PLANTED not in says


@given(
    row=st.builds(
        Sealed,
        *[FIELDS[name] for name in ("version", "algorithm", "key_id", "nonce", "ciphertext")],
        st.text(),
        st.text(),
    )
)
def test_no_row_is_made_up(row: Sealed) -> None:
    """What nobody sealed does not open."""
    with pytest.raises(SafeError):
        RINGS[0].open(row, **PLACE, shred_by=2, now=1)


@given(text=st.text("seal open public fingerprint k1o2AB_-=\n #\0é\ud800", max_size=80) | st.text(max_size=40))
def test_any_ring(text: str) -> None:
    """A ring is read, or refused with lines and without what stands on them."""
    with pytest.raises(SafeError) as caught:
        Ring.parse(Secret(f"seal k9 {PLANTED}\n{text}"))
    assert PLANTED not in str(caught.value)


# ── exports ───────────────────────────────────────────────────────────────────────────────────────────────────────────

EXPORT_KEYS = st.sampled_from(
    ["kind", "number", "chain", "row", "hash", "prior", "at", "key", "signature", "head", "seal", "jobs", "before"]
)
LINES = st.dictionaries(EXPORT_KEYS, LEAF, max_size=8).flatmap(
    lambda line: st.sampled_from(["row", "seal", "head", "seam", "start", "end"]).map(
        lambda kind: {"kind": kind, **line}
    )
)
EXPORTS = (
    st.lists(LINES, max_size=5).map(
        lambda lines: "".join(json.dumps(line) + "\n" for line in lines).encode("utf-8", "surrogatepass")
    )
    | st.lists(st.lists(NASTY | st.text(max_size=5), max_size=9), max_size=5).map(
        lambda rows: ("kind,chain\n" + "".join(",".join(cells) + "\n" for cells in rows)).encode(
            "utf-8", "surrogatepass"
        )
    )
    | st.binary(max_size=300)
)


@given(data=EXPORTS)
def test_any_export(data: bytes) -> None:
    """What nobody exported is broken, in sentences; nothing is raised but our own errors."""
    try:
        found = verify_file(io.BytesIO(data), Tally(), anchors=["A" * 43])
    except RevoqError:
        return
    assert found
    assert all(str(each) for each in found)
