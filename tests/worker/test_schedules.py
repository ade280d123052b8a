"""The `schedules:` of the settings: what they mean, and every mistake in them with its line and a sentence."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from rules.calendar import Blackout, Calendar
from rules.lifecycle import Intent
from worker.errors import SettingsErrors
from worker.schedules import Schedule, unknown_sinks
from worker.settings import Settings, load_settings

WHOLE = """
connections:
  prod: {provider: pangolin, base_url: "https://pangolin.example.com"}
sinks:
  vault-ci: {kind: file, path: "/keys/ci-{name}.json"}
  vault-prod: {kind: file, path: "/keys/{name}.json"}
  mail: {kind: file, path: "/mail/{name}.json"}
schedules:
  weekly:
    intent: rotate
    rule: pangolin.service_user
    connection: prod
    cron: "0 3 * * MON"
    timezone: Europe/Berlin
    targets: {names: ["*"], except: [break-glass], roles: [service], max_age: 7d, unused_for: 30d}
    window: 4h
    jitter: 10m
    catch_up: once
    blackout: [SAT, 2026-12-24/2027-01-02]
    concurrency: 4
    canary: ci-smoke
    stop_after_failures: 3
    sinks: {"ci-*": [vault-ci], "*": [vault-prod, mail]}
"""
NO_DAY = "expected days such as SAT, 2026-12-24 or 2026-12-24/2027-01-02"
NO_CRON = "expected five fields: minute hour day month weekday"


def load(folder: Path, text: str) -> Settings:
    """The settings of a file with this text."""
    (folder / "revoq.yaml").write_text(text)
    return load_settings({"REVOQ_DATA_DIR": str(folder / "data"), "REVOQ_CONFIG": str(folder / "revoq.yaml")})


def mistakes(folder: Path, text: str) -> list[str]:
    """What is said of it, without the folder."""
    with pytest.raises(SettingsErrors) as caught:
        load(folder, text)
    return [str(mistake).removeprefix(f"{folder}/") for mistake in caught.value.mistakes]


def test_a_whole_schedule(tmp_path: Path) -> None:
    """Everything that can be said arrives where it is used."""
    schedule = load(tmp_path, WHOLE).schedules["weekly"]

    assert schedule.calendar == Calendar(
        zone=ZoneInfo("Europe/Berlin"),
        cron="0 3 * * MON",
        window=timedelta(hours=4),
        catch_up=True,
        blackout=Blackout.parse(["SAT", "2026-12-24/2027-01-02"]),
    )
    assert (schedule.name, schedule.does, schedule.jitter) == ("weekly", Intent.ROTATE, 600)
    assert (schedule.targets.exclude, schedule.targets.max_age) == (["break-glass"], 7 * 86400)
    assert (schedule.concurrency, schedule.canary, schedule.stop_after_failures) == (4, "ci-smoke", 3)


def test_sinks_by_the_name_of_the_target(tmp_path: Path) -> None:
    """The first glob that fits says where; a bare list is for all."""
    schedule = load(tmp_path, WHOLE).schedules["weekly"]
    assert schedule.sinks_for("ci-smoke") == ("vault-ci",)
    assert schedule.sinks_for("billing") == ("vault-prod", "mail")
    assert schedule.model_copy(update={"sinks": ["one"]}).sinks_for("billing") == ("one",)
    assert schedule.model_copy(update={"sinks": {"ci-*": ["one"]}}).sinks_for("billing") == ()


def test_every_mistake_at_once(tmp_path: Path) -> None:
    """Unknown names with the nearest ones, wrong values with what was expected, each with its line."""
    text = """
connections:
  prod: {provider: pangolin}
schedules:
  weekly:
    intent: rotate
    rule: x
    connection: prot
    cron: "0 3 * * MOON"
    timezone: Europe/Berln
    catchup: once
    blackout: [SAT, 2026-13-01]
    targets: {nams: []}
  nightly:
    intent: rotated
    rule: x
    connection: prod
    cron: "*/5 * * * * *"
    jitter: 10
"""
    assert mistakes(tmp_path, text) == [
        "revoq.yaml:8: schedules.weekly.connection: no connection is called 'prot'; did you mean prod?",
        "revoq.yaml:9: schedules.weekly.cron: the day-of-week of '0 3 * * MOON' is not one that cron knows",
        "revoq.yaml:10: schedules.weekly.timezone: there is no time zone 'Europe/Berln'; did you mean Europe/Berlin?",
        "revoq.yaml:13: schedules.weekly.targets.nams: there is no such key; did you mean names?",
        f"revoq.yaml:12: schedules.weekly.blackout: {NO_DAY}, got '2026-13-01'",
        "revoq.yaml:11: schedules.weekly.catchup: there is no such key; did you mean catch_up?",
        "revoq.yaml:15: schedules.nightly.intent: expected 'rotate', 'revoke' or 'probe', got 'rotated'",
        f"revoq.yaml:18: schedules.nightly.cron: {NO_CRON}, got '*/5 * * * * *'; seconds are `every`",
        "revoq.yaml:19: schedules.nightly.jitter: expected a duration such as 90s, 15m, 24h or 7d, got 10",
    ]


@pytest.mark.parametrize(
    ("entry", "says"),
    [
        ("cron: 0 3 * * MON\n    every: 5s", "expected either cron or every"),
        ("targets: {names: [a]}", "expected either cron or every"),
        ("every: 1h", "it would revoke all there is"),
        ("every: 1h\n    targets: {names: [a]}\n    sinks: [vault]", "only a rotation delivers something"),
    ],
)
def test_what_makes_no_sense_together(tmp_path: Path, entry: str, says: str) -> None:
    """Two clocks or none; to revoke without saying whom; to deliver where nothing is made."""
    text = (
        "connections: {c: {provider: p}}\nsinks:\n  vault: {kind: file, path: '/v/{name}'}\n"
        "schedules:\n  s:\n    intent: revoke\n    rule: r\n    connection: c\n"
    )
    (mistake,) = mistakes(tmp_path, f"{text}    {entry}\n")
    assert mistake.startswith("revoq.yaml:5: schedules.s: ")
    assert says in mistake


def test_by_hand_a_name_has_to_exist_too(tmp_path: Path) -> None:
    """Settings that a test makes are checked like all others."""
    given = {"s": {"intent": "probe", "rule": "r", "connection": "c", "every": "1h"}}
    with pytest.raises(ValueError, match="no connection is called 'c'"):
        Settings(data_dir=tmp_path, schedules=given)  # type: ignore[arg-type]


def test_a_sink_has_to_exist() -> None:
    """In either of the two ways in which sinks are given."""
    given = {"one": {"sinks": ["vault", "mail"]}, "two": {"sinks": {"ci-*": ["vualt"]}}, "three": {}}
    assert list(unknown_sinks(given, {"vault"})) == [
        (("one", "sinks"), "no sink is called 'mail'"),
        (("two", "sinks", "ci-*"), "no sink is called 'vualt'; did you mean vault?"),
    ]


def test_only_its_times_make_a_calendar_another_one() -> None:
    """A longer window or another blackout day begins nothing anew; another hour does."""
    given = {"name": "s", "intent": "probe", "rule": "r", "connection": "c", "cron": "0 3 * * *"}
    schedule = Schedule.model_validate(given)
    assert Schedule.model_validate({**given, "window": "2h", "blackout": ["SUN"]}).digest == schedule.digest
    assert Schedule.model_validate({**given, "cron": "0 4 * * *"}).digest != schedule.digest
    assert Schedule.model_validate({**given, "timezone": "Europe/Berlin"}).digest != schedule.digest
