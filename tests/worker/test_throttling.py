"""One worker's answers are every worker's: patience and failures at a provider hold up its account, and no other."""

from __future__ import annotations

import pytest

from rules.budget import capacity
from rules.lifecycle import State, Verdict
from rules.trouble import FAILURES
from rules.units import SECOND
from tests.sandbox import Sandbox
from tests.worker.bench import Bench
from tests.worker.ledger.samples import execute
from worker.engine import carry
from worker.ledger import accounts, moves, reads


def submit(bench: Bench, sandbox: Sandbox) -> str:
    """A job for a new SendGrid key."""
    return bench.submit("sendgrid.api_key", sandbox.sendgrid.add_key().secret, "sendgrid-demo")


def broken_until(bench: Bench) -> int | None:
    """Until when the account is left alone."""
    standing = accounts.standings(bench.runtime.database).get("sendgrid-demo")
    return None if standing is None else standing.broken_until


def test_retry_after_holds_for_all_jobs_of_the_account(bench: Bench, sandbox: Sandbox) -> None:
    """429 for one job, and no other of that connection sends anything before the time; other connections go on."""
    first, second = submit(bench, sandbox), submit(bench, sandbox)
    sandbox.fault("sendgrid", status=429, headers={"Retry-After": "60"})
    assert bench.carry(first).state is State.WAITING
    calls = len(sandbox.calls("sendgrid"))

    assert carry(bench.runtime, second, "w2") is None

    assert len(sandbox.calls("sendgrid")) == calls
    database = bench.runtime.database
    (standing,) = [each for each in accounts.standings(database).values() if each.retry_at is not None]
    assert standing.name == "sendgrid-demo"
    assert 50 * SECOND < (standing.retry_at or 0) - database.now() <= 60 * SECOND
    key = sandbox.tailscale.add_key()
    assert bench.run("tailscale.api_key", key.secret, "tailscale-demo").verdict is Verdict.REVOKED
    execute(database, "UPDATE accounts SET retry_at = :at", at=database.now())
    assert bench.carry(second, rounds=20).verdict is Verdict.REVOKED


@pytest.mark.parametrize(("status", "failures"), [(429, 0), (503, 1)])
def test_when_to_ask_again_who_we_are(sqlite_bench: Bench, sandbox: Sandbox, status: int, failures: int) -> None:
    """An answer to our own sign-in holds like any other: nothing goes there before the time; 429 is no failure."""
    bench, database = sqlite_bench, sqlite_bench.runtime.database
    first, second = (bench.submit("keyring.token", sandbox.keyring.add_key().secret, "keyring-demo") for _ in range(2))
    sandbox.fault("keyring", status=status, path="*/whoami", headers={"Retry-After": "600"})

    job = bench.carry(first)

    assert (job.state, job.says) == (
        State.WAITING,
        f"asking who we are: Keyring (pretend) answered {status} to our sign-in",
    )
    assert 590 * SECOND < job.not_before - database.now() <= 600 * SECOND
    standing = accounts.standings(database)["keyring-demo"]
    assert 590 * SECOND < (standing.retry_at or 0) - database.now() <= 600 * SECOND
    assert standing.failures == failures
    assert carry(bench.runtime, second, "w2") is None
    assert len(sandbox.calls("keyring")) == 1


def test_a_provider_that_is_down_is_left_alone(sqlite_bench: Bench, sandbox: Sandbox) -> None:
    """After a few failures nothing begins there; then one job tries, and when that goes well, all do."""
    bench, database = sqlite_bench, sqlite_bench.runtime.database
    jobs = [submit(bench, sandbox) for _ in range(FAILURES + 2)]
    sandbox.fault("sendgrid", status=503, headers={"Retry-After": "0"}, times=None)
    for job in jobs[:FAILURES]:
        if broken_until(bench) is None:
            # Each is tried for a while under one claim, and fails every time.
            carry(bench.runtime, job, "w1")
    assert broken_until(bench) is not None
    # However slow this machine is, the rest is not over yet.
    execute(database, "UPDATE accounts SET broken_until = :at", at=database.now() + 3600 * SECOND)
    calls = len(sandbox.calls("sendgrid"))
    assert carry(bench.runtime, jobs[-1], "w2") is None
    assert len(sandbox.calls("sendgrid")) == calls

    sandbox.clear_faults()
    execute(database, "UPDATE accounts SET broken_until = :at", at=database.now())
    assert bench.carry(jobs[-1], rounds=20).verdict is Verdict.REVOKED

    standing = accounts.standings(database)["sendgrid-demo"]
    assert (standing.failures, standing.broken_until) == (0, None)
    events = [row.facts["event"] for row in reads.audit_rows(database, "revoq", 10)]
    assert events == ["breaker closed→open", "breaker open→closed"]


def test_a_connection_s_own_limit(sqlite_bench: Bench, sandbox: Sandbox) -> None:
    """The settings' word counts instead of the rule's, and the job knows whose budget it is and what it costs."""
    bench = sqlite_bench
    given = bench.runtime.settings.connections["sendgrid-demo"]
    limited = given.model_validate({**given.model_dump(exclude={"limits"}), "limits": {"requests": 30, "per": "24h"}})
    bench.runtime.settings.connections["sendgrid-demo"] = limited
    jobs = [submit(bench, sandbox) for _ in range(4)]
    first = reads.job(bench.runtime.database, jobs[0])
    assert (first.account, first.cost) == ("sendgrid-demo", 5)
    execute(bench.runtime.database, "UPDATE jobs SET queue = 'bulk'")

    rung = moves.ring_due(bench.runtime.database, 10, 60, bench.runtime.limits)

    assert limited.limits is not None
    assert capacity(limited.limits) == 6000
    assert len(rung) == 1
