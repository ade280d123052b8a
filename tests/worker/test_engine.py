"""The engine against pretend providers that misbehave as the real ones do; each job is carried by plain calls."""

from __future__ import annotations

import sqlite3
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from rules.lifecycle import Reason, State, Verdict
from tests.sandbox import Sandbox
from tests.sandbox.cast import Cast
from tests.worker.bench import Bench, open_bench
from worker.client import hang_up
from worker.engine import STOPPING, carry
from worker.ledger import audit, moves, reads


def test_every_member_of_the_cast_ends_as_it_must(bench: Bench, sandbox: Sandbox, cast: Cast) -> None:
    """A dozen situations, each with the verdict or reason that is true, and nobody else harmed."""
    ended = {
        member.title: bench.run(member.rule, member.secret, member.connection, variables=dict(member.vars))
        for member in cast.members
    }

    assert {title: str(job.verdict or job.reason) for title, job in ended.items()} == {
        member.title: member.verdict or member.reason for member in cast.members
    }
    assert all(sandbox.alive(member.provider, member.id) is not member.dead for member in cast.members if member.id)
    assert all(sandbox.alive(provider, name) for provider, name in cast.bystanders)
    with bench.runtime.database.read() as connection:
        assert list(audit.verify(connection)) == []


def test_the_evidence_is_kept_and_never_a_body(sqlite_bench: Bench, sandbox: Sandbox) -> None:
    """Each step has its masked request, status, matchers and a keyed digest; ids are shown, secrets are not."""
    key = sandbox.sendgrid.add_key()

    job = sqlite_bench.run("sendgrid.api_key", key.secret, "sendgrid-demo")

    assert job.verdict is Verdict.REVOKED
    assert sqlite_bench.outline(job) == [
        ("before", "probe", "alive"),
        ("read", "read", "ok"),
        ("act", "delete", "ok"),
        ("after", "probe", "dead"),
        ("after", "probe", "dead"),
    ]
    for step in sqlite_bench.steps(job):
        assert step.evidence is not None
        assert step.evidence["status"] in {200, 204, 401}
        assert step.evidence["digest"]
        assert key.secret not in repr(step)
    assert reads.credential(sqlite_bench.runtime.database, job.credential).provider_id == key.secret.split(".")[1]


def test_nothing_is_sent_that_the_claim_would_not_outlast(
    tmp_path: Path, sqlite_url: str, sandbox: Sandbox, connected: dict[str, Any]
) -> None:
    """A ledger that takes its time to write an intent down: by then too little of the claim is left for the request."""
    key = sandbox.sendgrid.add_key()
    sandbox.fault("sendgrid", "delay", path="/v3/api_keys/*", seconds=0.5)
    settings = {"claim": "4s", "request_timeout": "1.5s"}
    with open_bench(tmp_path, sqlite_url, sandbox, connections=connected, settings=settings) as bench:
        job = bench.submit("sendgrid.api_key", key.secret, "sendgrid-demo")
        busy = threading.Thread(target=hold_the_ledger, args=(bench, sandbox, 3.0))
        busy.start()

        ended = bench.carry(job)

        busy.join()
        steps = bench.steps(ended)
    assert ("act", "delete", "not_sent") in [(step.purpose, step.name, step.outcome) for step in steps]
    sent = sum(step.purpose == "act" and step.outcome != "not_sent" for step in steps)
    assert len(sandbox.calls("sendgrid", "DELETE")) == sent


def hold_the_ledger(bench: Bench, sandbox: Sandbox, seconds: float) -> None:
    """Keep every other writer out for so long, from the moment at which the key is looked up."""
    while not sandbox.calls("sendgrid", "GET", "/v3/api_keys/*"):
        time.sleep(0.01)
    with sqlite3.connect(str(bench.runtime.database.url.database), isolation_level=None) as other:
        other.execute("BEGIN IMMEDIATE")
        time.sleep(seconds)
        other.execute("ROLLBACK")


def test_a_second_submission_joins_and_a_later_one_probes_first(sqlite_bench: Bench, sandbox: Sandbox) -> None:
    """One open job for each credential, connection and intent; after its end, a new job deletes nothing again."""
    key = sandbox.sendgrid.add_key()
    first = sqlite_bench.submit("sendgrid.api_key", key.secret, "sendgrid-demo")

    assert sqlite_bench.submit("sendgrid.api_key", key.secret, "sendgrid-demo") == first
    assert sqlite_bench.carry(first, rounds=9).verdict is Verdict.REVOKED
    again = sqlite_bench.run("sendgrid.api_key", key.secret, "sendgrid-demo")

    assert again.id != first
    assert again.verdict is Verdict.ALREADY_REVOKED
    assert len(sandbox.calls("sendgrid", "DELETE")) == 1


def test_a_picked_candidate_is_read_again_and_acted_on(sqlite_bench: Bench, sandbox: Sandbox) -> None:
    """The person's pick leads to exactly that row; ours is dead, its twin lives."""
    key = sandbox.keyring.add_key(owner="ann")
    twin = sandbox.keyring.add_key(owner="ben", like=key.secret)
    parked = sqlite_bench.run("keyring.token", key.secret, "keyring-demo")
    assert parked.reason == Reason.NEEDS_SELECTION
    assert {candidate["id"] for candidate in parked.candidates or []} == {key.id, twin.id}

    moves.retry(sqlite_bench.runtime.database, parked.id, actor="tester", why="picked", picked=key.id)
    ended = sqlite_bench.carry(parked.id, rounds=9)

    assert ended.verdict is Verdict.REVOKED
    assert not sandbox.alive("keyring", key.id)
    assert sandbox.alive("keyring", twin.id)


def test_the_wrong_pick_is_an_incident_of_its_own(sqlite_bench: Bench, sandbox: Sandbox) -> None:
    """Ours still works after the other was deleted: `wrong_one`, and no second candidate by itself."""
    key = sandbox.keyring.add_key(owner="ann")
    twin = sandbox.keyring.add_key(owner="ben", like=key.secret)
    parked = sqlite_bench.run("keyring.token", key.secret, "keyring-demo")

    moves.retry(sqlite_bench.runtime.database, parked.id, actor="tester", why="picked", picked=twin.id)
    ended = sqlite_bench.carry(parked.id, rounds=9)

    assert ended.reason == Reason.WRONG_ONE
    assert sandbox.alive("keyring", key.id)
    assert len(sandbox.calls("keyring", "DELETE")) == 1


@pytest.mark.parametrize("fault", ["drop_after", "drop_before"])
def test_a_lost_answer_is_resolved_by_asking(sqlite_bench: Bench, sandbox: Sandbox, fault: str) -> None:
    """Whether the provider had acted or not, the ending is the same, and nothing is assumed."""
    key = sandbox.sendgrid.add_key()
    sandbox.fault("sendgrid", fault, method="DELETE")

    ended = sqlite_bench.run("sendgrid.api_key", key.secret, "sendgrid-demo")

    outline = sqlite_bench.outline(ended)
    assert ended.verdict is Verdict.REVOKED
    assert ("act", "delete", "lost") in outline
    assert outline[outline.index(("act", "delete", "lost")) + 1][0] == "ask"
    assert not sandbox.alive("sendgrid", key.id)


@pytest.mark.parametrize(
    ("fault", "options"),
    [
        ("html_200", {}),
        ("redirect", {"to": "http://127.0.0.1:9/elsewhere"}),
        ("status", {"status": 429}),
        ("status", {"status": 503}),
        ("broken_json", {}),
        ("endless", {}),
    ],
)
def test_a_failed_probe_is_never_death(
    impatient_bench: Bench, sandbox: Sandbox, fault: str, options: dict[str, object]
) -> None:
    """A maintenance page, a redirect, throttling, an endless body: nothing is deleted on the strength of them."""
    key = sandbox.sendgrid.add_key()
    sandbox.fault("sendgrid", fault, method="GET", path="*/v3/scopes", times=None, **options)

    job = impatient_bench.run("sendgrid.api_key", key.secret, "sendgrid-demo")

    assert job.reason == Reason.BUDGET_SPENT
    assert sandbox.mutations() == []
    assert sandbox.alive("sendgrid", key.id)


def test_a_hold_stops_what_changes_something_and_nothing_else(bench: Bench, sandbox: Sandbox) -> None:
    """With the hold on the reads go on; lifted, the job goes on from where it stood."""
    key = sandbox.sendgrid.add_key()
    moves.hold_on(bench.runtime.database, "sendgrid-demo", actor="tester", why="incident")

    held = bench.carry(bench.submit("sendgrid.api_key", key.secret, "sendgrid-demo"))

    assert (held.state, held.reason) == (State.WAITING, moves.HELD)
    assert sandbox.mutations() == []

    assert moves.hold_off(bench.runtime.database, "sendgrid-demo", actor="tester", why="over") == 1
    assert bench.carry(held.id, rounds=9).verdict is Verdict.REVOKED


def test_our_own_identity_is_never_acted_on(sqlite_bench: Bench, sandbox: Sandbox, cast: Cast) -> None:
    """The secret that the connection signs in with parks as protected, and nothing is sent that changes anything."""
    account = next(account for account in cast.accounts if account.name == "sendgrid-demo")
    (own,) = account.environment.values()

    parked = sqlite_bench.run("sendgrid.api_key", own, "sendgrid-demo")

    assert parked.reason == Reason.PROTECTED
    assert sandbox.mutations() == []


def test_no_probe_never_tries_the_credential(sqlite_bench: Bench, sandbox: Sandbox) -> None:
    """Probing is a use too: a canary token must not be touched, so the end is acknowledged and no more."""
    key = sandbox.sendgrid.add_key()

    ended = sqlite_bench.run("sendgrid.api_key", key.secret, "sendgrid-demo", probe=False)

    assert ended.verdict is Verdict.ACKNOWLEDGED
    assert sandbox.calls("sendgrid", "GET", "*/v3/scopes") == []


def test_a_rule_that_changed_in_flight_parks(sqlite_bench: Bench, sandbox: Sandbox) -> None:
    """What a person submitted under one rule is not carried out under another."""
    key = sandbox.sendgrid.add_key()
    job_id = sqlite_bench.submit("sendgrid.api_key", key.secret, "sendgrid-demo")
    runtime = sqlite_bench.runtime
    changed = [replace(loaded, digest="another") for loaded in runtime.catalogue]
    other = replace(runtime, catalogue=type(runtime.catalogue)(changed))

    carry(other, job_id, "w")

    assert reads.job(runtime.database, job_id).reason == Reason.PLAN_CHANGED
    assert sandbox.calls("sendgrid") == []


def test_two_workers_with_one_job_do_it_once(bench: Bench, sandbox: Sandbox) -> None:
    """A doubled message changes nothing: one claims, the other leaves."""
    key = sandbox.sendgrid.add_key()
    job_id = bench.submit("sendgrid.api_key", key.secret, "sendgrid-demo")

    def work(name: str) -> None:
        carry(bench.runtime, job_id, name)
        hang_up()

    threads = [threading.Thread(target=work, args=(f"w{number}",)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert reads.job(bench.runtime.database, job_id).verdict is Verdict.REVOKED
    assert len(sandbox.calls("sendgrid", "DELETE")) == 1


def test_a_worker_that_stops_ends_its_step_and_gives_the_job_back(bench: Bench, sandbox: Sandbox) -> None:
    """The answer that was awaited is written down, nothing more is sent, and the job is due at once for anybody."""
    key = sandbox.sendgrid.add_key()
    sandbox.fault("sendgrid", "delay", method="GET", seconds=1.0)
    runtime, job_id = bench.runtime, bench.submit("sendgrid.api_key", key.secret, "sendgrid-demo")

    def work() -> None:
        carry(runtime, job_id, "bench")
        hang_up()

    carrier = threading.Thread(target=work)
    carrier.start()
    while not sandbox.calls("sendgrid"):
        time.sleep(0.01)
    runtime.stopping.set()
    carrier.join()

    job = reads.job(runtime.database, job_id)
    assert (job.state, job.lease_until, job.says) == (State.QUEUED, None, STOPPING)
    assert bench.outline(job) == [("before", "probe", "alive")]
    runtime.stopping.clear()
    assert bench.carry(job_id, rounds=9).verdict is Verdict.REVOKED
    assert len(sandbox.calls("sendgrid", "DELETE")) == 1


def test_a_worker_that_stops_begins_nothing(bench: Bench, sandbox: Sandbox) -> None:
    """The bell of a job that it was handed too late counts as not rung, so that the next sweep rings again."""
    runtime, job_id = bench.runtime, bench.submit("sendgrid.api_key", sandbox.sendgrid.add_key().secret)
    moves.ring(runtime.database, [job_id])
    assert moves.ring_due(runtime.database, 10, 600) == []
    runtime.stopping.set()

    bench.carry(job_id)

    assert [job_id] == [ring.job_id for ring in moves.ring_due(runtime.database, 10, 600)]
    assert sandbox.calls("sendgrid") == []


def test_a_refusal_says_who_was_refused(sqlite_bench: Bench, sandbox: Sandbox) -> None:
    """403 to the connection and 403 to the credential need different mends."""
    key = sandbox.sendgrid.add_key(scopes=["mail.send"])

    itself = sqlite_bench.run("sendgrid.api_key", key.secret, "sendgrid-demo")
    assert itself.verdict is Verdict.REVOKED

    other = sandbox.sendgrid.add_key()
    sandbox.fault("sendgrid", "status", method="DELETE", status=403)
    refused = sqlite_bench.run("sendgrid.api_key", other.secret, "sendgrid-demo")
    assert refused.reason == Reason.DENIED
    assert "the connection was refused" in (refused.says or "")


def test_pangolin_by_id_alone_is_acknowledged_and_says_that_it_lapses(sqlite_bench: Bench, sandbox: Sandbox) -> None:
    """Without the token nothing can be proved, and the server forgets the revocation after a day."""
    user = sandbox.pangolin.add_user("zoe")
    token = sandbox.pangolin.add_token(user.id)

    ended = sqlite_bench.run("pangolin.token", None, "pangolin-demo", variables={"TOKEN_ID": token.id})

    assert ended.verdict is Verdict.ACKNOWLEDGED
    assert "forgets it after 24 hours" in (ended.says or "")


def test_a_row_s_own_token_is_sealed_and_found_in_the_history(sqlite_bench: Bench, sandbox: Sandbox) -> None:
    """A token taken out of a list is sealed for the job, used, shredded, and recognised by its fingerprint for ever."""
    user = sandbox.pangolin.add_user("zoe")
    token = sandbox.pangolin.add_token(user.id)
    names = {"USER_ID": user.id, "TOKEN_ID": token.id}

    ended = sqlite_bench.run("pangolin.token", None, "pangolin-demo", variables=names)

    assert ended.verdict is Verdict.REVOKED
    database = sqlite_bench.runtime.database
    (stored,) = reads.secrets_of(database, ended.id)
    assert stored.kind == "extracted:TOKEN"
    moves.shred(database, 10)
    found = reads.history(database, [stored.fingerprint])
    assert [job.id for job in found] == [ended.id]
