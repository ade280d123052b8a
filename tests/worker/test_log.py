"""The log: one form for every line, and no secret in any, whoever writes it and however it is disguised."""

import base64
import io
import json
import logging
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote, quote_plus

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from rules.errors import BadInput
from rules.secret import MASK, Secret
from tests.sandbox import Sandbox
from tests.sandbox.sendgrid import draw_secret
from tests.worker.bench import Bench
from worker.errors import ExchangeError
from worker.ledger import reads
from worker.log import NOISY, clean, configure, describe, redacting
from worker.settings import Settings

TEXT = 'p+ss"w/rd \\é=1'
SECRET = Secret(TEXT)


@pytest.fixture
def restored() -> Iterator[None]:
    """Logging as it was: it is global, and other tests listen too."""
    root = logging.getLogger()
    loggers = [root, *map(logging.getLogger, NOISY)]
    before = root.handlers[:], [logger.level for logger in loggers]
    yield
    root.handlers[:] = before[0]
    for logger, level in zip(loggers, before[1], strict=True):
        logger.setLevel(level)
    structlog.reset_defaults()


@pytest.fixture
def log(restored: None, tmp_path: Path) -> io.StringIO:
    """What is logged, as JSON at the level debug."""
    stream = io.StringIO()
    configure(Settings(data_dir=tmp_path, log_format="json", log_level="debug"), stream)
    return stream


def lines(log: io.StringIO) -> list[dict[str, Any]]:
    """The lines so far."""
    return [json.loads(line) for line in log.getvalue().splitlines()]


def test_ours_and_theirs_look_alike(log: io.StringIO) -> None:
    """A line of ours and one of a library go through one pipeline."""
    structlog.get_logger("worker.engine").info("step_done", job="job_1", number=2, more={"a": [1, None]})
    logging.getLogger("celery.worker").warning("missed %s", "heartbeat")
    ours, theirs = lines(log)
    assert {**ours, "timestamp": ""} == {
        "event": "step_done",
        "job": "job_1",
        "number": 2,
        "more": {"a": [1, None]},
        "logger": "worker.engine",
        "level": "info",
        "timestamp": "",
    }
    assert {**theirs, "timestamp": ""} == {
        "event": "missed heartbeat",
        "logger": "celery.worker",
        "level": "warning",
        "timestamp": "",
    }
    assert ours["timestamp"].endswith("Z")


def test_the_level_is_the_settings(restored: None, tmp_path: Path) -> None:
    """What is below the level is not written, by whomever."""
    stream = io.StringIO()
    configure(Settings(data_dir=tmp_path, log_format="json", log_level="warning"), stream)
    structlog.get_logger("a").info("no")
    logging.getLogger("b").info("no")
    structlog.get_logger("a").warning("yes")
    assert [line["event"] for line in lines(stream)] == ["yes"]


def test_configuring_twice_writes_once(log: io.StringIO, tmp_path: Path) -> None:
    """The second configuration takes the place of the first."""
    stream = io.StringIO()
    configure(Settings(data_dir=tmp_path, log_format="json"), stream)
    structlog.get_logger("a").info("once")
    assert (len(lines(stream)), log.getvalue()) == (1, "")


@pytest.mark.parametrize("name", ["httpx", "httpcore.http11", "botocore.endpoint", "urllib3.connectionpool"])
def test_libraries_that_log_urls_are_silent(log: io.StringIO, name: str) -> None:
    """Even at debug: their lines hold whole URLs and headers. What they warn of is written."""
    logging.getLogger(name).info("GET https://h/%s", TEXT)
    logging.getLogger(name).debug("headers")
    logging.getLogger(name).warning("careful")
    assert [line["event"] for line in lines(log)] == ["careful"]


def test_a_secret_value_is_masked(log: io.StringIO) -> None:
    """A Secret prints as dots wherever it stands, held or not."""
    structlog.get_logger("a").info("x", token=SECRET, deep={"list": [SECRET, (SECRET,)]}, text=f"{SECRET}")
    logging.getLogger("b").info("token %s and %r", SECRET, {"a": SECRET})
    assert TEXT not in log.getvalue()
    ours, theirs = lines(log)
    assert (ours["token"], ours["deep"], ours["text"]) == (MASK, {"list": [MASK, [MASK]]}, MASK)
    assert theirs["event"] == f"token {MASK} and {{'a': {MASK}}}"


def disguises(text: str) -> list[str]:
    """The forms in which a secret travels."""
    data = text.encode()
    return [
        text,
        quote(text),
        quote(text, safe=""),
        quote_plus(text),
        json.dumps({"a": text}),
        repr([text]),
        repr(data),
        base64.b64encode(data).decode(),
        base64.urlsafe_b64encode(data).decode().rstrip("="),
        base64.b64encode(b"user:" + data).decode(),
        base64.b64encode(b"u:" + data + b"!").decode(),
        base64.b64encode(b"me:" + data + b"!!").decode(),
    ]


@pytest.mark.parametrize("form", disguises(TEXT))
def test_a_held_secret_is_struck_out_in_every_form(log: io.StringIO, form: str) -> None:
    """As it is, in a URL, in JSON, in base64 behind a user's name: it is not written while a job holds it."""
    with redacting(SECRET):
        structlog.get_logger("a").info(f"x {form} y", value=form, deep={form: [form]})
        logging.getLogger("b").warning("x %s y", form)
    assert MASK in log.getvalue()
    assert form not in log.getvalue()
    assert not any(form in str(value) for line in lines(log) for value in line.values())


@given(st.binary(max_size=9), st.binary(max_size=9))
def test_base64_of_more_than_the_secret(before: bytes, after: bytes) -> None:
    """`user:SECRET` shifts what base64 makes of the secret: at most its first and last character shimmer through."""
    said = base64.b64encode(before + TEXT.encode() + after).decode()
    with redacting(SECRET):
        left = clean(said).split(MASK)
    assert len(left) == 2
    assert len(left[0]) <= len(before) * 8 / 6 + 2
    assert len(left[1]) <= len(after) * 8 / 6 + 4


@given(st.text(min_size=8, alphabet=st.characters(exclude_categories=["Cs"])).filter(lambda text: text.strip() == text))
def test_any_held_secret_is_struck_out(text: str) -> None:
    """Whatever it is made of."""
    with redacting(Secret(text)):
        for form in disguises(text):
            assert form not in clean(form)


def test_a_secret_is_held_as_long_as_somebody_holds_it() -> None:
    """Two jobs may hold the same one; the last to let go ends it."""
    with redacting(SECRET):
        with redacting(SECRET, Secret("another one")):
            assert clean(f"{TEXT}, another one") == f"{MASK}, {MASK}"
        assert clean(TEXT) == MASK
    assert clean(TEXT) == TEXT


def test_a_secret_is_let_go_after_an_error() -> None:
    """A job that fails holds nothing any longer."""
    with pytest.raises(KeyError), redacting(SECRET):
        raise KeyError
    assert clean(TEXT) == TEXT


def test_the_longer_secret_goes_first() -> None:
    """Striking out a secret that is part of another must leave nothing of the other."""
    with redacting(Secret("abcdef"), Secret("abcdef-ghijkl")):
        assert clean("abcdef-ghijkl") == MASK


def test_a_key_of_many_lines_goes_line_by_line() -> None:
    """A PEM key is quoted line by line in tracebacks and diffs."""
    with redacting(Secret("-----BEGIN-----\nMIIEvQIBADAN\n-----END-----\n")):
        assert clean("line 2: MIIEvQIBADAN") == f"line 2: {MASK}"


def test_what_is_too_short_is_left() -> None:
    """A secret of three letters would take every other word along."""
    with redacting(Secret("abc"), Secret("")):
        assert clean("abc def") == "abc def"


def test_every_thread_strikes_out(log: io.StringIO) -> None:
    """What one thread holds, no thread writes."""
    with redacting(SECRET):
        thread = threading.Thread(target=lambda: structlog.get_logger("a").info(TEXT))
        thread.start()
        thread.join()
    assert lines(log)[0]["event"] == MASK


def refuse(secret: str) -> None:
    """Fail with the secret in the message, as libraries do."""
    raise ValueError(f"illegal header {secret!r}")


def fail(secret: str) -> None:
    """Fail with the secret in a local variable, because of an error that quotes it."""
    local = secret
    try:
        refuse(local)
    except ValueError as error:
        raise RuntimeError("cannot send") from error


def test_an_exception_is_words_and_places(log: io.StringIO) -> None:
    """Types, messages and places, causes included; no values of variables, and no held secret."""
    with redacting(SECRET):
        try:
            fail(TEXT)
        except RuntimeError:
            structlog.get_logger("a").exception("failed")
            logging.getLogger("b").exception("failed")
    assert TEXT not in log.getvalue()
    for line in lines(log):
        said = line["exception"].splitlines()
        assert said[0] == "RuntimeError: cannot send"
        assert said[2].endswith("in fail")
        assert said[3] == f"because of ValueError: illegal header '{MASK}'"
        assert said[5].endswith("in refuse")
        assert "local" not in line["exception"]
        assert "exc_info" not in line


def test_what_a_strangers_error_says_can_be_left_out() -> None:
    """Its type and places stay, and so does what our own errors say: they never quote an answer."""

    def stranger() -> None:
        raise KeyError(TEXT)

    def ours() -> None:
        try:
            stranger()
        except KeyError as error:
            raise BadInput("nothing was sent") from error

    with pytest.raises(BadInput) as caught:
        ours()
    said = describe(caught.value, whole=False)

    assert said.startswith("BadInput: nothing was sent\nbecause of KeyError\n")
    assert "test_log.py" in said
    assert TEXT not in said


def test_a_sentence_needs_no_places() -> None:
    """Our own errors are sentences for a person: where they were raised is of no use to anybody."""
    with pytest.raises(ExchangeError) as caught:
        raise ExchangeError("timeout", sent=True, says="https://h gave no answer")
    assert describe(caught.value) == "ExchangeError: https://h gave no answer"


def test_what_was_cut_off_stays_off() -> None:
    """A context that was suppressed with `from None` is not shown, as in Python's own tracebacks."""
    with pytest.raises(RuntimeError) as caught:
        fail_in_silence()
    assert "ValueError" not in describe(caught.value)


def fail_in_silence() -> None:
    """Fail without a word about the reason."""
    try:
        refuse(TEXT)
    except ValueError:
        raise RuntimeError("no") from None


def test_the_console_is_for_people(restored: None, tmp_path: Path) -> None:
    """The other form goes through the same pipeline: secrets struck out, exceptions without variables."""
    stream = io.StringIO()
    configure(Settings(data_dir=tmp_path, log_format="console"), stream)
    with redacting(SECRET):
        try:
            fail(TEXT)
        except RuntimeError:
            structlog.get_logger("a").exception("failed", token=SECRET, text=TEXT)
    said = stream.getvalue()
    assert "failed" in said
    assert "RuntimeError: cannot send" in said
    assert TEXT not in said
    assert "{" not in said


def test_a_pipe_gets_json(restored: None, tmp_path: Path) -> None:
    """Without a terminal the form is JSON."""
    stream = io.StringIO()
    configure(Settings(data_dir=tmp_path), stream)
    structlog.get_logger("a").info("x")
    assert lines(stream)[0]["event"] == "x"


LINES = {
    "queued→running": "claimed",
    "waiting→running": "claimed",
    "step intended→done": "step",
    "running→waiting": "waiting",
    "running→done": "done",
    "running→parked": "parked",
}
"""What a worker logs for each row that it writes to a job's chain; a step's intention is told with its result."""


@pytest.mark.parametrize("way", ["done", "parked", "waiting"])
def test_every_move_has_its_line(log: io.StringIO, sqlite_bench: Bench, sandbox: Sandbox, way: str) -> None:
    """Job, rule and attempt in each, the step where there is one, and the secret in none."""
    secret = draw_secret()[1] if way == "parked" else sandbox.sendgrid.add_key().secret
    if way == "waiting":
        sandbox.fault("sendgrid", status=429, headers={"Retry-After": "60"})

    job = sqlite_bench.carry(sqlite_bench.submit("sendgrid.api_key", secret, "sendgrid-demo"))

    told = [line for line in lines(log) if line["logger"] == "worker.engine" and line["event"] in LINES.values()]
    trail = [row.facts["event"] for row in reads.audit_rows(sqlite_bench.runtime.database, job.id, 100)]
    assert told[-1]["event"] == way
    assert [line["event"] for line in told] == [LINES[event] for event in trail if event in LINES]
    assert {*trail} <= {*LINES, "→queued", "step→intended"}
    assert {(line["job"], line["rule"], line["attempt"]) for line in told} == {
        (job.id, "sendgrid.api_key", job.attempt)
    }
    steps = [(line["number"], line["step"], line["purpose"], line["outcome"]) for line in told if "step" in line]
    assert steps == [(step.number, step.name, step.purpose, step.outcome) for step in sqlite_bench.steps(job)]
    assert secret not in log.getvalue()
