"""The door itself: verbs are found and not loaded, and whatever goes wrong is a sentence with an exit code."""

from __future__ import annotations

import importlib
import os
import pkgutil
import pty
import re
import shlex
import shutil
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from rules.errors import BadInput, RevoqError
from scheduler import cli
from scheduler.cli import door, failures, find_verbs
from scheduler.cli.examples import EXAMPLES
from tests.scheduler.cli.conftest import ROOT, Home
from tests.servers.missing import report_missing
from tests.test_readme import find_command
from worker.errors import ExchangeError

HEAVY = (
    *("alembic", "celery", "cryptography", "httpx", "importlib.metadata", "kombu", "pydantic", "pydantic_settings"),
    *("redis", "regex", "rich", "sqlalchemy", "structlog", "supervisor", "yaml"),
)
"""What costs more to load than all that `revoq --help` does."""


def all_commands() -> list[tuple[str, ...]]:
    """Every verb, and every verb's own verbs."""
    found: list[tuple[str, ...]] = []
    for name in find_verbs():
        command = importlib.import_module(f"scheduler.cli.{name}").command
        inner = command.commands if isinstance(command, click.Group) else {}
        found += [(name,), *((name, below) for below in inner)]
    return found


def test_every_module_with_a_command_is_a_verb() -> None:
    """The first line of a verb's module is what makes it a verb: none is missed, and none is anything else."""
    modules = {module.name: importlib.import_module(f"scheduler.cli.{module.name}") for module in list_modules()}

    with_command = {
        name for name, module in modules.items() if isinstance(getattr(module, "command", None), click.Command)
    }

    assert with_command == set(find_verbs())
    assert all(modules[name].command.name == name for name in with_command)


def list_modules() -> list[pkgutil.ModuleInfo]:
    """The modules of the door but the one that would run it."""
    return [module for module in pkgutil.iter_modules(cli.__path__) if module.name != "__main__"]


def test_the_verbs_of_this_issue_are_there() -> None:
    """What DESIGN part 6 lists and this issue builds; verbs of later issues are not stubs."""
    assert set(find_verbs()) == {
        "audit",
        "batches",
        "completion",
        "connections",
        "credentials",
        "db",
        "demo",
        "doctor",
        "history",
        "hold",
        "issue",
        "jobs",
        "keys",
        "metrics",
        "offboard",
        "probe",
        "revoke",
        "rotate",
        "rules",
        "schedules",
        "up",
    }


def test_help_names_every_verb_and_loads_nothing() -> None:
    """`revoq --help` comes without Celery, without a database and without the verbs' own modules."""
    code = (
        "import sys\nfrom scheduler.cli import door\n"
        "try:\n    door.main(['--help'])\nexcept SystemExit as end:\n    assert end.code == 0\n"
        f"print('LOADED', [name for name in {HEAVY} if name in sys.modules])"
    )

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)

    assert "LOADED []" in done.stdout
    for name, says in find_verbs().items():
        assert f"  {name} " in done.stdout
        assert says.split()[0] in done.stdout


@pytest.mark.parametrize("verb", sorted(find_verbs()))
def test_every_verb_has_examples(verb: str) -> None:
    """They are shown below its help as they stand, and each is a command line that the verb understands."""
    shown = CliRunner().invoke(door, [verb, "--help"], prog_name="revoq").stdout
    for line in EXAMPLES[verb]:
        assert f"  {line}" in shown
        words = shlex.split(line.replace('"$(', "").replace(')"', ""), comments=True)
        words = words[words.index("revoq") + 1 :]
        assert words[0] == verb
        command = find_command(words)
        known = {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)}
        assert {word for word in words if word.startswith("--")} <= known


@pytest.mark.parametrize(
    ("line", "expected"),
    [("revoq jo", "plain,jobs"), ("revoq jobs sel", "plain,select"), ("revoq doctor --ro", "plain,--role")],
)
def test_the_tab_key(line: str, expected: str) -> None:
    """What bash is told of verbs, of what is below them, and of options; completing a verb loads none."""
    asked = {"_REVOQ_COMPLETE": "bash_complete", "COMP_WORDS": line, "COMP_CWORD": str(line.count(" "))}
    loaded = f"print('LOADED', [name for name in {HEAVY} if name in sys.modules])"
    code = f"import sys\nfrom scheduler.cli import main\ntry: main()\nfinally: {loaded}"

    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True, env={**os.environ, **asked}
    )

    assert expected in done.stdout.splitlines()
    assert line.count(" ") > 1 or "LOADED []" in done.stdout


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_shell_is_told_how_to_complete(shell: str) -> None:
    """The script asks revoq itself, by the variable that click reads."""
    if shell == "bash" and shutil.which("bash") is None:
        report_missing("bash", "Debian: apt install bash")
    shown = CliRunner().invoke(door, ["completion", shell], prog_name="revoq")

    assert shown.exit_code == 0, shown.output
    assert f"_REVOQ_COMPLETE={shell}_complete" in shown.stdout


@pytest.mark.parametrize("no_color", ["", "1"])
def test_colours_are_for_terminals_that_want_them(home: Home, no_color: str) -> None:
    """A terminal gets them, one with NO_COLOR does not, and neither does a pipe."""
    words = [sys.executable, "-m", "scheduler.cli", "db", "upgrade"]
    environ = {**home.environ, "TERM": "xterm-256color", "NO_COLOR": no_color, "PYTHONPATH": str(ROOT)}
    inside, outside = pty.openpty()
    with subprocess.Popen(words, stdout=outside, stderr=outside, cwd=ROOT, env={**os.environ, **environ}) as asked:
        os.close(outside)
        shown = b""
        with suppress(OSError):  # The end of a terminal is an error on Linux.
            while chunk := os.read(inside, 4096):
                shown += chunk
        assert asked.wait() == 0, shown
    os.close(inside)
    piped = subprocess.run(words, capture_output=True, check=True, cwd=ROOT, env={**os.environ, **environ}).stdout

    assert b"The tables are at the version" in shown
    assert bool(re.search(rb"\x1b\[[0-9;]*3[0-9][0-9;]*m", shown)) is not bool(no_color)
    assert b"\x1b" not in piped


@pytest.mark.parametrize("words", all_commands(), ids=" ".join)
def test_every_verb_has_help(words: tuple[str, ...]) -> None:
    """Each verb says what it does in whole sentences, each of its options what it is for, without any settings."""
    result = CliRunner().invoke(door, [*words, "--help"], prog_name="revoq")

    assert result.exit_code == 0
    assert f"Usage: revoq {' '.join(words)}" in result.stdout
    assert "." in result.stdout


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("revok",), "No such command"),
        (("jobs", "lst"), "No such command"),
        (("jobs", "list", "--stat", "done"), "No such option"),
        (("jobs", "list", "--state", "dead"), "is not one of"),
        (("jobs", "list", "--limit", "0"), "is not in the range"),
        (("revoke", "--rule", "x", "--timeout", "90"), "expected a duration such as 90s"),
        (("hold", "on"), "Missing option '--reason'"),
        (("jobs", "cancel", "job_x"), "Missing option '--reason'"),
    ],
)
def test_wrong_use(empty_home: Home, words: tuple[str, ...], says: str) -> None:
    """Wrong use is exit code 2 with the way to the help, on standard error."""
    result = empty_home.run(*words)

    assert result.exit_code == 2
    assert says in result.stderr
    assert "--help" in result.stderr
    assert result.stdout == ""


def test_version() -> None:
    """`--version` says which, installed or not."""
    result = CliRunner().invoke(door, ["--version"], prog_name="revoq")

    assert result.exit_code == 0
    assert result.stdout.startswith("revoq ")


def test_as_a_module() -> None:
    """`python -m scheduler.cli` is the same door."""
    done = subprocess.run(
        [sys.executable, "-m", "scheduler.cli", "--version"], capture_output=True, text=True, cwd=ROOT, check=False
    )

    assert (done.returncode, done.stderr) == (0, "")


# ── what goes wrong ───────────────────────────────────────────────────────────────────────────────────────────────────


def failing(error: BaseException) -> cli.Door:
    """A door with one verb, which fails."""

    class Failing(cli.Door):
        def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
            def fail() -> None:
                raise error

            return click.Command("fail", callback=fail)

    return Failing("revoq")


def classes(above: type[RevoqError]) -> list[type[RevoqError]]:
    """A class and everything below it."""
    return [above, *(found for below in above.__subclasses__() for found in classes(below))]


@pytest.mark.parametrize(
    ("error", "code"),
    [(BadInput("it is so"), 2), (ExchangeError("dns", sent=False, says="it is so"), 1), (RevoqError("it is so"), 1)],
)
def test_every_error_of_ours_is_a_sentence(error: RevoqError, code: int) -> None:
    """Whatever revoq raises on purpose is its sentence on standard error, and nothing else."""
    result = CliRunner().invoke(failing(error), ["fail"])

    assert (result.exit_code, result.stdout, result.stderr) == (code, "", "revoq: it is so\n")


def test_a_defect_is_named_and_not_shown() -> None:
    """What nobody thought of ends with its type alone: its text may hold a secret."""
    result = CliRunner().invoke(failing(KeyError("hunter2")), ["fail"])

    assert result.exit_code == 1
    assert result.stderr == "revoq: KeyError: this is a defect in revoq; with REVOQ_LOG_LEVEL=debug it says where\n"


def test_a_defect_tells_where_at_debug() -> None:
    """At debug level it also says where, and still without a value."""
    error = ValueError("hunter2")
    error.__cause__ = KeyError("hunter3")

    result = CliRunner(env={"REVOQ_LOG_LEVEL": "debug"}).invoke(failing(error), ["fail"])

    assert "in fail" in result.stderr
    assert "KeyError, by way of" in result.stderr
    assert "hunter" not in result.stderr


@pytest.mark.parametrize("error", [KeyboardInterrupt(), click.Abort()])
def test_an_interruption_is_130(error: BaseException) -> None:
    """Ctrl-C, also at a prompt, ends with the code that shells use for it."""
    assert CliRunner().invoke(failing(error), ["fail"]).exit_code == 130


def test_every_error_that_a_person_can_put_right_is_wrong_use() -> None:
    """The table of wrong use is about classes that exist, and no failure of a machine is among them."""
    assert all(issubclass(kind, RevoqError) for kind in failures.WRONG)
    assert not issubclass(ExchangeError, failures.WRONG)


def test_a_closed_pipe_is_quiet(tmp_path: Path) -> None:
    """`revoq … | head -1` ends without a word, also when the interpreter flushes at its end."""
    code = "from scheduler.cli import door\nimport os\nos.close(1)\nos.dup2(os.pipe()[1], 1)\n"
    script = f"{code}r, w = os.pipe()\nos.close(r)\nos.dup2(w, 1)\ndoor.main(['--help'])\n"

    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT, check=False)

    assert done.stderr == ""
