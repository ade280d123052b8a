"""The README's tutorial, every command of it as it stands, in one shell: from a leaked key to its report."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from tests.acceptance.system import ROOT
from tests.servers.ports import find_free_port
from tests.test_readme import TEXT

HEADING = "## From a leaked key to its report\n"
PORT = "8400"
ALIVE = 4
"""The exit code of a probe that finds the key at work."""

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(600)]


@pytest.fixture
def empty() -> Iterator[Path]:
    """An empty folder, whose path leaves room for a socket's name; whatever was started in it ends with the test."""
    with tempfile.TemporaryDirectory(prefix="revoq-", ignore_cleanup_errors=True) as folder:
        yield Path(folder)
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                if folder in " ".join(process.cmdline()) or process.environ().get("HOME") == folder:
                    process.kill()


def commands() -> list[str]:
    """The tutorial's commands; what follows one without a prompt belongs to it."""
    (block,) = re.findall(r"```console\n(.*?)```", TEXT.partition(HEADING)[2].partition("\n## ")[0], flags=re.DOTALL)
    return [
        re.sub(r" +# .*", "", command).rstrip() for command in re.split(r"^\$ ", block, flags=re.MULTILINE) if command
    ]


def as_a_person_types(command: str) -> str:
    """A person waits until what was started is there, and fills in the ID that was told."""
    if "tests.sandbox" in command:
        return f"{command}\nuntil [ -s signer ]; do sleep 0.1; done"
    if command == "revoq doctor":
        return f"until {command}; do sleep 1; done"
    if command.startswith("revoq probe"):
        return f"code=0; {command} || code=$?; [ $code = {ALIVE} ]"
    told = (
        "ID=$(revoq batches list --format json | python -c \"import json, sys; print(json.load(sys.stdin)[0]['id'])\")"
    )
    return f"{told}\n{command.replace(' ID ', ' $ID ')}" if " ID " in command else command


def test_every_command_of_the_tutorial(empty: Path) -> None:
    """Each succeeds; at the end the key is proved dead, the report says so, and no secret was shown."""
    port, flower = find_free_port(), find_free_port()
    script = "\n".join(as_a_person_types(command) for command in commands()).replace(PORT, str(port))
    environ = {name: os.environ[name] for name in ("LANG",) if name in os.environ}
    environ |= {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    environ |= {"HOME": str(empty), "TMPDIR": str(empty), "REVOQ_FLOWER_PORT": str(flower)}
    shown = empty / "shown"
    with shown.open("wb") as output:
        # Into a file, since what runs in the background would keep a pipe open.
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-m", "-c", f"{script}\nwait || true"],
            cwd=ROOT,
            env=environ,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            timeout=400,
            check=False,
        )

    text = shown.read_text()
    assert done.returncode == 0, text[-6000:]
    assert "revoked" in text
    assert "Sound:" in text
    (file,) = empty.glob("*/report.html")
    report = file.read_text()
    assert "in a public repository" in report
    assert "SG." not in text + report
    assert not file.with_name("leaked").exists()
