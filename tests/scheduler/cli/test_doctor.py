"""`revoq doctor` finds what was planted, names it, and says what mends it."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable

import click
import pytest

from rules.trouble import FAILURES
from rules.units import SECOND
from scheduler import pulse
from scheduler.cli import checkup
from scheduler.cli.checkup import Check, Health, Role, attempt
from tests.scheduler.cli.conftest import PAIRED, Home, Jobs
from worker.ledger import accounts, moves
from worker.ledger.database import Database
from worker.settings import Settings, load_settings

Found = dict[str, list[Check]]


def examine(home: Home, *checks: Callable[[Settings], Iterable[Check]]) -> Found:
    """What some of the checks say, by their names."""
    found: Found = {}
    with click.Context(click.Command("doctor")).scope():
        settings = load_settings(home.environ)
        for check in [each for looks in checks for each in attempt(looks, settings)]:
            found.setdefault(check.name, []).append(check)
    return found


def failures(found: Found, name: str) -> list[Check]:
    """What has to be mended, of one name."""
    return [check for check in found.get(name, []) if check.state is Health.FAIL]


def test_all_that_needs_no_broker_is_well(home: Home) -> None:
    """A fresh set-up has nothing to mend but the broker that is not there; the exit code says so."""
    done = home.shell("doctor", "--format", "json")

    rows = json.loads(done.stdout)
    assert done.returncode == 1
    assert all(set(row) == {"name", "state", "says", "mend"} for row in rows)
    assert [(row["name"], "does not answer" in row["says"]) for row in rows if row["state"] == "fail"] == [
        ("broker", True)
    ]
    assert {row["name"] for row in rows} >= {"settings", "keys", "files", "git", "rules", "connections", "database"}


@pytest.mark.parametrize("role", [Role.BEAT, Role.CLOCK])
def test_a_role_that_ticks(home: Home, role: Role) -> None:
    """It is well while its last tick is fresh; one that never came, or is an hour old, is told with what to look at."""
    look = checkup.beat_ticks if role is Role.BEAT else checkup.clock_ticks
    settings = load_settings(home.environ)
    assert "never" in failures(examine(home, look), role.value)[0].says

    pulse.tick(settings, role.value)
    assert failures(examine(home, look), role.value) == []

    mark = pulse.mark_of(settings, role.value)
    os.utime(mark, (mark.stat().st_atime, mark.stat().st_mtime - 3600))
    assert "log" in failures(examine(home, look), role.value)[0].mend


def test_a_worker_that_nobody_hears(home: Home) -> None:
    """The health check of a container fails, with a sentence, where the broker does not answer."""
    done = home.shell("doctor", "--role", "worker", "--format", "json")

    rows = json.loads(done.stdout)
    assert done.returncode == 1
    assert [(row["name"], row["state"]) for row in rows] == [("keys", "ok"), ("database", "ok"), ("broker", "fail")]


def test_every_look_is_taken() -> None:
    """A check that is written and not in the list would never run."""
    looks = {look for name, look in vars(checkup).items() if name.startswith("look_at_")}

    within = {checkup.look_at_accounts, checkup.look_at_clock, checkup.look_at_schedules, checkup.look_at_trail}
    assert set(checkup.CHECKS) == looks - within


def test_files_that_others_can_read(home: Home) -> None:
    """Keys, settings and state; each with the command that mends it."""
    paths = [home.data / "keys", home.folder / "revoq.yaml", home.database_file]
    for path in paths:
        path.chmod(0o644)
    home.data.chmod(0o755)

    found = failures(examine(home, checkup.look_at_files), "files")

    says = " ".join(check.says for check in found)
    assert all(str(path) in says for path in [*paths, home.data])
    assert {f"chmod 600 {home.data / 'keys'}", f"chmod 700 {home.data}"} <= {check.mend for check in found}


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

    found = examine(home, checkup.look_at_rules)

    assert [check.mend for check in failures(found, "rules")] == [f"chmod go-w {planted}"]


def test_a_secret_in_a_git_tree(home: Home) -> None:
    """One `git add .` away from everybody."""
    (home.folder / ".git").mkdir()

    found = examine(home, checkup.look_at_git)

    assert any(str(home.data / "keys") in check.says for check in failures(found, "git"))


def test_a_broken_rule(home: Home) -> None:
    """It is named with its file and line; the others work."""
    (home.folder / "more").mkdir()
    (home.folder / "more" / "x.yaml").write_text("rules:\n  - id: nonsense\n")
    home.write_config(rules_path=["more"])

    found = examine(home, checkup.look_at_rules)

    assert any("x.yaml:2" in check.says for check in failures(found, "rules"))


def test_a_connection_without_its_secret(home: Home) -> None:
    """Named, without asking anybody."""
    found = examine(home, checkup.look_at_connections)

    assert "HUB_TOKEN is not set" in failures(found, "connections")[0].says


def test_sinks(home: Home) -> None:
    """A line for each: the one that can be used, and what is wrong with the other, without asking anybody."""
    vault = {"kind": "vault", "url": "https://vault.example.com", "path": "bots/{name}", "token": "env:NO_SUCH_TOKEN"}
    home.write_config(sinks={"keys": {"kind": "file", "path": "/srv/keys/{name}"}, "vault-prod": vault})

    found = examine(home, checkup.look_at_sinks)["sinks"]

    assert [check.state for check in found] == [Health.OK, Health.FAIL]
    assert "sink vault-prod: token: the environment variable NO_SUCH_TOKEN is not set" in found[1].says


def test_notices(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """An address that cannot be read, or that nobody knows, is told before the first incident is; never its text."""
    monkeypatch.setenv("PAGER", "jsons://user:planted-password@pager.example.com/hook")
    monkeypatch.setenv("WRONG", "nosuchservice://planted-token")
    home.write_config(notices=[{"to": f"env:{name}"} for name in ("PAGER", "WRONG", "NOT_SET")])

    found = {check.says.split()[0].rstrip(":"): check for check in examine(home, checkup.look_at_notices)["notices"]}

    assert found["env:PAGER"].state is Health.OK
    assert found["env:WRONG"].state is Health.FAIL
    assert any("NOT_SET is not set" in check.says for check in found.values() if check.state is Health.FAIL)
    assert not any("planted" in check.says for check in found.values())


def test_nothing_set_up(empty_home: Home) -> None:
    """The commands of the first steps are named."""
    found = examine(empty_home, checkup.look_at_keys, checkup.look_at_database)

    assert failures(found, "keys")[0].mend == "revoq keys generate"
    assert failures(found, "database")[0].mend == "revoq db upgrade"


def test_wrong_settings(home: Home) -> None:
    """Each mistake is a check of its own, and nothing else can be looked at."""
    home.write_config(no_such="x", flower_port=0)

    result = home.run("doctor", "--format", "json")

    assert result.exit_code == 1
    assert [(row["name"], row["state"]) for row in json.loads(result.stdout)] == [("settings", "fail")] * 2


def test_a_clock_that_does_not_run(home: Home, jobs: Jobs, db: Database) -> None:
    """A job that is due for long, and that nobody rings for."""
    job = jobs.queued()
    with db.begin() as connection:
        connection.exec_driver_sql("UPDATE jobs SET not_before = not_before - 3600000000 WHERE id = ?", (job,))

    found = examine(home, checkup.look_at_database)

    assert "1 jobs are due, one of them for 1 h" in failures(found, "clock")[0].says


def test_a_provider_that_fails_is_a_warning(home: Home, db: Database) -> None:
    """Who is left alone, and why, and who asked for patience."""
    for _ in range(FAILURES):
        accounts.fail(db, "hub", 0.5, actor="w1", says="503")
    accounts.put_off(db, "twilio", db.now() + 3600 * SECOND)

    found = examine(home, checkup.look_at_database)["accounts"]

    assert [check.state.value for check in found] == ["warn", "warn"]
    assert f"hub: it failed {FAILURES} times in a row and is left alone for" in found[0].says
    assert "twilio: the provider asked for patience: nothing begins for 59 min" in found[1].says


def test_a_hold_is_a_warning(home: Home, db: Database) -> None:
    """It is on on purpose, and worth knowing."""
    moves.hold_on(db, "*", actor="kim@host", why="incident")

    (hold,) = examine(home, checkup.look_at_database)["hold"]

    assert (hold.state, hold.says) == (Health.WARN, "everything is held by kim@host: incident")
