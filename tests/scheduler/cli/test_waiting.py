"""`--wait` ends with the code of the job's ending, says on standard error what is missing, and is quiet in a pipe."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from click.testing import CliRunner

from rules.lifecycle import Reason, Verdict
from scheduler.cli.waiting import offer
from tests.scheduler.cli.conftest import TOKEN, Home, Jobs
from worker.ledger import moves, reads
from worker.ledger.database import Database
from worker.ledger.rows import Claim

REVOKE = ("revoke", "--rule", "jupyterhub.token", "--connection", "hub")

End = Callable[[Database, Claim], None]


@contextmanager
def waiting(home: Home, *words: str) -> Iterator[subprocess.Popen[str]]:
    """A command that waits, with the secret handed to it."""
    argv, environ = home.command(*words)
    pipe = subprocess.PIPE
    with subprocess.Popen(
        argv, stdin=pipe, stdout=pipe, stderr=pipe, text=True, cwd=home.folder, env=environ
    ) as process:
        assert process.stdin is not None
        process.stdin.write(TOKEN)
        process.stdin.close()
        process.stdin = None
        yield process
        process.kill()


def claim_next(db: Database, jobs: Jobs) -> Claim:
    """Be the worker of the job that comes in."""
    deadline = time.monotonic() + 30
    while not (lines := reads.jobs(db)):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return jobs.claimed(lines[0].id)


@pytest.mark.parametrize(
    ("end", "code"),
    [
        (lambda db, claim: moves.finish(db, claim, Verdict.REVOKED, "s"), 0),
        (lambda db, claim: moves.park(db, claim, Reason.NEEDS_SELECTION, "s", [{"id": "a"}]), 3),
        (lambda db, claim: moves.finish(db, claim, Verdict.ACKNOWLEDGED, "s"), 5),
    ],
    ids=["revoked", "needs_selection", "acknowledged"],
)
def test_the_exit_code_is_the_ending(home: Home, db: Database, jobs: Jobs, end: End, code: int) -> None:
    """One table holds ending and exit code; in a pipe the ending is all that is said."""
    with waiting(home, *REVOKE, "--wait") as process:
        claim = claim_next(db, jobs)
        end(db, claim)
        out, err = process.communicate(timeout=30)

    assert process.returncode == code, err
    assert out.startswith(claim.job.id)
    assert TOKEN not in out + err
    # The broker of these tests is down, which is said; nothing else is.
    assert [line for line in err.splitlines() if "broker does not answer" not in line] == []


def test_json_at_the_end(home: Home, db: Database, jobs: Jobs) -> None:
    """The receipt and the whole job."""
    with waiting(home, *REVOKE, "--wait", "--format", "json") as process:
        claim = claim_next(db, jobs)
        moves.finish(db, claim, Verdict.REVOKED, "s")
        out, _ = process.communicate(timeout=30)

    shown = json.loads(out)
    assert (shown["job"], shown["joined"], shown["verdict"]) == (claim.job.id, False, "revoked")


def test_time_is_over(home: Home, db: Database) -> None:
    """Exit code 6, the job goes on, and who waits is told that nobody works on it."""
    done = home.shell(*REVOKE, "--wait", "--timeout", "6s", stdin=TOKEN)

    assert done.returncode == 6, done.stderr
    assert "the job is safe in the ledger: is `revoq up` running?" in done.stderr
    assert "not finished yet" in done.stdout
    assert [line.state for line in reads.jobs(db)] == ["queued"]


@pytest.mark.parametrize(("answer", "picked"), [("2\n", "key_2"), ("7\n1\n", "key_1"), ("\n", None), ("0\n", None)])
def test_a_person_picks_a_candidate(db: Database, jobs: Jobs, answer: str, picked: str | None) -> None:
    """By its number, beside what it looks like; no answer leaves the job parked."""
    rows = [{"id": "key_1", "shown": {"id": "key_1", "owner": "erin"}}, {"id": "key_2", "shown": {"owner": "dana"}}]
    job = reads.job(db, jobs.parked(Reason.NEEDS_SELECTION, rows))

    with CliRunner().isolation(input=answer) as (_, err, _):
        found = offer(job)

    assert found == picked
    shown = err.getvalue().decode()
    assert "owner erin" in shown
    assert "id key_1" not in shown


def test_without_waiting(home: Home, db: Database) -> None:
    """A broker that is down is told, the job is accepted all the same, what was said is kept; a second order joins."""
    said = ("--reason", "leaked", "--ticket", "SEC-1", "--owner", "team-a", "--no-probe")
    done = home.shell(*REVOKE, *said, stdin=TOKEN)
    again = home.shell(*REVOKE, "--format", "json", stdin=TOKEN)

    (line,) = reads.jobs(db)
    assert done.returncode == 0, done.stderr
    assert f"{line.id} is queued." in done.stdout
    assert f"revoq jobs show {line.id}" in done.stdout
    assert "the broker does not answer; the job is safe in the ledger" in done.stderr
    assert json.loads(again.stdout) == {"job": line.id, "joined": True, "rung": True}
    assert TOKEN not in done.stdout + done.stderr
    assert (line.cause, line.ticket, line.owner) == ("leaked", "SEC-1", "team-a")
    assert "@" in line.requester
    assert reads.job(db, line.id).options["probe"] is False
    assert [row["id"] for row in home.ask("history", stdin=TOKEN)] == [line.id]
