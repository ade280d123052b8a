"""Rotations at the pretend keyring, side by side and in place, each delivered to a file: what is asked, in which order,
and that a key is never lost, whichever answer is.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from rules.lifecycle import Intent, Reason, Stage, State, Verdict
from rules.secret import Secret
from tests.sandbox import Sandbox
from tests.sandbox.keyring import Key
from tests.worker.bench import Bench, open_bench
from worker.ledger import moves, reads
from worker.ledger.rows import Job


class Rotating:
    """A bench with a key that a file sink holds, and what is to be seen of both."""

    def __init__(self, bench: Bench, folder: Path) -> None:
        self.bench, self.folder = bench, folder
        self.ring = bench.sandbox.keyring
        self.key = self.ring.add_key(owner="etl", name="etl")
        self.deliver(self.key)

    @property
    def file(self) -> Path:
        """Where the key of the target is delivered."""
        return self.folder / "etl.json"

    @property
    def delivered(self) -> dict[str, str]:
        """The record that the consumer finds."""
        found: dict[str, str] = json.loads(self.file.read_text())
        return found

    def deliver(self, key: Key) -> None:
        """Put a key there, as if it had been delivered before."""
        self.file.write_text(json.dumps({"id": key.id, "key": key.secret}))

    def rotate(self, rule: str, **options: Any) -> Job:
        """Rotate the key, and carry the job to its end."""
        return self.bench.run(
            rule,
            connection="keyring-demo",
            intent=Intent.ROTATE,
            variables={"KEY_ID": self.key.id},
            sinks=options.pop("sinks", ("files",)),
            **options,
        )

    @property
    def living(self) -> list[Key]:
        """The keys of this consumer that work."""
        return [key for key in self.ring.keys.values() if key.owner == "etl" and key.revoked is None]

    def works(self, secret: str) -> bool:
        """Whether a secret is that of a key that works."""
        key = self.ring.by_secret.get(secret)
        return key is not None and key.revoked is None

    def stage(self, secret: str, rule: str) -> Stage | None:
        """The stage that the ledger gives to a key."""
        fingerprint = self.bench.runtime.safe.fingerprint(Secret(secret))
        found = reads.find_credential(self.bench.runtime.database, fingerprint, rule, "keyring-demo")
        return None if found is None else found.stage


@pytest.fixture
def rotating(tmp_path: Path, database_url: str, sandbox: Sandbox, connected: Mapping[str, Any]) -> Iterator[Rotating]:
    """A key in a file, on both databases."""
    folder = tmp_path / "sink"
    folder.mkdir()
    sinks = {"files": {"kind": "file", "path": f"{folder}/{{name}}.json"}}
    with open_bench(tmp_path, database_url, sandbox, connections=connected, settings={"sinks": sinks}) as bench:
        yield Rotating(bench, folder)


def test_a_second_key_takes_the_place_of_the_first(rotating: Rotating) -> None:
    """Every step in its order; at the end one key lives, and the ledger knows both."""
    old = rotating.key.secret
    job = rotating.rotate("keyring.service")
    assert (job.state, job.verdict) == (State.DONE, Verdict.ROTATED), job.says
    new = rotating.delivered["key"]
    assert rotating.works(new)
    assert not rotating.works(old)
    assert [key.secret for key in rotating.living] == [new]
    assert rotating.stage(new, "keyring.service") is Stage.CURRENT
    assert rotating.stage(old, "keyring.service") is Stage.RETIRED
    assert [(purpose, outcome) for purpose, _, outcome in rotating.bench.outline(job)] == [
        ("read", "ok"),
        ("preflight", "ok"),
        ("before", "alive"),
        ("list", "ok"),
        ("issue", "ok"),
        ("test", "alive"),
        ("deliver", "ok"),
        ("read_back", "ok"),
        ("promote", "ok"),
        ("pause", "ok"),
        ("used", "ok"),
        ("act", "ok"),
        ("after", "dead"),
    ]


def test_in_place_the_old_key_dies_as_the_new_one_is_made(rotating: Rotating) -> None:
    """Nothing is retired, and that the old key is dead is proved all the same."""
    old = rotating.key.secret
    job = rotating.rotate("keyring.rolled")
    assert (job.state, job.verdict) == (State.DONE, Verdict.ROTATED), job.says
    assert rotating.delivered == {"id": rotating.key.id, "key": rotating.key.secret}
    assert not rotating.works(old)
    assert rotating.stage(old, "keyring.rolled") is Stage.RETIRED


# ── answers that never came ───────────────────────────────────────────────────────────────────────────────────────


def only_the_delivered_key_lives(rotating: Rotating, job: Job) -> None:
    """Whatever happened on the way: one key, and it is where its consumer looks."""
    assert (job.state, job.verdict) == (State.DONE, Verdict.ROTATED), job.says
    assert [key.secret for key in rotating.living] == [rotating.delivered["key"]]


def test_a_key_whose_answer_was_lost_is_deleted_and_another_one_is_made(rotating: Rotating) -> None:
    """The provider had made it, and nobody will ever hold it."""
    rotating.bench.sandbox.fault("keyring", "drop_after", method="POST")
    job = rotating.rotate("keyring.service")
    only_the_delivered_key_lives(rotating, job)
    made = [purpose for purpose, _, _ in rotating.bench.outline(job)]
    assert (made.count("issue"), made.count("discard")) == (2, 1)


def test_a_request_that_never_arrived_leaves_nothing_to_delete(rotating: Rotating) -> None:
    """The list shows nothing new, twice."""
    rotating.bench.sandbox.fault("keyring", "drop_before", method="POST")
    job = rotating.rotate("keyring.service")
    only_the_delivered_key_lives(rotating, job)
    assert "discard" not in [purpose for purpose, _, _ in rotating.bench.outline(job)]


def test_a_lost_deletion_is_asked_after(rotating: Rotating) -> None:
    """Of the key that nobody holds, and of the old one."""
    rotating.bench.sandbox.fault("keyring", "drop_after", method="POST")
    rotating.bench.sandbox.fault("keyring", "drop_after", method="DELETE", times=2)
    only_the_delivered_key_lives(rotating, rotating.rotate("keyring.service"))


@pytest.mark.parametrize("fault", ["drop_after", "drop_before"])
def test_in_place_the_old_key_tells_what_a_lost_answer_meant(rotating: Rotating, fault: str) -> None:
    """Dead: a new key is lost, and another one is made at once. Alive: nothing was done."""
    rotating.bench.sandbox.fault("keyring", fault, method="POST")
    only_the_delivered_key_lives(rotating, rotating.rotate("keyring.rolled"))


# ── sinks ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("rule", ["keyring.service", "keyring.rolled"])
def test_nothing_is_issued_while_the_sink_holds_another_key(rotating: Rotating, rule: str) -> None:
    """What its consumer uses is not the key that was to be rotated."""
    other = rotating.ring.add_key(owner="other", name="other")
    rotating.deliver(other)
    job = rotating.rotate(rule)
    assert (job.state, job.reason) == (State.PARKED, Reason.SINK_FAILED)
    assert rotating.works(rotating.key.secret)
    assert not rotating.bench.sandbox.calls("keyring", "POST")


def test_in_place_an_empty_sink_would_be_an_outage(rotating: Rotating) -> None:
    """Nobody knows where its consumer has the old key from."""
    rotating.file.unlink()
    job = rotating.rotate("keyring.rolled")
    assert (job.state, job.reason) == (State.PARKED, Reason.SINK_FAILED)
    assert not rotating.bench.sandbox.calls("keyring", "POST")


def test_side_by_side_an_empty_sink_is_a_first_delivery(rotating: Rotating) -> None:
    """The old key lives until it is retired, so nothing can break."""
    rotating.file.unlink()
    only_the_delivered_key_lives(rotating, rotating.rotate("keyring.service"))


def test_a_delivery_that_fails_keeps_the_new_key_sealed_and_goes_on_from_there(rotating: Rotating) -> None:
    """The folder is taken away between the look at it and the delivery."""
    bench = rotating.bench
    aside = rotating.folder.with_name("aside")

    def take_away() -> None:
        while not bench.sandbox.calls("keyring", "POST"):
            time.sleep(0.01)
        rotating.folder.rename(aside)

    bench.sandbox.fault("keyring", "delay_after", method="POST", seconds=0.5)
    thief = threading.Thread(target=take_away)
    thief.start()
    job = rotating.rotate("keyring.service")
    thief.join()
    assert (job.state, job.reason) == (State.PARKED, Reason.SINK_FAILED)
    assert len(rotating.living) == 2
    aside.rename(rotating.folder)
    moves.retry(bench.runtime.database, job.id, actor="tester", why="the folder is back")
    only_the_delivered_key_lives(rotating, bench.carry(job.id, rounds=20))
    assert len(bench.sandbox.calls("keyring", "POST")) == 1


def test_a_new_key_that_does_not_work_is_not_delivered(rotating: Rotating) -> None:
    """The old one stays where it is, and works."""
    rotating.bench.sandbox.switch("keyring", born_dead=True)
    job = rotating.rotate("keyring.service")
    assert (job.state, job.reason) == (State.PARKED, Reason.PROVIDER_BROKEN)
    assert rotating.delivered["key"] == rotating.key.secret
    assert rotating.works(rotating.key.secret)


def test_an_old_key_that_is_still_used_is_not_retired(rotating: Rotating) -> None:
    """It was used in the grace period: somebody has not taken up the new one."""
    job_id = rotating.bench.submit(
        "keyring.service",
        connection="keyring-demo",
        intent=Intent.ROTATE,
        variables={"KEY_ID": rotating.key.id},
        sinks=("files",),
        grace=12.0,
    )
    job = rotating.bench.carry(job_id)
    assert job.state is State.WAITING
    rotating.bench.sandbox.advance(seconds=5)
    rotating.key.last_used = rotating.bench.sandbox.clock.now() + 5
    job = rotating.bench.carry(job_id, rounds=5)
    assert (job.state, job.reason) == (State.PARKED, Reason.STILL_IN_USE)
    assert rotating.works(rotating.key.secret)
    assert rotating.works(rotating.delivered["key"])


def test_before_the_old_key_is_retired_it_can_be_put_back(rotating: Rotating) -> None:
    """In the grace period both work: the file holds the old key again, and the new one is deleted and proved dead."""
    bench, old = rotating.bench, rotating.key
    variables = {"KEY_ID": old.id}
    job_id = bench.submit(
        "keyring.service",
        connection="keyring-demo",
        intent=Intent.ROTATE,
        variables=variables,
        sinks=("files",),
        grace=60.0,
    )
    assert bench.carry(job_id).state is State.WAITING
    new = rotating.delivered["key"]

    moves.roll_back(bench.runtime.database, job_id, actor="tester", why="its consumer cannot take it up")
    job = bench.carry(job_id)

    assert (job.state, job.verdict) == (State.DONE, Verdict.ROLLED_BACK), job.says
    assert rotating.delivered == {"id": old.id, "key": old.secret}
    assert [key.secret for key in rotating.living] == [old.secret]
    assert rotating.stage(old.secret, "keyring.service") is Stage.CURRENT
    assert rotating.stage(new, "keyring.service") is Stage.RETIRED


def test_an_old_key_that_is_still_used_can_be_put_back(rotating: Rotating) -> None:
    """Whoever uses it goes on; the job was parked, and a person turned it round."""
    bench = rotating.bench
    job_id = bench.submit(
        "keyring.service",
        connection="keyring-demo",
        intent=Intent.ROTATE,
        variables={"KEY_ID": rotating.key.id},
        sinks=("files",),
        grace=12.0,
    )
    bench.carry(job_id)
    rotating.key.last_used = bench.sandbox.clock.now() + 5
    assert bench.carry(job_id, rounds=5).reason == Reason.STILL_IN_USE

    moves.roll_back(bench.runtime.database, job_id, actor="tester", why="its consumer cannot take it up")
    job = bench.carry(job_id)

    assert job.verdict is Verdict.ROLLED_BACK, job.says
    assert [key.secret for key in rotating.living] == [rotating.delivered["key"]] == [rotating.key.secret]


def test_a_target_that_is_not_what_was_asked_for_is_refused(rotating: Rotating) -> None:
    """Before anything is issued."""
    rotating.key.revoked = 1.0
    job = rotating.rotate("keyring.service")
    assert (job.state, job.reason) == (State.PARKED, Reason.NOT_RECOGNISED)
    assert not rotating.bench.sandbox.calls("keyring", "POST")


def test_a_sink_that_cannot_be_read_leaves_the_old_key_alone_and_the_new_one_sealed(
    tmp_path: Path, sqlite_url: str, sandbox: Sandbox, connected: Mapping[str, Any]
) -> None:
    """A program took it, and nobody can say what it did with it: delivered, unconfirmed."""
    taken = tmp_path / "taken.json"
    program = tmp_path / "take"
    program.write_text(f"#!/bin/sh\ncat > {taken}\n")
    program.chmod(0o700)
    chosen = {
        "sinks": {"blind": {"kind": "command", "run": [str(program)]}},
        "commands_allowed": [str(program)],
    }
    (tmp_path / "sink").mkdir()
    with open_bench(tmp_path, sqlite_url, sandbox, connections=connected, settings=chosen) as bench:
        rotating = Rotating(bench, tmp_path / "sink")
        job = rotating.rotate("keyring.service", sinks=("blind",))
        assert job.verdict is Verdict.DELIVERED_UNCONFIRMED, job.says
        assert rotating.works(json.loads(taken.read_text())["key"])
        assert rotating.works(rotating.key.secret)
        assert all(row.ciphertext is not None for row in reads.secrets_of(bench.runtime.database, job.id))


def test_issue_is_the_first_half_alone(rotating: Rotating) -> None:
    """A key for something that has none; what a sink holds is not written over."""
    rotating.file.unlink()
    job = rotating.bench.run(
        "keyring.service",
        connection="keyring-demo",
        intent=Intent.ISSUE,
        variables={"NAME": "etl", "OWNER": "etl"},
        sinks=("files",),
    )
    assert (job.state, job.verdict) == (State.DONE, Verdict.ISSUED), job.says
    assert rotating.works(rotating.delivered["key"])
    again = rotating.bench.run(
        "keyring.service",
        connection="keyring-demo",
        intent=Intent.ISSUE,
        variables={"NAME": "etl", "OWNER": "etl"},
        sinks=("files",),
    )
    assert (again.state, again.reason) == (State.PARKED, Reason.SINK_FAILED)
