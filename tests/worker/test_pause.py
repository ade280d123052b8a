"""A pause through the engine: written down when it is reached, and waited for without a claim."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from rules.lifecycle import State, Verdict
from rules.units import SECOND
from tests.sandbox import Sandbox
from tests.worker.bench import Bench, open_bench
from worker.ledger import reads

RULE = """
rules:
  - id: tailor.key
    name: A key that a program ends
    pattern: '\\b(?P<TOKEN>tk_(?P<KEY_ID>[a-z0-9]{6})_[a-z0-9]{8})\\b'
    examples: [tk_abc123_secret01]
    credential: {id: KEY_ID}
    revocation:
      type: HttpMultiStep
      content:
        steps:
          - name: settle
            pause: LONG
          - name: end
            command:
              run: [/bin/sh, -c, 'cat >> "$FOLDER/ended"; echo "$1" >> "$FOLDER/ids"', sh, "{{ KEY_ID }}"]
              env: {FOLDER: "HERE"}
              stdin: "{{ TOKEN }}"
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where the program writes."""
    (tmp_path / "out").mkdir()
    return tmp_path / "out"


def opened(tmp_path: Path, url: str, sandbox: Sandbox, folder: Path, pause: str) -> Iterator[Bench]:
    """A bench with the rule and the leave to run its program."""
    file = tmp_path / "tailor.yaml"
    file.write_text(RULE.replace("LONG", pause).replace("HERE", str(folder)))
    settings = {"rules_path": [str(file)], "commands_allowed": ["/bin/sh"]}
    with open_bench(tmp_path, url, sandbox, connections={}, settings=settings) as bench:
        yield bench


def test_a_pause_counts_from_when_it_was_reached(
    tmp_path: Path, sqlite_url: str, sandbox: Sandbox, folder: Path
) -> None:
    """The job waits in the ledger, and looking again, as after a restart, does not make it longer."""
    for bench in opened(tmp_path, sqlite_url, sandbox, folder, "15m"):
        job_id = bench.submit("tailor.key", "tk_abc123_secret01")

        waiting = bench.carry(job_id)
        (reached,) = bench.steps(waiting)

        assert waiting.state is State.WAITING
        assert (reached.purpose, reached.mutating) == ("pause", False)
        assert waiting.not_before == pytest.approx((reached.ended_at or 0) + 900 * SECOND, abs=SECOND)
        assert bench.carry(job_id).not_before == waiting.not_before
        assert len(bench.steps(reads.job(bench.runtime.database, job_id))) == 1
        assert not (folder / "ended").exists()


def test_after_the_pause_the_program_runs_once(tmp_path: Path, sqlite_url: str, sandbox: Sandbox, folder: Path) -> None:
    """The secret comes on its input, the id as an argument; a program's yes is no proof, so the end is acknowledged."""
    for bench in opened(tmp_path, sqlite_url, sandbox, folder, "1s"):
        job = bench.run("tailor.key", "tk_abc123_secret01")

        assert job.verdict is Verdict.ACKNOWLEDGED
        assert (folder / "ended").read_text() == "tk_abc123_secret01"
        assert (folder / "ids").read_text() == "abc123\n"
        assert "secret01" not in repr(bench.steps(job))
        assert bench.outline(job) == [("pause", "settle", "ok"), ("act", "end", "ok")]
