"""Programs as steps: what they are given, what ends them, and what is read of them."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml

from rules.errors import TemplateError
from rules.lifecycle import Outcome
from rules.loader import read_text
from rules.plan import Planned, Purpose
from rules.schema import Rule, Step
from rules.secret import Secret
from tests.conformance.test_steps import tools
from worker.errors import ExchangeError
from worker.process import run
from worker.step import Choosing, Filling, Result
from worker.steps import ready

NOWHERE = "http://127.0.0.1:9"
RULE = Rule(id="sample.token", name="Sample", pattern="(?P<TOKEN>.+)")
VALUES: dict[str, str | Secret] = {"TOKEN": Secret("tok-s3cret"), "ID": "k1"}


def filling(script: str, values: dict[str, str | Secret] | None = None, step: Any = None, **more: Any) -> Filling:
    """A step that runs a script of the shell, which is the program here."""
    command = {"run": ["/bin/sh", "-c", script, "sh", *more.pop("arguments", [])], **more}
    made = Step.model_validate({"name": "sample", "command": command, **(step or {})})
    return Filling(Planned("sample", Purpose.ACT), made, RULE, values or VALUES, {})


def take(tmp_path: Path, script: str, **more: Any) -> Result:
    """Fill in and run."""
    return ready(filling(script, **more)).perform(tools(tmp_path, NOWHERE))


@pytest.mark.parametrize(
    ("code", "outcome"),
    [(0, Outcome.OK), (3, Outcome.ALREADY_GONE), (4, Outcome.RETRY), (1, Outcome.LOST)],
)
def test_the_exit_code_is_the_outcome(tmp_path: Path, code: int, outcome: Outcome) -> None:
    """As the rule says; after a code that it does not name nobody knows what was done, so the provider is asked."""
    assert take(tmp_path, f"exit {code}", already_gone=[3], retry=[4]).outcome is outcome


def test_an_unknown_exit_code_of_a_lookup_is_broken(tmp_path: Path) -> None:
    """It changed nothing, so that there is nothing to ask, and nothing is guessed."""
    assert take(tmp_path, "exit 1", step={"mutating": False}).outcome is Outcome.BROKEN


def test_one_row_of_a_printed_list_is_singled_out(tmp_path: Path) -> None:
    """Exactly one row, tied to the credential; several are left to a person, and what is no list is no answer."""
    select = {"rows": "$[*]", "where": [{"field": "end", "equals": "{{ TOKEN | suffix: 3 }}"}], "id": "key"}
    step = {"mutating": False, "select": select, "extract": {"KEY": {"type": "JsonPath", "path": "$.key"}}}
    rows = [{"key": "k1", "end": "xxx"}, {"key": "k2", "end": "ret"}, {"key": "k3", "end": "yyy"}]

    def take_list(printed: object) -> Result:
        chosen = filling("cat", step=step, stdin=json.dumps(printed))
        return ready(replace(chosen, choosing=Choosing(frozenset({"TOKEN"})))).perform(tools(tmp_path, NOWHERE))

    assert (found := take_list(rows)).outcome is Outcome.OK
    assert found.taken == {"KEY": "k2"}
    assert take_list(rows[::2]).outcome is Outcome.NO_ROW
    assert take_list({"error": "none"}).outcome is Outcome.BROKEN
    several = take_list([*rows, {"key": "k4", "end": "ret"}])
    assert several.outcome is Outcome.AMBIGUOUS
    assert [candidate["id"] for candidate in several.evidence["candidates"]] == ["k2", "k4"]


def test_it_is_told_where_the_provider_is(tmp_path: Path) -> None:
    """A base URL is known by its name, without a slash at its end."""
    step = {"extract": {"SAID": {"type": "Body"}}}
    made = filling("cat", step=step, stdin="at {{ BASE_URL }}/")

    result = ready(replace(made, bases={"BASE_URL": "https://host.example/path/"})).perform(tools(tmp_path, NOWHERE))

    assert result.taken == {"SAID": "at https://host.example/path/"}


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ({"select": {"rows": "$[*]", "id": "k", "page": {"kind": "page", "parameter": "p"}}}, "its whole list at once"),
        ({"command": {"run": ["/bin/true"], "actor": True}}, "nothing signs a command"),
    ],
)
def test_a_rule_that_asks_too_much_of_a_program_is_refused(more: dict[str, Any], says: str) -> None:
    """Pages and a connection's signature are for requests."""
    step = {"name": "end", "command": {"run": ["/bin/true"]}, **more}
    rule: dict[str, Any] = {"id": "sample.token", "name": "Sample", "pattern": "(?P<TOKEN>.+)"}
    rule["revocation"] = {"type": "HttpMultiStep", "content": {"steps": [step]}}

    _, mistakes = read_text(yaml.safe_dump({"rules": [rule], "provider": {"name": "sample", "title": "S"}}), "x.yaml")

    assert [says in mistake.message for mistake in mistakes] == [True]


def test_a_program_that_a_signal_ended_may_have_done_anything(tmp_path: Path) -> None:
    """Its answer is lost."""
    assert take(tmp_path, "kill -9 $$").outcome is Outcome.LOST


def test_its_output_is_matched_and_taken_and_never_kept(tmp_path: Path) -> None:
    """Values come out of what it prints; of the output itself there is a keyed digest."""
    step = {
        "extract": {
            "KEY": {"type": "JsonPath", "path": "$.key"},
            "NEW": {"type": "JsonPath", "path": "$.new", "secret": True},
        }
    }
    matchers = [{"type": "JsonMatch", "path": "$.done", "equals": True}]

    result = take(
        tmp_path,
        "cat; echo noise >&2",
        step=step,
        stdin='{"done": true, "key": "k7", "new": "n3w-s3cret"}',
        response_matcher=matchers,
    )

    assert result.outcome is Outcome.OK
    assert result.taken == {"KEY": "k7"}
    assert result.secrets == {"NEW": Secret("n3w-s3cret")}
    assert result.evidence["exit"] == 0
    assert "done" not in repr(result.evidence.get("digest"))
    assert "n3w-s3cret" not in repr(result)
    assert take(tmp_path, "echo '{}'", response_matcher=matchers).outcome is Outcome.BROKEN


def test_the_secret_comes_by_environment_or_input_alone(tmp_path: Path) -> None:
    """Nothing else of this process is handed on, and the folder that it runs in is empty and its own."""
    script = 'test "${SECRET#tok}" = -s3cret && test "$(cat)" = "in $SECRET" && test -z "$(ls -A)" && env'
    step = {"extract": {"ENVIRONMENT": {"type": "Body"}}}

    result = take(tmp_path, script, step=step, env={"SECRET": "{{ TOKEN }}"}, stdin="in {{ TOKEN }}")

    names = {line.partition("=")[0] for line in result.taken["ENVIRONMENT"].splitlines()}
    assert names <= {"PATH", "LANG", "HOME", "TMPDIR", "SECRET", "PWD", "OLDPWD", "SHLVL", "_"}


@pytest.mark.parametrize(
    ("argument", "values"),
    [
        ("{{ TOKEN }}", VALUES),
        ("--token={{ TOKEN | b64enc }}", VALUES),
        ("{{ ID }}", {**VALUES, "ID": "x-tok-s3cret-x"}),
        ("{{ ID }}", {**VALUES, "ID": "--registry=elsewhere"}),
        ("{{ ID }}", {**VALUES, "ID": "a\0b"}),
    ],
)
def test_an_argument_that_must_not_be_is_refused(argument: str, values: dict[str, str | Secret]) -> None:
    """A secret, however it got there, a value that would be an option, a NUL: nothing is started, nothing is shown."""
    with pytest.raises(TemplateError) as refused:
        ready(filling("exit 0", values, arguments=[argument]))

    assert "tok-s3cret" not in str(refused.value)


def wait_until_none_runs(*command: str) -> None:
    """Return when no such program runs any more; a signal takes its time, and one that is not yet collected has ended.

    The limit of the test is the limit here.
    """
    while any(
        process.info["cmdline"] == [*command] and process.info["status"] != psutil.STATUS_ZOMBIE
        for process in psutil.process_iter(["cmdline", "status"])
    ):
        time.sleep(0.02)


@pytest.mark.timeout(60)
def test_the_whole_family_ends_at_the_deadline() -> None:
    """What the program started ends with it, also where it holds the output open."""
    with pytest.raises(ExchangeError) as late:
        run(["/bin/sh", "-c", "sleep 3601 & sleep 3601"], environment={}, stdin=None, timeout=0.3, limit=100)

    assert late.value.sent
    wait_until_none_runs("sleep", "3601")


@pytest.mark.timeout(60)
def test_a_child_that_is_left_behind_holds_nothing_up() -> None:
    """The program has ended; that its child still holds the output is no reason to wait for the child or a deadline."""
    ended = run(["/bin/sh", "-c", "sleep 3602 & echo done"], environment={}, stdin=None, timeout=600, limit=100)

    assert (ended.code, ended.output) == (0, b"done\n")
    wait_until_none_runs("sleep", "3602")


def test_too_much_output_is_no_answer() -> None:
    """It is ended, and counts as lost; a large input that nobody reads does no harm."""
    with pytest.raises(ExchangeError, match="more than 1000 bytes"):
        run(["/bin/sh", "-c", "yes"], environment={}, stdin=None, timeout=5, limit=1000)

    ended = run(["/bin/sh", "-c", "exit 0"], environment={}, stdin=Secret("x" * 10**6), timeout=5, limit=1000)

    assert ended.code == 0
