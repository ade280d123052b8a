"""`revoq rotate` and `revoq issue` at the terminal: what would come, what came, and how a job's story tells it."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from scheduler.schedules import advance
from tests.sandbox import Sandbox
from tests.sandbox.keyring import Key
from tests.scheduler.cli.conftest import Home
from tests.worker.bench import SANDBOX_RULES
from worker.client import hang_up
from worker.engine import carry
from worker.runtime import build
from worker.settings import load_settings

ROTATE = ("rotate", "--rule", "keyring.service", "--connection", "ring", "--sink", "files")
ISSUE = ("issue", "--rule", "keyring.service", "--connection", "ring", "--sink", "files")

WEEKLY: dict[str, Any] = {
    "intent": "rotate",
    "rule": "keyring.service",
    "connection": "ring",
    "cron": "0 3 * * MON",
    "targets": {"names": ["etl", "lost"]},
    "sinks": ["files"],
}


@dataclass
class Place:
    """A pretend provider, a connection to it, and a folder as a sink."""

    home: Home
    sandbox: Sandbox
    folder: Path
    key: Key

    def submit(self, *words: str) -> str:
        """Put a job in; nobody listens to its bell."""
        return str(self.home.ask(*words)["job"])

    def carry(self, job_id: str) -> dict[str, Any]:
        """Carry it as a worker would, and show it."""
        runtime = build(load_settings(self.home.environ))
        try:
            carry(runtime, job_id, "w1")
        finally:
            runtime.connections.close()
            runtime.database.dispose()
        return dict(self.home.ask("jobs", "show", job_id))

    def weekly(self) -> dict[str, Any]:
        """What is known of the schedule."""
        return next(row for row in self.home.ask("schedules", "list") if row["name"] == "weekly")

    def delivered(self, name: str = "etl") -> dict[str, str]:
        """What the consumer finds."""
        return dict(json.loads((self.folder / f"{name}.json").read_text()))


@pytest.fixture
def place(home: Home, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    """A key called etl, in its sink."""
    with Sandbox() as sandbox:
        admin = sandbox.keyring.add_key(owner="revoq", admin=True)
        home.environ["RING_TOKEN"] = admin.secret
        monkeypatch.setenv("RING_TOKEN", admin.secret)
        home.environ["REVOQ_CONFIG"] = str(home.folder / "revoq.yaml")
        folder = home.folder / "sink"
        folder.mkdir()
        connection = {
            "provider": "keyring",
            "base_url": sandbox.url("keyring"),
            "identity": {"token": "env:RING_TOKEN"},
        }
        home.write_config(
            rules_path=[str(SANDBOX_RULES)],
            connections={"ring": connection},
            sinks={"files": {"kind": "file", "path": f"{folder}/{{name}}.json"}},
            schedules={"weekly": WEEKLY, "looking": {**WEEKLY, "intent": "probe", "sinks": []}},
        )
        key = sandbox.keyring.add_key(owner="data", name="etl")
        (folder / "etl.json").write_text(json.dumps({"id": key.id, "key": key.secret}))
        yield Place(home, sandbox, folder, key)


def test_a_dry_run_reads_looks_at_the_sink_and_changes_nothing(place: Place) -> None:
    """What was read, what the sink holds, and what would be issued, delivered and retired."""
    found = place.home.ask(*ROTATE, "--target", "etl", "--dry-run")

    assert (found["would"], found["sinks"]) == ("act", ["files"])
    assert [read["purpose"] for read in found["reads"]] == ["read", "preflight", "before", "list"]
    assert [(step["purpose"], step["mutating"]) for step in found["requests"]] == [
        ("issue", True),
        ("test", False),
        ("deliver", True),
        ("read_back", False),
        ("used", False),
        ("act", True),
        ("after", False),
    ]
    assert place.sandbox.mutations() == []
    assert place.delivered()["key"] == place.key.secret
    assert place.home.ask("jobs", "list") == []


def test_a_dry_run_names_what_is_not_known_yet(place: Place) -> None:
    """No step is told as a mistake of the rule that only waits for the one before it."""
    told = place.home.run(*ROTATE, "--target", "etl", "--dry-run").output

    assert "into files" in told
    assert "it needs NEW_KEY, which a step before it brings" in told
    assert place.key.secret not in told


@pytest.mark.parametrize("by", ["name", "id", "variable"])
def test_the_target_is_named_by_its_name_its_id_or_the_variable(place: Place, by: str) -> None:
    """All three mean the same target, so the second and the third join the first."""
    first = place.submit(*ROTATE, "--var", f"KEY_ID={place.key.id}")
    words = {
        "name": ("--target", "etl"),
        "id": ("--target", place.key.id),
        "variable": ("--var", f"KEY_ID={place.key.id}"),
    }

    assert place.home.ask(*ROTATE, *words[by]) == {"job": first, "joined": True, "rung": True}


def test_whoever_hands_its_key_in_means_the_same_target(place: Place) -> None:
    """Two rotations of one target at once would be one too many."""
    first = place.submit(*ROTATE, "--target", "etl")

    joined = place.home.ask(*ROTATE, "--target", "etl", stdin=place.key.secret)

    assert (joined["job"], joined["joined"]) == (first, True)


def test_a_name_that_two_have_is_refused_with_their_ids(place: Place) -> None:
    """And so is one that nobody has, or a target that is named twice; nothing is submitted."""
    other = place.sandbox.keyring.add_key(owner="data", name="etl")

    two = place.home.run(*ROTATE, "--target", "etl")
    none = place.home.run(*ROTATE, "--target", "elt")
    twice = place.home.run(*ROTATE, "--target", "etl", "--var", f"KEY_ID={other.id}")

    assert [result.exit_code for result in (two, none, twice)] == [2, 2, 2]
    assert place.key.id in two.stderr
    assert other.id in two.stderr
    assert "revoq credentials list" in none.stderr
    assert "give one of them" in twice.stderr
    assert place.home.ask("jobs", "list") == []


def test_a_sink_is_needed_and_has_to_be_known(place: Place) -> None:
    """Said before anything is written."""
    without = place.home.run(*ROTATE[:-2], "--target", "etl")
    unknown = place.home.run(*ROTATE[:-1], "fils", "--target", "etl")

    assert (without.exit_code, unknown.exit_code) == (2, 2)
    assert "--sink" in without.stderr
    assert "files" in unknown.stderr


def test_the_story_and_the_history_tell_the_stages(place: Place) -> None:
    """Whoever holds the old or the new key learns which of the two it is."""
    job_id = place.submit(*ROTATE, "--target", "etl", "--reason", "a week has passed")
    job = place.carry(job_id)
    new = place.delivered()

    assert (job["verdict"], job["sinks"], job["to_come"]) == ("rotated", ["files"], [])
    stages = {key["provider_id"]: key["stage"] for key in job["keys"]}
    assert stages == {place.key.id: "retired", new["id"]: "current"}
    assert f"Key {new['id']} is CURRENT" in place.home.run("jobs", "show", job_id).output
    for secret, stage in ((place.key.secret, "RETIRED"), (new["key"], "CURRENT")):
        assert f"is {stage} since" in place.home.run("history", stdin=secret).output
        (line,) = place.home.ask("history", stdin=secret)
        assert (line["id"], line["key"]["stage"]) == (job_id, stage.lower())


def test_a_retry_goes_on_with_the_key_that_was_made(place: Place) -> None:
    """The story says what is still to come, and the second drive does that alone."""
    place.sandbox.switch("keyring", born_dead=True)
    job_id = place.submit(*ROTATE, "--target", "etl")
    parked = place.carry(job_id)
    (new,) = (key for key in place.sandbox.keyring.keys.values() if job_id in key.name)

    assert (parked["reason"], parked["keys"][0]["stage"]) == ("provider_broken", "pending")
    assert parked["to_come"][:2] == ["test", "deliver to files"]
    assert "Still to come: test, deliver to files" in place.home.run("jobs", "show", job_id).output

    new.revoked = None
    place.home.run("jobs", "retry", job_id)

    assert place.carry(job_id)["verdict"] == "rotated"
    assert place.delivered() == {"id": new.id, "key": new.secret}
    assert len(place.sandbox.calls("keyring", "POST")) == 1


def test_issue_puts_a_new_key_into_its_sink_and_shows_it_to_nobody(place: Place) -> None:
    """Neither the receipt nor the story nor the trail holds it; a sink that holds a key already is left alone."""
    words = ("--var", "NAME=new", "--var", "OWNER=data")
    job_id = place.submit(*ISSUE, *words)

    assert place.carry(job_id)["verdict"] == "issued"
    new = place.delivered("new")
    assert place.sandbox.alive("keyring", new["id"])
    for told in (("jobs", "show", job_id), ("audit", "list", "--job", job_id)):
        assert new["key"] not in place.home.run(*told).output
    assert place.carry(place.submit(*ISSUE, *words))["reason"] == "sink_failed"


# ── a schedule's targets ──────────────────────────────────────────────────────────────────────────────────────────────


@contextmanager
def clock(home: Home, schedule: str) -> Iterator[None]:
    """Do in another thread what the clock and a worker do, until the block ends."""
    over = threading.Event()

    def tick() -> None:
        runtime = build(load_settings(home.environ))
        try:
            while not over.wait(0.2):
                for job in advance(runtime, runtime.settings.schedules[schedule]):
                    carry(runtime, job, "w1")
        finally:
            runtime.connections.close()
            runtime.database.dispose()
            hang_up()

    thread = threading.Thread(target=tick)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def test_a_dry_run_of_a_schedule_says_whom_it_would_rotate(place: Place) -> None:
    """The same as `schedules run` says; nothing is written down."""
    told = place.home.ask("rotate", "--schedule", "weekly", "--dry-run")

    would = {row["name"]: row["would"] for row in told["targets"] if row["would"] != "skipped"}
    assert (told["schedule"], would) == ("weekly", {"etl": "rotate"})
    assert place.weekly()["last"] is None
    assert place.sandbox.mutations("keyring") == []


def test_a_slot_of_a_schedule_by_hand_is_followed_to_its_end(place: Place) -> None:
    """The clock rotates every target that the schedule means, and how each ended is told."""
    before = place.delivered()
    with clock(place.home, "weekly"):
        done = place.home.shell("rotate", "--schedule", "weekly", "--wait", "--format", "json")

    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert (told["schedule"], told["state"]) == ("weekly", "done")
    assert [(row["name"], row["state"]) for row in told["targets"] if row["job"]] == [("etl", "well")]
    assert place.delivered() != before
    assert place.sandbox.works("keyring", place.delivered()["key"])


def test_a_slot_by_hand_ends_with_the_code_of_what_needs_a_person(place: Place) -> None:
    """One target has no sink that is ready; the table names it and its job."""
    place.sandbox.keyring.add_key(owner="data", name="lost")
    (place.folder / "lost.json").write_text(json.dumps({"id": "another", "key": "kr_another"}))
    with clock(place.home, "weekly"):
        done = place.home.shell("rotate", "--schedule", "weekly", "--wait")

    assert done.returncode == 3, done.stderr
    assert "lost" in done.stdout
    assert "It meant 2 of the" in done.stdout


def test_a_slot_that_no_clock_begins_is_not_finished(place: Place) -> None:
    """The wait runs out; the slot is in the ledger."""
    done = place.home.shell("rotate", "--schedule", "weekly", "--wait", "--timeout", "1s")

    assert done.returncode == 6, done.stderr
    assert place.weekly()["state"] == "open"


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--schedule", "weekly", "--sink", "files"), "take the other options out"),
        (("--schedule", "weekly", "--dry-run", "--wait"), "there is none to --wait for"),
        (("--schedule", "looking"), "looking is for probe, not for rotate: revoq schedules run looking"),
        (("--schedule", "weakly"), "did you mean weekly?"),
        (("--rule", "keyring.service"), "where the new key goes with --sink"),
    ],
)
def test_what_does_not_go_together_is_said(place: Place, words: tuple[str, ...], says: str) -> None:
    """Nothing is opened."""
    done = place.home.run("rotate", *words)

    assert (done.exit_code, says in done.stderr) == (2, True), done.stderr
    assert place.weekly()["last"] is None
