"""`revoq schedules`: what it shows of a schedule, what it says would happen, and a slot that a person wants now."""

from __future__ import annotations

import json
from typing import Any

import pytest
from sqlalchemy import func, select

from rules.lifecycle import SlotState, TargetState
from tests.sandbox import Sandbox
from tests.sandbox.cast import environment, seed
from tests.sandbox.fixtures import sandbox
from tests.scheduler.cli.conftest import Home
from tests.scheduler.listed import CONNECTION, RULE, connect, write_rule
from worker.ledger import slots
from worker.ledger.database import Database
from worker.ledger.rows import TargetRow
from worker.ledger.tables import jobs
from worker.ledger.tables import slots as slots_table

__all__ = ["sandbox"]

WEEKLY: dict[str, Any] = {
    "intent": "revoke",
    "rule": RULE,
    "connection": CONNECTION,
    "cron": "0 3 * * MON",
    "timezone": "Europe/Berlin",
    "targets": {"names": ["job-*"], "max_age": "30d"},
}


@pytest.fixture
def stage(home: Home, sandbox: Sandbox) -> Home:
    """A home whose settings have one schedule, over the pretend Tailscale with an old key and a young one."""
    cast = seed(sandbox)
    home.environ.update(environment(cast))
    sandbox.tailscale.add_key(description="job-old").created -= 40 * 86400
    sandbox.tailscale.add_key(description="job-young")
    home.write_config(
        connections=connect(cast.base_url),
        rules_path=[write_rule(home.folder / "rules")],
        schedules={"weekly": WEEKLY},
    )
    return home


def test_a_schedule_that_never_ran(stage: Home) -> None:
    """Its next slot is told, and nothing is known of its targets."""
    (row,) = stage.ask("schedules", "list")

    assert (row["name"], row["state"], row["last"], row["targets"], row["overdue"]) == ("weekly", "new", None, [], [])
    assert row["when"] == "0 3 * * MON (Europe/Berlin)"
    assert row["next"][10:] in {"T01:00:00.000000Z", "T02:00:00.000000Z"}


def test_a_slot_that_a_person_wants(stage: Home, db: Database) -> None:
    """It is open in the ledger, with the person's name, although no broker answers."""
    done = stage.shell("schedules", "run", "weekly", "--format", "json")

    assert done.returncode == 0, done.stderr
    assert "the slot is safe in the ledger" in done.stderr
    slot = slots.latest(db, "weekly")
    assert slot is not None
    assert (slot.state, json.loads(done.stdout)["new"]) == (SlotState.OPEN, True)
    assert "@" in slot.requester
    (row,) = stage.ask("schedules", "list")
    assert (row["state"], row["last"]["targets"]["waiting"]) == ("open", 0)


def test_a_dry_run_says_what_would_happen_to_whom(stage: Home, sandbox: Sandbox, db: Database) -> None:
    """Old keys would be revoked and young ones not; no row is written, and nothing is sent that changes something."""
    told = stage.ask("schedules", "run", "weekly", "--dry-run")

    would = {row["name"]: (row["would"], row["why"]) for row in told["targets"] if row["name"].startswith("job-")}
    assert would == {"job-old": ("revoke", None), "job-young": ("skipped", "it is 0.0 days old")}
    assert told["held"] is None
    assert {call.method for call in sandbox.calls("tailscale")} == {"GET"}
    with db.read() as conn:
        assert [conn.scalar(select(func.count()).select_from(table)) for table in (slots_table, jobs)] == [0, 0]
    table = stage.run("schedules", "run", "weekly", "--dry-run").stdout
    assert "A slot would revoke 1 of" in table
    assert "Nothing was changed or written down." in table


def test_keys_that_are_too_old_are_listed(stage: Home, db: Database) -> None:
    """With their ages in seconds, by what the last slot saw."""
    stage.shell("schedules", "run", "weekly")
    slot = slots.latest(db, "weekly")
    assert slot is not None
    born = db.now() - 40 * 86400 * 1_000_000
    row = {"number": 1, "id": "k1", "subject": None, "role": None, "canary": False, "used": None, "not_before": 0}
    old = TargetRow(target="k1", name="job-old", state=TargetState.WAITING, born=born, **row)  # type: ignore[arg-type]
    assert slots.list_targets(db, slot.key, [old])

    (shown,) = stage.ask("schedules", "list")

    assert (shown["overdue"], shown["state"], shown["last"]["targets"]["waiting"]) == (["k1"], "running", 1)
    assert 40 * 86400 <= shown["targets"][0]["age"] < 40 * 86400 + 3600
    assert "k1" in stage.run("schedules", "list").stdout


def test_a_slot_that_failed_is_an_incident(stage: Home, db: Database) -> None:
    """It stands in the list and in the doctor's report until a later slot is well."""
    stage.shell("schedules", "run", "weekly")
    slot = slots.latest(db, "weekly")
    assert slot is not None
    assert slots.end(db, slot.key, SlotState.OPEN, SlotState.FAILED, "the provider answered 503")

    (row,) = stage.ask("schedules", "list")
    checks = json.loads(stage.shell("doctor", "--format", "json").stdout)

    assert (row["state"], row["says"]) == ("failed", "the provider answered 503")
    (check,) = [check for check in checks if check["name"] == "schedules"]
    assert (check["state"], check["says"]) == (
        "warn",
        "the last slot of weekly is failed: the provider answered 503",
    )


def test_a_schedule_that_does_not_exist(stage: Home) -> None:
    """The nearest name is said."""
    done = stage.run("schedules", "run", "weakly")
    assert done.exit_code == 2
    assert "no schedule is called 'weakly'; did you mean weekly?" in done.stderr


def test_a_rule_that_does_not_exist_or_lists_nothing(stage: Home) -> None:
    """Each schedule says what is wrong with its own; a slot of it is refused."""
    config: dict[str, Any] = {"schedules": {}}
    for name, rule in {"one": "tailnet.keys", "two": "github.token"}.items():
        config["schedules"][name] = {**WEEKLY, "rule": rule}
    config["connections"] = {CONNECTION: {"provider": "tailnet", "base_url": "http://127.0.0.1:1"}}
    stage.write_config(rules_path=[str(stage.folder / "rules")], **config)

    rows = {row["name"]: (row["state"], row["says"]) for row in stage.ask("schedules", "list")}

    assert {state for state, _ in rows.values()} == {"unusable"}
    assert "there is no rule 'tailnet.keys'; did you mean tailnet.key" in rows["one"][1]
    assert "github.token has no listing" in rows["two"][1]
    done = stage.run("schedules", "run", "one")
    assert done.exit_code != 0
    assert "schedules.one.rule: there is no rule 'tailnet.keys'" in done.stderr


def test_settings_without_schedules(home: Home) -> None:
    """That is said, and no table is drawn."""
    assert "no schedules" in home.run("schedules", "list").stdout
