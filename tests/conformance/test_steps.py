"""What every kind of step must do, however it does it; a kind without a sample here fails the suite."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from rules import schema
from rules.errors import RevoqError
from rules.lifecycle import Outcome
from rules.plan import Planned, Purpose
from rules.schema import Action, Rule, Step
from rules.secret import MASK, Secret
from tests.servers.ports import find_free_port
from worker.connections import Account
from worker.safe import Ring, Safe
from worker.settings import Connection, Settings
from worker.step import Filling, Ready, Result, Tools
from worker.steps import KINDS, ready

TOKEN = "s3cr3t-Tok3n-Val/ue+1"
SAMPLES: Mapping[type[Action], Mapping[str, Any]] = {
    schema.Request: {
        "request": {
            "method": "DELETE",
            "url": "{{ BASE_URL }}/tokens/{{ TOKEN }}",
            "headers": {"Authorization": "Bearer {{ TOKEN }}"},
            "response_matcher": [{"type": "StatusMatch", "status": [200]}],
        }
    },
    schema.Command: {
        "command": {
            "run": ["/bin/sh", "-c", 'test -n "$SECRET" && cat', "--id={{ ID }}"],
            "env": {"SECRET": "{{ TOKEN }}"},
            "stdin": "{{ TOKEN }}",
        }
    },
    schema.Pause: {"pause": "5m"},
    schema.Generate: {"own": schema.Generate()},
    schema.Mark: {"own": schema.Mark()},
    schema.Handover: {"own": schema.Handover(what="deliver", sink="files")},
    schema.Aws: {
        "aws": {
            "action": "delete",
            "key": "{{ ID }}",
            "user": "ann",
            "response_matcher": [{"type": "StatusMatch", "status": [200]}],
        }
    },
    # It reads two empty lists here; what it sends for rows tests/worker/test_pangolin_rotation.py shows.
    schema.Alike: {
        "alike": {
            "source": {
                "url": "{{ BASE_URL }}/owners/{{ ID }}/rights",
                "headers": {"Authorization": "Bearer {{ TOKEN }}"},
            },
            "target": {"url": "{{ BASE_URL }}/owners/ann/rights", "headers": {"Authorization": "Bearer {{ TOKEN }}"}},
            "select": {"rows": "$[*]", "id": "id"},
            "by": ["name"],
            "row": {"RIGHT": "name"},
            "each": {
                "method": "DELETE",
                "url": "{{ BASE_URL }}/tokens/{{ RIGHT }}",
                "headers": {"Authorization": "Bearer {{ TOKEN }}"},
            },
        }
    },
}
DEAF = {schema.Pause, schema.Generate, schema.Mark, schema.Handover}
"""Kinds that ask no provider, so that none can fail to answer them; sinks have a suite of their own."""

every_kind = pytest.mark.parametrize("action", KINDS, ids=lambda action: action.__name__)
every_speaking_kind = pytest.mark.parametrize(
    "action", [action for action in KINDS if action not in DEAF], ids=lambda action: action.__name__
)


class Answering(BaseHTTPRequestHandler):
    """Says yes to everything, in AWS's words too."""

    def do_DELETE(self) -> None:
        """Answer 200 with a body that boto3 can read."""
        body = b"<DeleteAccessKeyResponse><ResponseMetadata/></DeleteAccessKeyResponse>"
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.send_response(200)
        self.send_header("Content-Type", "text/xml")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self) -> None:
        """Answer with an empty list."""
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"[]")

    def do_POST(self) -> None:
        """Answer the same."""
        self.do_DELETE()

    def log_message(self, *_: object) -> None:
        """Stay quiet."""


class Silent(BaseHTTPRequestHandler):
    """Takes the request and closes the connection without a word."""

    def handle_one_request(self) -> None:
        """Read a line, and be gone."""
        self.rfile.readline()
        self.close_connection = True


@pytest.fixture
def server(request: pytest.FixtureRequest) -> Iterator[str]:
    """A server on this machine that behaves as the test asks."""
    with HTTPServer(("127.0.0.1", 0), request.param) as httpd:
        thread = threading.Thread(target=httpd.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{httpd.server_port}"
        httpd.shutdown()
        thread.join()


def fill(action: type[Action], base: str, purpose: Purpose = Purpose.ACT, **changed: Any) -> Filling:
    """The sample of a kind, ready to be filled in."""
    sample: dict[str, Any] = {k: {**part, **changed} if changed else part for k, part in SAMPLES[action].items()}
    step = schema.Own(**sample) if "own" in sample else Step.model_validate({"name": "sample", **sample})
    rotation = schema.Rotation(sink_name="sample", generate=schema.Generate(), record={"key": "{{ TOKEN }}"})
    rule = Rule(id="sample.token", name="Sample", pattern="(?P<TOKEN>.+)", rotation=rotation)
    values: dict[str, str | Secret] = {"TOKEN": Secret(TOKEN), "ID": "AKIAQ2W3E4R5T6Y7U8I9"}
    return Filling(Planned("sample", purpose), step, rule, values, {"BASE_URL": base})


def tools(tmp_path: Path, base: str, **settings: Any) -> Tools:
    """What a worker has, with a connection to the server and a short patience."""
    chosen = Settings(
        data_dir=str(tmp_path),  # type: ignore[arg-type]
        request_timeout="2s",  # type: ignore[arg-type]
        sinks={"files": {"kind": "file", "path": f"{tmp_path}/{{name}}.json"}},  # type: ignore[dict-item]
        **{"commands_allowed": ["/bin/sh"], **settings},
    )
    connection = Connection(name="sample", provider="sample", base_url=base)
    safe = Safe(Ring.parse(Ring.generate().text))
    return Tools(Account(chosen, connection, None), safe, chosen, lambda: None)


def take(step: Ready, with_tools: Tools) -> Result:
    """Take a step; no error of a provider's or a program's making may come out of it."""
    result = step.perform(with_tools)
    assert TOKEN not in repr(result)
    return result


def test_every_action_of_the_language_has_a_kind() -> None:
    """Whatever a rule may ask for can be carried out, and every kind is tried here."""
    actions = set(Action.__subclasses__())

    assert actions == set(KINDS)
    assert actions == set(SAMPLES)


@every_kind
def test_its_label_shows_no_secret(action: type[Action]) -> None:
    """What is kept and shown of a step says what is done to what, with secrets masked."""
    step = ready(fill(action, "http://127.0.0.1:9"))

    assert set(step.label) == {"method", "url"}
    assert all(step.label.values())
    assert TOKEN not in str(step.label)
    assert TOKEN not in repr(step)


@every_kind
@pytest.mark.parametrize("server", [Answering], indirect=True)
def test_a_yes_is_ok(action: type[Action], server: str, tmp_path: Path) -> None:
    """Answered as the rule wants: ok, a sentence, evidence, and nothing secret in any of it."""
    result = take(ready(fill(action, server)), tools(tmp_path, server))

    assert result.outcome is Outcome.OK
    assert result.says
    if action not in DEAF:
        assert result.evidence["digest"]


@every_speaking_kind
def test_an_unknown_name_is_refused_before_anything_is_done(action: type[Action]) -> None:
    """A template that cannot be filled in is one of the rules' own errors."""
    filling = fill(action, "http://127.0.0.1:9")
    lacking = Filling(filling.planned, filling.part, filling.rule, {}, filling.bases)

    with pytest.raises(RevoqError):
        ready(lacking)


@every_speaking_kind
@pytest.mark.parametrize(
    ("purpose", "outcome"),
    [(Purpose.ACT, Outcome.LOST), (Purpose.READ, Outcome.RETRY), (Purpose.AFTER, Outcome.INCONCLUSIVE)],
)
@pytest.mark.parametrize("server", [Silent], indirect=True)
def test_a_lost_answer_is_lost(
    action: type[Action], purpose: Purpose, outcome: Outcome, server: str, tmp_path: Path
) -> None:
    """It was sent, or started, and nobody knows what it did: a step that changes something must say so."""
    changed = {"run": ["/bin/sh", "-c", "sleep 60"]} if action is schema.Command else {}
    filling = fill(action, server, purpose, **changed)
    # Until both lists are read, nothing that changes anything was sent.
    expected = Outcome.RETRY if action is schema.Alike and purpose is Purpose.ACT else outcome

    assert take(ready(filling), tools(tmp_path, server)).outcome is expected


@every_speaking_kind
@pytest.mark.parametrize(
    ("purpose", "outcome"),
    [(Purpose.ACT, Outcome.NOT_SENT), (Purpose.READ, Outcome.NOT_SENT), (Purpose.AFTER, Outcome.INCONCLUSIVE)],
)
def test_what_never_left_was_not_sent(action: type[Action], purpose: Purpose, outcome: Outcome, tmp_path: Path) -> None:
    """Nobody listens, or there is no such program: it can be tried again."""
    base = f"http://127.0.0.1:{find_free_port()}"
    changed = {"run": ["/nowhere/program"]} if action is schema.Command else {}
    filling = fill(action, base, purpose, **changed)

    result = take(ready(filling), tools(tmp_path, base, commands_allowed=["/nowhere/program"]))

    assert result.outcome is outcome


@every_kind
def test_it_says_what_speaks_against_it_here(action: type[Action], tmp_path: Path) -> None:
    """Asked before anything is done: a sentence, or nothing. What is refused is not done either."""
    strict = tools(tmp_path, "http://127.0.0.1:9", commands_allowed=[])
    filling = fill(action, "http://127.0.0.1:9")

    why = KINDS[action].refuse(filling.part.action, strict.settings)

    if action is schema.Command:
        assert why is not None
        assert "commands_allowed" in why
        result = take(ready(filling), strict)
        assert result.outcome is Outcome.DENIED
        assert "commands_allowed" in result.says
    else:
        assert why is None
    assert MASK not in (why or "")
