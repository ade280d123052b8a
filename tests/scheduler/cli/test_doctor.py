"""`revoq doctor` finds what was planted, names it, and says what mends it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.scheduler.cli.conftest import PAIRED, Home, Jobs
from worker.ledger import moves
from worker.ledger.database import Database


def examine(home: Home) -> tuple[int, dict[str, list[dict[str, Any]]]]:
    """The exit code, and the checks by their names."""
    done = home.shell("doctor", "--format", "json")
    assert done.stdout, done.stderr
    found: dict[str, list[dict[str, Any]]] = {}
    for row in json.loads(done.stdout):
        assert set(row) == {"name", "state", "says", "mend"}
        found.setdefault(row["name"], []).append(row)
    return done.returncode, found


def failures(found: dict[str, list[dict[str, Any]]], name: str) -> list[dict[str, Any]]:
    return [row for row in found[name] if row["state"] == "fail"]


def test_all_that_needs_no_broker_is_well(home: Home) -> None:
    """A fresh set-up has nothing to mend but the broker that is not there."""
    code, found = examine(home)

    assert code == 1
    assert {name for name in found if failures(found, name)} == {"broker"}
    assert "does not answer" in found["broker"][0]["says"]


def test_files_that_others_can_read(home: Home) -> None:
    """Keys, settings and state; each with the command that mends it."""
    paths = [home.data / "keys", home.folder / "revoq.yaml", home.database_file]
    for path in paths:
        path.chmod(0o644)
    home.data.chmod(0o755)

    code, found = examine(home)

    says = " ".join(row["says"] for row in failures(found, "files"))
    assert code == 1
    assert all(str(path) in says for path in [*paths, home.data])
    assert f"chmod 600 {home.data / 'keys'}" in [row["mend"] for row in found["files"]]
    assert f"chmod 700 {home.data}" in [row["mend"] for row in found["files"]]


@pytest.mark.parametrize("what", ["folder", "file"])
def test_rules_that_others_can_write(home: Home, what: str) -> None:
    """Whoever can write a rule can have requests sent with our identities."""
    folder = home.folder / "more"
    folder.mkdir(mode=0o755)
    file = folder / "paired.yaml"
    file.write_text(PAIRED)
    home.write_config(rules_path=["more"])
    planted = folder if what == "folder" else file
    planted.chmod(planted.stat().st_mode | 0o020)

    _, found = examine(home)

    assert [row["mend"] for row in failures(found, "rules")] == [f"chmod go-w {planted}"]


def test_a_secret_in_a_git_tree(home: Home) -> None:
    """One `git add .` away from everybody."""
    (home.folder / ".git").mkdir()

    _, found = examine(home)

    assert any(str(home.data / "keys") in row["says"] for row in failures(found, "git"))


def test_a_broken_rule(home: Home) -> None:
    """It is named with its file and line; the others work."""
    (home.folder / "more").mkdir()
    (home.folder / "more" / "x.yaml").write_text("rules:\n  - id: nonsense\n")
    home.write_config(rules_path=["more"])

    _, found = examine(home)

    assert any("x.yaml:2" in row["says"] for row in failures(found, "rules"))


def test_a_connection_without_its_secret(home: Home) -> None:
    """Named, without asking anybody."""
    del home.environ["HUB_TOKEN"]

    _, found = examine(home)

    assert "HUB_TOKEN is not set" in failures(found, "connections")[0]["says"]


def test_nothing_set_up(empty_home: Home) -> None:
    """The commands of the first steps are named."""
    _, found = examine(empty_home)

    assert failures(found, "keys")[0]["mend"] == "revoq keys generate"
    assert failures(found, "database")[0]["mend"] == "revoq db upgrade"


def test_wrong_settings(home: Home) -> None:
    """Each mistake is a check of its own."""
    home.write_config(no_such="x", flower_port=0)

    code, found = examine(home)

    assert code == 1
    assert len(failures(found, "settings")) == 2


def test_a_clock_that_does_not_run(home: Home, jobs: Jobs, db: Database) -> None:
    """A job that is due for long, and that nobody rings for."""
    job = jobs.queued()
    with db.begin() as connection:
        connection.exec_driver_sql("UPDATE jobs SET not_before = not_before - 3600000000 WHERE id = ?", (job,))

    _, found = examine(home)

    assert "1 jobs are due, one of them for 1 h" in failures(found, "clock")[0]["says"]


def test_a_hold_is_a_warning(home: Home, db: Database) -> None:
    """It is on on purpose, and worth knowing."""
    moves.hold_on(db, "*", actor="kim@host", why="incident")

    _, found = examine(home)

    assert [(row["state"], row["says"]) for row in found["hold"]] == [
        ("warn", "everything is held by kim@host: incident")
    ]
