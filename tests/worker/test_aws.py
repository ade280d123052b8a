"""AWS against a moto server: deactivated on its listed status, deleted on a dead probe, and no other key touched."""

from __future__ import annotations

import logging
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import update

from rules.errors import MoveRefused
from rules.lifecycle import Intent, Reason, Verdict
from rules.recheck import Found
from scheduler.recheck import start_due
from scheduler.restore import reopen
from tests.sandbox import Sandbox
from tests.servers.moto import Key, Moto
from tests.worker.bench import Bench, open_bench
from worker import amazon
from worker.ledger import audit, reads, rechecks, tables
from worker.ledger.rows import Job

ROOT = Path(__file__).parents[2]
KINGFISHER = """
rules:
  - name: AWS secret, as Kingfisher writes it
    id: aws.as_kingfisher
    pattern: '\\b([A-Za-z0-9/+]{40})\\b'
    validation: {type: AWS}
    revocation: {type: AWS}
    depends_on_rule:
      - {rule_id: aws.key_id, variable: AKID}
"""


@pytest.fixture
def keys(moto: Moto) -> list[Key]:
    """Ann's two keys and Bob's one, with the administrator's key at the front; from here on signatures count."""
    for user in ("admin", "ann", "bob"):
        moto.add_user(user)
    made = [moto.add_key("admin"), moto.add_key("ann"), moto.add_key("ann"), moto.add_key("bob")]
    moto.demand_signatures()
    return made


@pytest.fixture
def aws(
    tmp_path: Path, sqlite_url: str, sandbox: Sandbox, moto: Moto, keys: list[Key], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Bench]:
    """A runtime with a connection that signs, and one that only knows where AWS is."""
    monkeypatch.setenv("TEST_AWS_SECRET", keys[0].secret)
    identity = {"access_key_id": keys[0].id, "secret_access_key": "env:TEST_AWS_SECRET"}
    connections = {
        "aws": {"provider": "aws", "base_url": moto.url, "identity": identity},
        "bare": {"provider": "aws", "base_url": moto.url},
    }
    (tmp_path / "kingfisher.yml").write_text(KINGFISHER)
    settings = {"retry_for": "5s", "rules_path": [str(tmp_path / "kingfisher.yml")]}
    with open_bench(tmp_path, sqlite_url, sandbox, connections=connections, settings=settings) as bench:
        yield bench


def statuses(moto: Moto, keys: list[Key]) -> list[str | None]:
    """How each key is listed, asked by the administrator."""
    return [moto.status_of(key, keys[0]) for key in keys]


def test_a_key_is_deactivated_on_its_listed_status(aws: Bench, moto: Moto, keys: list[Key]) -> None:
    """The verdict is `disabled`, the owner is found out, the other keys stay as they are, and no secret is kept."""
    target = keys[2]

    job = aws.run("aws.access_key", target.secret, "aws", variables={"AKID": target.id})

    assert job.verdict is Verdict.DISABLED
    assert statuses(moto, keys) == ["Active", "Active", "Inactive", "Active"]
    assert aws.outline(job)[-3:] == [
        ("act", "deactivate", "ok"),
        ("after", "disabled", "disabled"),
        ("after", "disabled", "disabled"),
    ]
    assert target.secret not in repr(aws.steps(job))
    assert keys[0].secret not in repr(aws.steps(job))


def test_a_second_run_changes_nothing(aws: Bench, moto: Moto, keys: list[Key]) -> None:
    """A key that is disabled already is told to be, without another request that changes something."""
    target = keys[1]
    aws.run("aws.access_key", target.secret, "aws", variables={"AKID": target.id})

    again = aws.run("aws.access_key", target.secret, "aws", variables={"AKID": target.id})

    assert again.verdict is Verdict.DISABLED
    assert "already" in (again.says or "")
    assert [step.name for step in aws.steps(again) if step.mutating] == []


def test_a_key_is_deleted_where_that_is_asked_for(aws: Bench, moto: Moto, keys: list[Key]) -> None:
    """Deactivated, then deleted, then dead by its own probe."""
    target = keys[2]

    job = aws.run("aws.access_key", target.secret, "aws", variables={"AKID": target.id, "DELETE": "yes"})

    assert job.verdict is Verdict.REVOKED
    assert statuses(moto, keys) == ["Active", "Active", None, "Active"]
    assert aws.outline(job)[-1] == ("after", "probe", "dead")


def test_a_key_deletes_itself_without_a_connection_that_signs(aws: Bench, moto: Moto, keys: list[Key]) -> None:
    """With its own rights, and no user named: AWS takes the caller's."""
    target = keys[3]

    job = aws.run("aws.access_key", target.secret, "bare", variables={"AKID": target.id, "DELETE": "yes"})

    assert job.verdict is Verdict.REVOKED
    assert statuses(moto, keys) == ["Active", "Active", "Active", None]


def test_our_own_key_is_never_acted_on(aws: Bench, moto: Moto, keys: list[Key]) -> None:
    """The key that the connection signs with is protected, by its id and by its secret."""
    job = aws.run("aws.access_key", keys[0].secret, "aws", variables={"AKID": keys[0].id})

    assert job.reason == Reason.PROTECTED
    assert statuses(moto, keys) == ["Active"] * 4


def test_a_key_of_another_account_is_not_recognised(aws: Bench, moto: Moto, keys: list[Key]) -> None:
    """InvalidClientTokenId is no proof of death for a key that this account never knew."""
    job = aws.run("aws.access_key", "x" * 40, "aws", variables={"AKID": "AKIAQ2W3E4R5T6Y7U8I9"})

    assert job.reason == Reason.NOT_RECOGNISED
    assert statuses(moto, keys) == ["Active"] * 4


def test_nobody_listens(tmp_path: Path, sqlite_url: str, sandbox: Sandbox, caplog: pytest.LogCaptureFixture) -> None:
    """A refused connection is no answer; the job gives up in time, and boto3 logs nothing of the secret."""
    caplog.set_level(logging.WARNING)
    connections = {"bare": {"provider": "aws", "base_url": "http://127.0.0.1:9"}}
    with open_bench(tmp_path, sqlite_url, sandbox, connections=connections, settings={"retry_for": "1s"}) as bench:
        job = bench.run("aws.access_key", "s" * 40, "bare", variables={"AKID": "AKIAQ2W3E4R5T6Y7U8I9"})

    assert job.reason == Reason.BUDGET_SPENT
    assert "s" * 40 not in caplog.text


def test_kingfishers_own_rule_deactivates_by_the_key_itself(aws: Bench, moto: Moto, keys: list[Key]) -> None:
    """`type: AWS` means what it means there, and is proved by the list of the user's own keys."""
    target = keys[1]

    job = aws.run("aws.as_kingfisher", target.secret, "bare", variables={"AKID": target.id})

    assert job.verdict is Verdict.DISABLED
    assert statuses(moto, keys) == ["Active", "Inactive", "Active", "Active"]


def test_what_this_machine_says_about_aws_does_not_count(
    aws: Bench, moto: Moto, keys: list[Key], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Variables and files that are meant for other tools choose no key, no endpoint and no profile of ours."""
    amazon._session.cache_clear()  # noqa: SLF001 - as a process that has just started
    with monkeypatch.context() as machine:
        machine.setenv("AWS_ACCESS_KEY_ID", "AKIAFROMTHEMACHINE00")
        machine.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
        machine.setenv("AWS_PROFILE", "nobody")
        machine.setenv("AWS_MAX_ATTEMPTS", "9")
        machine.setenv("HTTP_PROXY", "http://127.0.0.1:9")
        job = aws.run("aws.access_key", keys[2].secret, "aws", variables={"AKID": keys[2].id})

    assert job.verdict is Verdict.DISABLED
    assert statuses(moto, keys) == ["Active", "Active", "Inactive", "Active"]


def test_a_deactivated_key_is_activated_again(aws: Bench, moto: Moto, keys: list[Key]) -> None:
    """The rule's restoration, carried as a job: the verdict is `restored`, on a probe that says alive."""
    target = keys[2]
    variables = {"AKID": target.id}
    assert aws.run("aws.access_key", target.secret, "aws", variables=variables).verdict is Verdict.DISABLED

    job = aws.run("aws.access_key", target.secret, "aws", variables=variables, intent=Intent.RESTORE)

    assert job.verdict is Verdict.RESTORED
    assert statuses(moto, keys) == ["Active"] * 4


def test_without_the_extra_the_order_is_refused_in_a_sentence() -> None:
    """boto3 is optional: everything else works without it, and whoever asks for AWS is told what to install."""
    script = """
import sys
sys.modules["boto3"] = None
from worker import steps
from rules.lifecycle import Intent
from rules.loader import builtin, load
from rules.planning import plan
from worker.settings import Settings
rules = load([builtin()])
for name, given in (("aws.access_key", {"AKID", "TOKEN"}), ("sendgrid.api_key", {"TOKEN"})):
    loaded = rules.get(name)
    print(steps.refuse(plan(loaded, Intent.REVOKE, given), loaded.rule, Settings()))
"""

    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)

    refused, other = done.stdout.splitlines()
    assert "boto3, which is not installed: pip install 'revoq[aws]'" in refused
    assert other == "None"


# ── the restoration that a person orders ──────────────────────────────────────────────────────────────────────────


def disable(aws: Bench, key: Key, **options: Any) -> Job:
    """A key that a job has disabled."""
    job = aws.run("aws.access_key", key.secret, "aws", variables={"AKID": key.id}, **options)
    assert job.verdict is Verdict.DISABLED
    return job


def test_what_was_disabled_is_restored_from_its_job_alone(aws: Bench, moto: Moto, keys: list[Key]) -> None:
    """Nothing is handed in again: it works, both trails tell it, and nobody looks for it to be dead any more."""
    job = disable(aws, keys[2])
    database = aws.runtime.database
    assert [row.found for row in rechecks.of_job(database, job.id)] == [None] * 3

    ordered = reopen(aws.runtime, job.id, requester="ann", why="the wrong Tuesday")
    restored = aws.carry(ordered.job_id, rounds=9)

    assert (restored.verdict, restored.parent, restored.cause) == (Verdict.RESTORED, job.id, "the wrong Tuesday")
    assert statuses(moto, keys) == ["Active"] * 4
    told = [row.facts for row in reads.audit_rows(database, job.id, 100)][-1]
    assert (told["event"], told["restored_by"], told["actor"]) == ("restoration ordered", restored.id, "ann")
    assert [row.found for row in rechecks.of_job(database, job.id)] == [Found.STOPPED] * 3
    assert rechecks.kept_secrets(database, job.credential) == []
    with database.read() as connection:
        assert list(audit.verify(connection)) == []


def test_what_got_about_is_not_restored_by_accident(aws: Bench, moto: Moto, keys: list[Key]) -> None:
    """Where the reason says that it leaked, restoring it is refused; going past that is said, and kept."""
    job = disable(aws, keys[2], cause="leaked in a build log")

    with pytest.raises(MoveRefused, match="--although-leaked"):
        reopen(aws.runtime, job.id, requester="ann", why="they need it")
    assert reads.jobs(aws.runtime.database, intent=Intent.RESTORE) == []

    ordered = reopen(aws.runtime, job.id, requester="ann", why="they need it", although_leaked=True)
    restored = aws.carry(ordered.job_id, rounds=9)

    assert restored.verdict is Verdict.RESTORED
    assert restored.options["although_leaked"]


def test_only_what_is_disabled_can_be_restored(aws: Bench, moto: Moto, keys: list[Key]) -> None:
    """What was deleted since, and what is no ended revocation, is refused in a sentence."""
    job = disable(aws, keys[2])
    gone = aws.run("aws.access_key", keys[2].secret, "aws", variables={"AKID": keys[2].id, "DELETE": "yes"})
    assert gone.verdict is Verdict.REVOKED

    with pytest.raises(MoveRefused, match="for good"):
        reopen(aws.runtime, job.id, requester="ann", why="oops")
    with pytest.raises(MoveRefused, match="only what was disabled"):
        reopen(aws.runtime, gone.id, requester="ann", why="oops")
    other = disable(aws, keys[1])
    waiting = aws.submit("aws.access_key", keys[1].secret, "aws", variables={"AKID": keys[1].id})
    with pytest.raises(MoveRefused, match=f"{waiting} is queued and revokes the same"):
        reopen(aws.runtime, other.id, requester="ann", why="oops")
    with pytest.raises(MoveRefused, match="no revocation that has ended"):
        reopen(aws.runtime, waiting, requester="ann", why="oops")


def test_what_is_enabled_by_somebody_else_is_an_incident(aws: Bench, moto: Moto, keys: list[Key]) -> None:
    """Disabled is the end that is undone most easily: the first look sees it listed as active."""
    job = disable(aws, keys[2])
    moto.iam(keys[0]).update_access_key(UserName="ann", AccessKeyId=keys[2].id, Status="Active")
    due_now(aws, job)

    (started,) = start_due(aws.runtime)
    look = aws.carry(started, rounds=9)

    assert look.reason == Reason.CAME_BACK
    assert aws.outline(look) == [("before", "disabled", "alive")]


def due_now(bench: Bench, job: Job) -> None:
    """The first look of a job is due."""
    first = (tables.rechecks.c.after == job.id) & (tables.rechecks.c.number == 1)
    with bench.runtime.database.begin() as connection:
        connection.execute(update(tables.rechecks).where(first).values(due=1))
