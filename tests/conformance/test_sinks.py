"""What every kind of sink must do, however it does it; a kind without a stand here fails the suite."""

from __future__ import annotations

import io
import json
import logging
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from rules.secret import Secret
from tests.conformance.stands import STANDS, TARGET, FileStand, Stand, open_stand
from worker.errors import SinkBroken, SinkConflict, SinkDenied, SinkError, SinkLost, SinkUnavailable, UnknownSink
from worker.log import configure
from worker.safe import Ring, Safe
from worker.settings import Settings, WebhookPlace
from worker.sinks import KINDS, Record, Sink, Target, open_sink

ROOT = Path(__file__).parents[2]
CANARY = "c4nary-S3cret/with+odd=signs"
OLD_CANARY = "c4nary-0f-bef0re"
RECORD: Record = {"id": "5f3a", "key": Secret(CANARY)}
NEXT: Record = {"id": "5f3b", "key": Secret("next-" + CANARY)}
OTHER = {"id": "9", "key": "somebody-else's"}

VALUES = {
    "unicode": "pässwörd ✓ 秘密 \U0001f511",
    "lines": "-----BEGIN KEY-----\nabc\r\n\n-----END KEY-----\n",
    "quotes": """'"`$HOME \\n $(id) {name} %s #""",
    "spaces": "  in front and behind\t ",
    "empty": "",
    "64 KB": "0123456789abcdef" * 4096,
}


@pytest.fixture
def stand(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Stand]:
    """A stand of the kind that the test asks for."""
    with open_stand(request.param, request, tmp_path) as opened:
        yield opened


def tried_at(kinds: list[type[Stand]]) -> pytest.MarkDecorator:
    """Try it at each of these stands."""
    return pytest.mark.parametrize("stand", kinds, indirect=True, ids=lambda kind: kind.__name__)


every_stand = tried_at(list(STANDS))
every_reading_stand = tried_at([kind for kind in STANDS if kind.reads_back])
every_losing_stand = tried_at([kind for kind in STANDS if kind.loses])


def plain(sink: Sink, record: Record) -> dict[str, str]:
    """What of a record is to be found there."""
    return {name: value.reveal() if isinstance(value, Secret) else value for name, value in sink.kept(record).items()}


def test_every_kind_has_a_stand() -> None:
    """Whatever the settings may say can be opened, and every kind is tried here."""
    assert {stand.place for stand in STANDS} == set(KINDS)


@every_stand
def test_a_check_changes_nothing(stand: Stand) -> None:
    """It passes where a delivery would, before anything is there and afterwards."""
    sink = stand.open()

    sink.check(TARGET)
    assert stand.stored() is None
    sink.put(TARGET, RECORD, over=None)
    sink.check(TARGET)

    assert stand.stored() == plain(sink, RECORD)


@every_stand
def test_what_was_put_is_there(stand: Stand) -> None:
    """The consumer finds it, and a sink that reads back reads the same; before that there was nothing."""
    sink = stand.open()
    assert sink.reads_back == stand.reads_back
    assert sink.read(TARGET) is None

    sink.put(TARGET, RECORD, over=None)

    held = sink.read(TARGET)
    assert stand.stored() == plain(sink, RECORD)
    assert sink.confirms(held, RECORD) is stand.reads_back
    assert not sink.confirms(held, NEXT)


@every_stand
def test_the_same_twice_is_once(stand: Stand) -> None:
    """After an answer was lost, the same delivery is made again: it succeeds and writes nothing new."""
    sink = stand.open()
    sink.put(TARGET, RECORD, over=None)
    before = sink.read(TARGET)

    sink.put(TARGET, RECORD, over=None)

    assert sink.read(TARGET) == before
    assert stand.stored() == plain(sink, RECORD)


@every_reading_stand
def test_a_new_one_takes_the_place_of_what_was_read(stand: Stand) -> None:
    """Over what was read, whoever wrote it; and back again."""
    sink = stand.open()
    stand.write_behind(OTHER)

    sink.put(TARGET, RECORD, over=sink.read(TARGET))
    sink.put(TARGET, NEXT, over=sink.read(TARGET))
    sink.put(TARGET, RECORD, over=sink.read(TARGET))

    assert sink.confirms(sink.read(TARGET), RECORD)
    assert stand.stored() == plain(sink, RECORD)


@every_reading_stand
def test_what_somebody_else_wrote_stays(stand: Stand) -> None:
    """Check-and-set: neither over a version that was not read, nor where nothing was thought to be."""
    sink = stand.open()
    sink.put(TARGET, RECORD, over=None)
    held = sink.read(TARGET)
    stand.write_behind(OTHER)

    for over in (held, None):
        with pytest.raises(SinkConflict):
            sink.put(TARGET, NEXT, over=over)

    there = stand.stored()
    assert there is not None
    assert there["key"] == OTHER["key"]


@every_stand
@pytest.mark.parametrize("value", VALUES.values(), ids=VALUES)
def test_a_value_comes_out_as_it_went_in(stand: Stand, value: str) -> None:
    """Not a byte more or less, whatever it is made of."""
    sink = stand.open()
    record: Record = {"id": "ä'\n", "key": Secret(value)}

    sink.put(TARGET, record, over=None)

    assert stand.stored() == plain(sink, record)
    assert sink.confirms(sink.read(TARGET), record) is stand.reads_back


@every_stand
def test_a_missing_right_is_denied(stand: Stand) -> None:
    """To try again would not help; nothing is written."""
    with stand.denied() as sink:
        with pytest.raises(SinkDenied):
            sink.put(TARGET, RECORD, over=None)
        with pytest.raises(SinkDenied):
            sink.check(TARGET)

    assert stand.stored() is None


@every_stand
def test_nobody_answers(stand: Stand) -> None:
    """To try again will help; nothing is written."""
    with stand.unreachable() as sink, pytest.raises(SinkUnavailable):
        sink.put(TARGET, RECORD, over=None)

    assert stand.stored() is None


@every_losing_stand
def test_a_lost_answer_is_lost(stand: Stand) -> None:
    """It may be there or not: a read tells, and the same delivery once more does no harm."""
    with stand.losing() as sink, pytest.raises(SinkLost):
        sink.put(TARGET, RECORD, over=None)
    assert stand.stored() == plain(sink, RECORD)

    sink = stand.open()
    assert sink.confirms(sink.read(TARGET), RECORD) is stand.reads_back
    sink.put(TARGET, RECORD, over=None)

    assert stand.stored() == plain(sink, RECORD)


@every_stand
@pytest.mark.parametrize("name", ["", ".", "..", "../x", "a/b", "/etc/passwd", "-rf", "a\0b", "a\nb", "a%2fb", "ä b"])
def test_a_name_that_leads_elsewhere_is_refused(stand: Stand, name: str) -> None:
    """A target's name comes from a provider: it fills one part of a path and nothing more."""
    sink = stand.open(url=f"{stand.said()['url']}/{{name}}") if stand.place is WebhookPlace else stand.open()

    with pytest.raises(SinkBroken, match="cannot be part of a path"):
        sink.put(Target(name, "1", "hub"), RECORD, over=None)


@every_stand
def test_no_secret_is_shown(stand: Stand, caplog: pytest.LogCaptureFixture) -> None:
    """Not in an error, a repr or a line of any library's, at any level, whatever goes wrong."""
    stream = io.StringIO()
    configure(Settings(data_dir=stand.folder, log_level="debug", log_format="json"), stream)
    caplog.set_level(logging.DEBUG)
    for name in ("boto3", "botocore"):
        logging.getLogger(name).setLevel(logging.WARNING)  # as `configure` has it; caplog changed the root alone
    shown = []
    own = [file.read_text() for file in stand.folder.iterdir() if file.is_file() and len(file.read_text()) >= 16]

    def attempt(sink: Sink) -> None:
        for act in (sink.check, sink.read, lambda target: sink.put(target, RECORD, over=None)):
            try:
                shown.append(repr(act(TARGET)))
            except SinkError as error:
                shown.extend([str(error), repr(error), repr(vars(error))])
        shown.append(repr(sink))

    with stand.unreachable() as away:
        attempt(away)
    with stand.denied() as powerless:
        attempt(powerless)
    attempt(stand.open())
    stand.write_behind({"id": "1", "key": OLD_CANARY})
    attempt(stand.open())

    text = "\n".join([*shown, stream.getvalue(), caplog.text])
    assert [secret for secret in (CANARY, OLD_CANARY, *own) if secret in text] == []


def test_an_unknown_sink(tmp_path: Path) -> None:
    """The nearest name is said."""
    settings = Settings.model_validate(
        {"data_dir": str(tmp_path), "sinks": {"keys": {"kind": "file", "path": "/srv/keys/{name}"}}}
    )

    with pytest.raises(UnknownSink, match="no sink is called 'kesy'; did you mean keys"):
        open_sink("kesy", settings, Safe(Ring.parse(Ring.generate().text)))


# ── killed in the middle ──────────────────────────────────────────────────────────────────────────────────────────

STEPPING = """
import json, os, signal, sys
from rules.secret import Secret
from worker.safe import Ring, Safe
from worker.settings import Settings
from worker.sinks import Target, open_sink

sink = open_sink("here", Settings.model_validate(json.loads(sys.argv[1])), Safe(Ring.parse(Ring.generate().text)))
target = Target("ann-bot")
left = 0

def count_down(frame, event, _):
    global left
    frame.f_trace_opcodes = True
    left -= event == "opcode"
    if not left:
        os.kill(os.getpid(), signal.SIGKILL)
    return count_down

def enter(frame, event, _):
    ours = frame.f_code.co_filename.endswith("worker/sinks/file.py") and frame.f_code.co_name in ("_put", "_replace")
    return count_down(frame, event, _) if ours else None

ended = False
while not ended:
    sink.put(target, {"key": Secret("a" * 100_000)}, over=sink.read(target))
    held, left = sink.read(target), left + 1
    steps = left
    child = os.fork()
    if not child:
        sys.settrace(enter)
        sink.put(target, {"key": Secret("b" * 100_000)}, over=held)
        sys.settrace(None)
        os._exit(0)
    ended = os.WIFEXITED(os.waitpid(child, 0)[1])
    left = steps
    text = open(sys.argv[2]).read()
    print("a" if text == json.dumps({"key": "a" * 100_000}) + "\\n" else
          "b" if text == json.dumps({"key": "b" * 100_000}) + "\\n" else "half")
"""
PUTTING = """
import itertools, json, sys
from rules.secret import Secret
from worker.safe import Ring, Safe
from worker.settings import Settings
from worker.sinks import Target, open_sink

sink = open_sink("here", Settings.model_validate(json.loads(sys.argv[1])), Safe(Ring.parse(Ring.generate().text)))
target = Target("ann-bot")
for letter in itertools.cycle("ab"):
    sink.put(target, {"key": Secret(letter * 500_000)}, over=sink.read(target))
    print(letter, flush=True)
"""


def test_a_file_is_old_or_new_whatever_its_last_step_was(tmp_path: Path) -> None:
    """Killed before each single step of the interpreter: first the old record, from one step on the new one."""
    stand = FileStand(tmp_path)

    done = subprocess.run(
        [sys.executable, "-c", STEPPING, say_settings(stand), str(stand.file)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )

    found = done.stdout.split()
    assert len(found) > 50
    assert set(found) == {"a", "b"}
    assert found == sorted(found)
    assert [path.name for path in stand.places.iterdir()] == [TARGET.name]


def test_a_file_is_old_or_new_whenever_it_was(tmp_path: Path) -> None:
    """Killed at any time, inside the system's calls too: the record before or the one after."""
    stand = FileStand(tmp_path)

    for number in range(6):
        last = put_until_killed(stand, number + 1, random.uniform(0, 0.02))

        stored = stand.stored()
        assert stored is not None
        assert stored["key"] in {"a" * 500_000, "b" * 500_000}
        assert stored["key"][0] in {last, "ab"[last == "a"]}

    sink = stand.open()
    sink.put(TARGET, RECORD, over=sink.read(TARGET))
    assert stand.stored() == plain(sink, RECORD)
    assert [path.name for path in stand.places.iterdir()] == [TARGET.name]


def say_settings(stand: Stand) -> str:
    """The settings of a stand, for another process."""
    return json.dumps({"data_dir": str(stand.folder), "sinks": {"here": stand.said()}})


def put_until_killed(stand: Stand, times: int, later: float) -> str:
    """Have another process deliver this often, and kill it a moment later; what it had delivered last by then."""
    command = [sys.executable, "-c", PUTTING, say_settings(stand)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for _ in range(times):
            assert process.stdout.readline()
        time.sleep(later)
        process.kill()
        # What it said between the last line that was waited for and its end counts as well.
        return ("ab"[(times - 1) % 2] + process.stdout.read().replace("\n", ""))[-1]
