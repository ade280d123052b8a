"""Files and a scanner's own report through all three houses: real workers, pretend providers, right verdicts."""

from __future__ import annotations

import csv
import json
import os
import random
import shutil
import string
import subprocess
import sys
import zlib
from pathlib import Path

import pytest

from tests.acceptance.conftest import Build
from tests.sandbox import Sandbox
from tests.sandbox.cast import connections, environment, seed
from tests.sandbox.fixtures import sandbox
from tests.servers.missing import report_missing
from tests.worker.bench import SANDBOX_RULES

__all__ = ["sandbox"]

pytestmark = pytest.mark.acceptance

KINGFISHER = shutil.which("kingfisher", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]))
LETTERS = string.digits + string.ascii_uppercase + string.ascii_lowercase


def test_one_file_of_many_providers(build_system: Build, sandbox: Sandbox, database_url: str, tmp_path: Path) -> None:
    """The whole cast in one CSV: each ends as it has to, the bystanders live, the exit code is the worst."""
    cast = seed(sandbox)
    settings = {"rules_path": [str(SANDBOX_RULES)]}
    system = build_system(database_url, connections=connections(cast), secrets=environment(cast), settings=settings)
    file = tmp_path / "leavers.csv"
    with file.open("w", newline="") as out:
        writer = csv.DictWriter(out, ["rule", "secret", "connection", "reason", "USER_ID", "TOKEN_ID"])
        writer.writeheader()
        for member in cast.members:
            common = {"rule": member.rule, "connection": member.connection, "reason": member.title}
            writer.writerow({**common, "secret": member.secret or "", **member.vars})
    system.start_all()

    done = system.revoq("offboard", str(file), "--wait", "--timeout", "120s", "--format", "json", within=180)

    told = json.loads(done.stdout)
    assert (told["submitted"], told["settled"]) == (len(cast.members), len(cast.members)), system.logs()[-4000:]
    ended = {job["cause"]: job["verdict"] or job["reason"] for job in system.ask("jobs", "list")}
    assert ended == {member.title: member.verdict or member.reason for member in cast.members}
    state = sandbox.state()
    for member in cast.members:
        assert state[member.provider].get(member.id, False) is not member.dead, member.title
    assert all(state[provider][each] for provider, each in cast.bystanders)
    assert done.returncode == told["exit_code"] == 4
    assert told["by_verdict"]["revoked"] == sum(member.verdict == "revoked" for member in cast.members)
    assert system.revoq("audit", "verify").returncode == 0
    told_again = system.ask("batches", "show", told["batch"])
    assert (told_again["by_cause"], told_again["state"]) == (told["by_cause"], "open")


def draw_npm_token(chance: random.Random) -> str:
    """One whose last letters are the checksum that npm's own tokens end with, since scanners look for it."""
    body = "".join(chance.choice(LETTERS) for _ in range(30))
    number, ending = zlib.crc32(body.encode()), ""
    for _ in range(6):
        number, digit = divmod(number, 62)
        ending = LETTERS[digit] + ending
    return f"npm_{body}{ending}"


def scan(folder: Path, form: str) -> Path:
    """Let kingfisher write a report on a folder; it asks nobody anything."""
    report = folder.parent / f"report.{form}"
    words = ["scan", str(folder), "--no-update-check", "--no-validate", "--format", form, "--confidence", "low"]
    subprocess.run([str(KINGFISHER), *words, "-o", str(report)], capture_output=True, check=False, timeout=100)
    return report


def test_a_report_of_kingfisher(build_system: Build, sandbox: Sandbox, sqlite_url: str, tmp_path: Path) -> None:
    """It scans a folder with planted tokens: ours dies, a stranger's parks as not ours, and nothing else is touched."""
    if KINGFISHER is None:
        report_missing("kingfisher", "pip install kingfisher-bin")
    chance = random.Random(20261122)
    npm = sandbox.npm
    session, ours, foreign = npm.add_token(session=True), npm.add_token(), npm.add_token(user="erin")
    for each in (ours, foreign):
        each.secret = draw_npm_token(chance)
    folder = tmp_path / "planted"
    folder.mkdir()
    (folder / ".npmrc").write_text(f"//registry.npmjs.org/:_authToken={ours.secret}\n")
    (folder / "copy.env").write_text(f"NPM_TOKEN={ours.secret}\n")
    (folder / "other.env").write_text(f"NPM_TOKEN={foreign.secret}\nSTRIPE=sk_live_{'a1B2c3D4' * 3}\n")
    report, lines = scan(folder, "json"), scan(folder, "jsonl")
    system = build_system(
        sqlite_url,
        connections={
            "npm": {
                "provider": "npm",
                "base_url": sandbox.url("npm"),
                "identity": {"token": "env:NPM_SESSION"},
                "owns": {"subject": "dana"},
            }
        },
        secrets={"NPM_SESSION": session.secret},
    )
    system.start_all()

    told_first = system.ask("offboard", str(lines))
    # The rule looks twice, a minute apart, before it believes that an npm token is dead.
    done = system.revoq("offboard", str(report), "--wait", "--timeout", "150s", "--format", "json", within=180)

    told = json.loads(done.stdout)
    assert (told_first["format"], told_first["submitted"], told_first["joined"]) == ("kingfisher", 2, 0)
    assert (told["format"], told["submitted"], told["joined"]) == ("kingfisher", 0, 2), done.stderr
    assert (told["by_verdict"], told["by_cause"]) == ({"revoked": 1}, {"not_ours": 1}), system.logs()[-4000:]
    assert (npm.state()[ours.id], npm.state()[foreign.id], npm.state()[session.id]) == (False, True, True)
    assert done.returncode == 3
    assert told["holds_secrets"] == [str(report)]
    assert ours.secret not in done.stdout + done.stderr + system.logs()
