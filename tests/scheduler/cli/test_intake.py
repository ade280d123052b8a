"""What may be secret comes in on standard input or by reference, and what was given in sight is refused unrepeated."""

from __future__ import annotations

from pathlib import Path

import pytest

from rules.errors import BadInput
from rules.loader import load
from rules.schema import Rule
from rules.secret import Secret
from scheduler.cli.intake import read_variables, refuse_in_sight, secret_variables, split_pairs
from scheduler.errors import SecretInSight
from tests.scheduler.cli.conftest import PAIRED, TOKEN, Home, Jobs

TAKING = (("revoke", "--rule", "jupyterhub.token"), ("probe", "--rule", "jupyterhub.token"), ("history",))


@pytest.mark.parametrize("words", TAKING, ids=" ".join)
def test_a_secret_as_an_argument_is_refused(home: Home, words: tuple[str, ...]) -> None:
    """Refused with the way to do it, and not repeated."""
    result = home.run(*words, TOKEN)

    assert result.exit_code == 2
    assert "standard input" in result.stderr
    assert "shell's history" in result.stderr
    assert TOKEN not in result.output


def test_it_is_refused_before_anything_else_is_missed(home: Home) -> None:
    """Also where a needed option is missing: what matters is said first."""
    result = home.run("revoke", TOKEN)

    assert "a secret is never an argument" in result.stderr
    assert TOKEN not in result.output


@pytest.mark.parametrize("option", [f"--token={TOKEN}", f"--secret={TOKEN}", f"--{TOKEN}", f"-----BEGIN {TOKEN}"])
def test_a_secret_as_an_option_is_refused(home: Home, option: str) -> None:
    """An option that was made up for it, or a secret that looks like one, is not repeated either."""
    result = home.run("revoke", "--rule", "jupyterhub.token", option)

    assert result.exit_code == 2
    assert "standard input" in result.stderr
    assert TOKEN not in result.output


def test_a_misspelt_option_is_still_named(home: Home) -> None:
    """Who only misspelt an option is told the right one."""
    result = home.run("revoke", "--rule", "jupyterhub.token", "--tiket", "SEC-1")

    assert "--ticket" in result.stderr


@pytest.mark.parametrize("words", TAKING, ids=" ".join)
def test_nothing_on_standard_input(home: Home, words: tuple[str, ...]) -> None:
    """An empty pipe, or one line break, is no secret."""
    extra = ["--connection", "hub"] if "--rule" in words else []
    for stdin in ("", "\n", "\r\n"):
        result = home.run(*words, *extra, stdin=stdin)
        assert result.exit_code == 2
        assert "nothing came on standard input" in result.stderr


def test_what_is_only_named_reads_nothing(home: Home) -> None:
    """Where a rule knows of no secret, standard input is left alone, whatever comes there."""
    lease = "LEASE_ID=database/creds/readonly/EXAMPLEexampleEXAMPLEexa"

    result = home.run("revoke", "--rule", "vault.lease", "--var", lease, stdin=TOKEN)

    assert result.exit_code == 2
    assert "say which connection with --connection" in result.stderr
    assert "secret" not in result.stderr


def test_what_is_no_text(home: Home) -> None:
    """Bytes that are not UTF-8, or far too many of them, were piped in by mistake."""
    assert "not UTF-8" in home.run("history", stdin=b"\xff\xfe\xff").stderr
    assert "more than 1 MiB" in home.run("history", stdin="x" * (1 << 20) + "xx").stderr


def test_one_trailing_line_break_is_not_part_of_it(home: Home, jobs: Jobs) -> None:
    """`echo` adds one, `printf` none: it is the same secret; a second one would be part of it."""
    job = jobs.queued(secret=TOKEN)

    found = [home.ask("history", stdin=TOKEN + ending) for ending in ("", "\n", "\r\n", "\n\n")]

    assert [[row["id"] for row in rows] for rows in found] == [[job], [job], [job], []]


# ── variables ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def rule(tmp_path: Path) -> Rule:
    """A rule with a variable that is secret and one that is not."""
    path = tmp_path / "paired.yaml"
    path.write_text(PAIRED)
    return load([path]).get("paired.key").rule


def test_which_variables_are_secret(rule: Rule) -> None:
    """Those that the rule calls so."""
    assert secret_variables(rule) == {"OTHER_HALF"}


def test_plain_variables_are_taken_as_they_are(rule: Rule) -> None:
    """Also where their value looks like a reference."""
    assert read_variables({"REGION": "env:HOME"}, rule) == {"REGION": "env:HOME"}


def test_a_secret_variable_is_a_reference(rule: Rule, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From the environment or from a file, without its line break."""
    monkeypatch.setenv("HALF", "hunter2\n")
    (tmp_path / "half").write_text("hunter3\n")

    assert read_variables({"OTHER_HALF": "env:HALF"}, rule) == {"OTHER_HALF": "hunter2"}
    assert read_variables({"OTHER_HALF": f"file:{tmp_path}/half"}, rule) == {"OTHER_HALF": "hunter3"}


@pytest.mark.parametrize("value", ["hunter2", "hunter2:x", "env:", "file:", "https://hunter2"])
def test_a_literal_secret_variable_is_refused(rule: Rule, value: str) -> None:
    """The sentence names the variable and the ways, and not the value."""
    with pytest.raises(SecretInSight, match="env:VARIABLE or --var OTHER_HALF=file:/path") as caught:
        read_variables({"OTHER_HALF": value}, rule)

    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    ("value", "says"), [("env:NOT_SET_HERE", "NOT_SET_HERE is not set"), ("file:/not/there", "cannot read /not/there")]
)
def test_a_reference_that_leads_nowhere(rule: Rule, value: str, says: str) -> None:
    """What could not be read is named."""
    with pytest.raises(BadInput, match=says):
        read_variables({"OTHER_HALF": value}, rule)


def test_pairs_are_checked_without_repeating_them() -> None:
    """All mistakes at once; a value is never in the sentence."""
    with pytest.raises(BadInput) as caught:
        split_pairs(["hunter2", "=hunter2", "A=hunter2", "A=hunter2", "B="])

    assert str(caught.value).count("\n") == 2
    assert "hunter2" not in str(caught.value)
    assert split_pairs(["A=1=2", "B="]) == {"A": "1=2", "B": ""}


@pytest.mark.parametrize("option", ["--reason", "--ticket", "--owner"])
def test_a_text_that_holds_the_secret_is_refused(home: Home, option: str) -> None:
    """What is kept and shown must not hold it."""
    result = home.run(
        "revoke", "--rule", "jupyterhub.token", "--connection", "hub", option, f"leaked: {TOKEN}!", stdin=TOKEN
    )

    assert result.exit_code == 2
    assert result.stderr.startswith(f"revoq: {option} holds the secret itself")
    assert TOKEN not in result.output


def test_short_secrets_are_not_looked_for() -> None:
    """They would be found in any text."""
    refuse_in_sight(Secret("on"), {"--reason": "on purpose"})
