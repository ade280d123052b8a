"""The layers defend themselves: a wrong import is refused by the same check that `make check` runs."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
HOUSES = ("rules", "worker", "scheduler")


def check_contracts(directory: Path) -> subprocess.CompletedProcess[str]:
    """Run import-linter on the houses in a folder."""
    return subprocess.run(
        [
            sys.executable,
            "-c",
            "from importlinter.cli import lint_imports_command; lint_imports_command()",
            "--no-cache",
        ],
        cwd=directory,
        env={"PYTHONPATH": str(directory), "PATH": "/usr/bin:/bin", "NO_COLOR": "1"},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    """The houses and their contracts, to be broken."""
    for house in HOUSES:
        shutil.copytree(ROOT / house, tmp_path / house, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def test_the_contracts_hold(copied: Path) -> None:
    """Imports run from the scheduler to the worker to the rules, and the rules are pure."""
    done = check_contracts(copied)

    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("file", "line"),
    [
        ("rules/select.py", "import worker.engine"),
        ("worker/engine.py", "import scheduler.submit"),
        ("rules/decide.py", "import time"),
        ("rules/loader.py", "import httpx"),
    ],
)
def test_a_broken_contract_is_refused(copied: Path, file: str, line: str) -> None:
    """An arrow in the wrong direction, a clock or a network in the rules: the check fails and names it."""
    with (copied / file).open("a") as source:
        source.write(f"\n{line}\n")

    done = check_contracts(copied)

    assert done.returncode == 1, done.stdout + done.stderr
    assert file.removesuffix(".py").replace("/", ".") in done.stdout
