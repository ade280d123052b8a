"""Jobs are listed and shown with stable keys and as a story, and a person's moves are told or refused."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import partial
from typing import Any

import pytest

from rules.lifecycle import FORCIBLE, Intent, Outcome, Reason, State, Verdict, ending
from rules.recheck import Due, Kind
from tests.scheduler.cli.conftest import CONNECTIONS, TOKEN, Home, Jobs
from worker.ledger import moves, reads, rechecks
from worker.ledger.database import Database
from worker.ledger.rechecks import Watch
from worker.ledger.rows import NewJob

LINE_KEYS = {
    *("id", "intent", "rule", "connection", "state", "verdict", "reason", "says", "drive", "attempt", "queue"),
    *("priority", "requester", "cause", "ticket", "owner", "batch", "parent", "submitted_at", "due_at", "ended_at"),
}
WHOLE_KEYS = LINE_KEYS | {
    *("exit_code", "means", "advice", "credential", "inputs", "options", "steps", "candidates", "secrets"),
    "rechecks",
    *("sinks", "to_come", "keys"),
}
CREDENTIAL_KEYS = {"id", "provider_id", "subject", "expires_at", "first_seen_at", "alive_at", "dead_at"}
STEP_KEYS = {
    *("number", "drive", "name", "purpose", "mutating", "state", "outcome", "says", "method", "url", "taken"),
    *("evidence", "retry_after", "started_at", "ended_at"),
}
CANDIDATES = [
    {"id": "key_1", "shown": {"owner": "erin", "name": "backup\x1b[31m"}},
    {"id": "key_2", "shown": {"owner": "dana"}},
]


def test_listing_keys(home: Home, jobs: Jobs) -> None:
    """A listing is an array, newest first, with exactly the documented keys."""
    first, second = jobs.queued(), jobs.done(Verdict.REVOKED)

    rows = home.ask("jobs", "list")

    assert [row["id"] for row in rows] == [second, first]
    assert all(set(row) == LINE_KEYS for row in rows)
    assert rows[0]["submitted_at"].endswith("Z")
    assert (rows[0]["due_at"], rows[1]["ended_at"]) == (None, None)


def test_listing_filters(home: Home, jobs: Jobs) -> None:
    """Each filter narrows the list."""
    denied = jobs.parked(Reason.DENIED)
    done = jobs.done(Verdict.REVOKED, rule="sendgrid.api_key", connection="")

    def ids(*words: str) -> list[str]:
        return [row["id"] for row in home.ask("jobs", "list", *words)]

    assert ids("--state", "parked") == [denied]
    assert ids("--reason", "denied") == [denied]
    assert ids("--rule", "sendgrid.api_key") == [done]
    assert ids("--connection", "hub") == [denied]
    assert ids("--intent", "probe") == []
    assert ids("--limit", "1") == [done]
    assert ids("--before", done) == [denied]


def test_a_table_fits_eighty_columns(home: Home, jobs: Jobs) -> None:
    """Whatever stands in it, and the ids are whole."""
    job = jobs.parked(Reason.NEEDS_SELECTION, CANDIDATES, rule="a" * 60 + ".b", connection="c" * 60)

    for words in (
        ("jobs", "list"),
        ("jobs", "show", job),
        ("audit", "list"),
        ("rules", "list"),
        ("connections", "list"),
    ):
        result = home.run(*words)
        assert result.exit_code == 0
        assert max(map(len, result.stdout.splitlines())) <= 80
    assert job in home.run("jobs", "list").stdout


def test_a_restoration_is_ordered_or_refused_with_a_sentence(home: Home, jobs: Jobs, db: Database) -> None:
    """What was disabled is; what leaked only if that is said; what has no way back, and what is gone, is not."""
    okta = {"provider": "okta", "base_url": "https://okta.example.com", "identity": {"token": "env:OKTA_TOKEN"}}
    home.write_config(connections={"okta": okta, "hub": CONNECTIONS["hub"]})
    suspended = {"rule": "okta.user_suspension", "connection": "okta", "inputs": {"USER_ID": "00uEXAMPLEexampleEXA"}}
    job = jobs.done(Verdict.DISABLED, cause="phished on Friday", **suspended)

    def restore(job_id: str, *more: str) -> Any:
        return home.shell("jobs", "restore", job_id, "--reason", "back from leave", *more, "--format", "json")

    refused = restore(job)
    assert (refused.returncode, "--although-leaked" in refused.stderr) == (2, True)
    assert reads.jobs(db, intent=Intent.RESTORE) == []

    receipt = json.loads(restore(job, "--although-leaked").stdout)
    ordered = reads.job(db, receipt["job"])
    assert (ordered.intent, ordered.parent, ordered.cause) == (Intent.RESTORE, job, "back from leave")
    assert ordered.inputs == suspended["inputs"]

    gone, deaf = jobs.done(Verdict.REVOKED, **suspended), jobs.done(Verdict.DISABLED)
    assert "only what was disabled" in restore(gone).stderr
    assert "it has no restoration" in restore(deaf).stderr


def test_the_looks_are_told(home: Home, jobs: Jobs, db: Database) -> None:
    """What is to come and what came stand with the job that ended it, and the next one in the history."""
    claim = jobs.claimed(jobs.queued(TOKEN))
    now = db.now()
    watch = Watch((Due(Kind.LOOK, now + 1), Due(Kind.LOOK, now + 10**12)))
    moves.finish(db, claim, Verdict.REVOKED, "dead", rechecks=watch.told, also=partial(watch.begin, job=claim.job))
    (due,) = rechecks.due(db, 10)
    look = jobs.queued(TOKEN, intent=Intent.RECHECK)
    assert rechecks.look(db, due, replace(NEW, fingerprint=fingerprint_of(db, claim.job.credential))) == look

    shown = home.run("jobs", "show", claim.job.id).stdout
    rows = home.ask("jobs", "show", claim.job.id)["rechecks"]

    assert "Looked at again:" in shown
    assert look in shown
    assert [row["job"] for row in rows] == [look, None]
    assert set(rows[0]) == {"number", "kind", "due_at", "found", "job", "incident", "ended_at"}
    assert "Looked at again on" in home.run("history", stdin=TOKEN).stdout


NEW = NewJob(
    fingerprint="",
    fingerprint_key="f1",
    rule="jupyterhub.token",
    connection="hub",
    intent=Intent.RECHECK,
    rule_digest="0" * 64,
    plan={},
    plan_hash="0" * 64,
    queue="bulk",
    requester="the clock",
)


def fingerprint_of(db: Database, credential: str) -> str:
    """What a job of the same credential is submitted with."""
    return reads.credential(db, credential).fingerprint


def taken(db: Database, jobs: Jobs, **options: Any) -> str:
    """A job with one step of evidence, done."""
    claim = jobs.claimed(**options)
    number = moves.intend(
        db,
        claim,
        name="delete",
        purpose="act",
        mutating=True,
        request={"method": "DELETE", "url": "https://hub.example.com/hub/api/users/dana/tokens/a7"},
    )
    evidence = {"status": 204, "matchers": [["StatusMatch", True]], "headers": {"date": "now"}, "digest": "f1:abc"}
    moves.record(db, claim, number, outcome=Outcome.OK, says="DELETE … answered 204", evidence=evidence)
    moves.finish(db, claim, Verdict.REVOKED, "the hub answered 403")
    return claim.job.id


def test_show_keys(home: Home, jobs: Jobs, db: Database) -> None:
    """All that may be shown, with exactly the documented keys; no envelope, no plan."""
    job = taken(db, jobs, secret=TOKEN, ticket="SEC-1", owner="team-a", cause="leaked")

    shown = home.ask("jobs", "show", job)

    assert set(shown) == WHOLE_KEYS
    assert set(shown["steps"][0]) == STEP_KEYS
    assert set(shown["credential"]) == CREDENTIAL_KEYS
    assert set(shown["secrets"][0]) == {"kind", "sealed_at", "shred_by", "shredded_at"}
    assert (shown["ticket"], shown["owner"], shown["cause"]) == ("SEC-1", "team-a", "leaked")
    assert shown["steps"][0]["evidence"]["status"] == 204
    assert TOKEN not in json.dumps(shown)


def test_show_tells_a_story(home: Home, jobs: Jobs, db: Database) -> None:
    """What was asked and by whom, what was done, with which evidence, and how it ended."""
    job = taken(db, jobs, ticket="SEC-1", owner="team-a", cause="leaked")

    told = " ".join(home.run("jobs", "show", job[4:]).stdout.split())

    assert f"{job}: revoke jupyterhub.token over hub" in told
    assert "Asked by kim@host" in told
    assert "because leaked, ticket SEC-1, owner team-a" in told
    assert "1 act · delete: ok" in told
    assert "DELETE https://hub.example.com/hub/api/users/dana/tokens/a7" in told
    assert "Evidence: status 204, date now, digest f1:abc" in told
    assert f"{job} revoked: revoked, and proved dead" in told


def test_a_parked_job_tells_what_to_type(home: Home, jobs: Jobs) -> None:
    """The candidates, the command that picks one, the command that gives it up; nothing that steers a terminal."""
    job = jobs.parked(Reason.NEEDS_SELECTION, CANDIDATES)

    told = home.run("jobs", "show", job).stdout

    assert "key_1: owner erin, name backup\N{REPLACEMENT CHARACTER}[31m" in told
    assert f"    revoq jobs select {job} CANDIDATE" in told
    assert f"    revoq jobs cancel {job} --reason TEXT" in told
    assert "\x1b" not in told


@pytest.mark.parametrize("reason", list(Reason))
def test_every_reason_has_its_exit_code_and_advice(home: Home, jobs: Jobs, reason: Reason) -> None:
    """As the lifecycle's table says, with this job's own id in the commands."""
    job = jobs.parked(reason)

    shown = home.ask("jobs", "show", job)

    assert shown["exit_code"] == ending(State.PARKED, None, reason).exit_code
    assert "ID" not in shown["advice"].split()
    assert "revoq jobs retry" not in shown["advice"] or f"revoq jobs retry {job}" in shown["advice"]


@pytest.mark.parametrize("verdict", list(Verdict))
def test_every_verdict_has_its_exit_code(home: Home, jobs: Jobs, verdict: Verdict) -> None:
    """As the lifecycle's table says."""
    assert home.ask("jobs", "show", jobs.done(verdict))["exit_code"] == ending(State.DONE, verdict, None).exit_code


def test_a_held_job_is_shown(home: Home, jobs: Jobs, db: Database) -> None:
    """What a job waits for is no reason to be parked."""
    claim = jobs.claimed()
    moves.wait(db, claim, db.now() + 10**9, "everything is held by kim@host: incident", "held")

    shown = home.ask("jobs", "show", claim.job.id)

    assert (shown["state"], shown["reason"], shown["exit_code"]) == ("waiting", "held", 6)
    assert "waiting: held: not finished yet" in " ".join(home.run("jobs", "show", claim.job.id).stdout.split())


# ── a person's moves ──────────────────────────────────────────────────────────────────────────────────────────────────


def test_select_drives_the_job_with_the_candidate(home: Home, jobs: Jobs, db: Database) -> None:
    """The pick is kept, the job is queued again, and a broker that is down is told and stops nothing."""
    job = jobs.parked(Reason.NEEDS_SELECTION, CANDIDATES)

    done = home.shell("jobs", "select", job, "key_2")

    assert done.returncode == 0, done.stderr
    assert "the sweep rings when it is back" in done.stderr
    found = reads.job(db, job)
    assert (found.state, found.options["picked"]) == (State.QUEUED, "key_2")


@pytest.mark.parametrize(("reason", "candidate"), [(Reason.NEEDS_SELECTION, "key_3"), (Reason.DENIED, "key_1")])
def test_select_refuses(home: Home, jobs: Jobs, db: Database, reason: Reason, candidate: str) -> None:
    """A candidate that is none, or a job that has none to pick from, stays as it is."""
    job = jobs.parked(reason, CANDIDATES)

    result = home.run("jobs", "select", job, candidate)

    assert result.exit_code == 2
    assert reads.job(db, job).state is State.PARKED


def test_retry_drives_all_of_a_cause(home: Home, jobs: Jobs, db: Database) -> None:
    """Those that are parked for it, and no others."""
    denied = [jobs.parked(Reason.DENIED), jobs.parked(Reason.DENIED)]
    other = jobs.parked(Reason.STILL_ALIVE)

    done = home.shell("jobs", "retry", "--reason", "denied")

    assert done.returncode == 0, done.stderr
    assert [reads.job(db, job).state for job in denied] == [State.QUEUED, State.QUEUED]
    assert reads.job(db, other).state is State.PARKED
    assert "No job is parked for denied" in home.shell("jobs", "retry", "--reason", "denied").stdout


@pytest.mark.parametrize("reason", sorted(FORCIBLE))
def test_force_names_the_guard_that_gives_way(home: Home, jobs: Jobs, db: Database, reason: Reason) -> None:
    """It is driven again, and its story and its trail say that a person has said so."""
    job = jobs.parked(reason)

    done = home.shell("jobs", "force", job, "--reason", "it leaked")

    assert done.returncode == 0, done.stderr
    assert f"although it was parked as {reason}" in done.stdout
    assert (reads.job(db, job).state, reads.job(db, job).options["forced"]) == (State.QUEUED, reason)
    assert f"although it was parked as {reason}" in home.run("jobs", "show", job).output
    assert reads.audit_rows(db, job, 100)[-1].facts["why"] == "it leaked"


@pytest.mark.parametrize("reason", sorted(set(Reason) - FORCIBLE))
def test_what_cannot_be_forced(home: Home, jobs: Jobs, db: Database, reason: Reason) -> None:
    """Which credential it is, what a lost answer did and what else has to be found out give way to no word."""
    job = jobs.parked(reason)

    result = home.run("jobs", "force", job, "--reason", "please")

    assert result.exit_code == 2
    assert "only what is parked as not_ours or protected can be forced" in result.stderr
    assert reads.job(db, job).state is State.PARKED


def test_one_refusal_stops_no_other(home: Home, jobs: Jobs, db: Database) -> None:
    """Each job that cannot be moved is told; the exit code says that not all was done."""
    over, open_one = jobs.done(Verdict.REVOKED), jobs.queued()

    result = home.run("jobs", "cancel", over, "job_none", open_one, "--reason", "a mistake")

    assert result.exit_code == 2
    assert f"{over} is done" in result.stderr
    assert "there is no job job_none" in result.stderr
    assert f"{open_one} is cancelled" in result.stdout
    assert reads.job(db, open_one).state is State.CANCELLED


def test_what_was_begun_is_not_cancelled(home: Home, jobs: Jobs, db: Database) -> None:
    """After the first request that changes something there is nothing to cancel."""
    claim = jobs.claimed()
    moves.intend(db, claim, name="delete", purpose="act", mutating=True, request={})
    moves.park(db, claim, Reason.OUTCOME_UNKNOWN, "nobody knows")

    result = home.run("jobs", "cancel", claim.job.id, "--reason", "a mistake")

    assert result.exit_code == 2
    assert "can no longer be cancelled" in result.stderr


def test_what_has_no_way_back_is_not_turned_back(home: Home, jobs: Jobs, db: Database) -> None:
    """Only a rotation that keeps the old key has one; the job stays as it is."""
    claim = jobs.claimed()
    moves.park(db, claim, Reason.OUTCOME_UNKNOWN, "nobody knows")

    result = home.run("jobs", "rollback", claim.job.id, "--reason", "the new key does not do")

    assert result.exit_code == 2
    assert "has no way back" in result.stderr
    assert reads.job(db, claim.job.id).state is State.PARKED
