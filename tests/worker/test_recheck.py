"""What was ended is looked at again, by real jobs on both databases: what came back, what lapses, and what ends it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from rules.lifecycle import Intent, Reason, State, Verdict
from scheduler.recheck import start_due
from tests.sandbox import Sandbox
from tests.worker.bench import Bench
from tests.worker.later import pass_hours, with_shifted_clock
from tests.worker.ledger.samples import at_once
from worker.ledger import audit, moves, reads, rechecks
from worker.ledger.rows import Job, NewJob

PANGOLIN = "pangolin-demo"
STORES = pytest.mark.parametrize("store", ["memory", "postgres"])


@pytest.fixture
def bench(bench: Bench) -> Iterator[Bench]:
    """The worker's bench, on both databases, with clocks that can be set forward."""
    with with_shifted_clock(bench) as shifted:
        yield shifted


@pytest.fixture
def sqlite_bench(sqlite_bench: Bench) -> Iterator[Bench]:
    """The same on SQLite alone."""
    with with_shifted_clock(sqlite_bench) as shifted:
        yield shifted


def tick(bench: Bench) -> list[Job]:
    """One tick of the clock, and every job that it started, carried."""
    return [bench.carry(job_id) for job_id in start_due(bench.runtime)]


def series(bench: Bench, job: Job) -> list[tuple[str, str | None]]:
    """The rechecks of a credential: what each is, and what it came to."""
    rows = rechecks.of_credential(bench.runtime.database, job.credential)
    return [(row.kind.value, row.found.value if row.found else None) for row in rows]


def hours_until(bench: Bench, job: Job) -> list[float]:
    """When what is still to come is due, in hours from now."""
    rows = rechecks.of_credential(bench.runtime.database, job.credential)
    now = bench.runtime.database.now()
    return [round((row.due - now) / 3.6e9, 1) for row in rows if row.ended_at is None]


def sealed(bench: Bench, job: Job) -> bool:
    """Whether a secret of the credential can still be opened."""
    return bool(rechecks.kept_secrets(bench.runtime.database, job.credential))


def with_settings(bench: Bench, **changes: Any) -> None:
    """The same bench under other settings."""
    bench.runtime = replace(bench.runtime, settings=bench.runtime.settings.model_copy(update=changes))


def found_untrue(bench: Bench) -> list[audit.Finding]:
    """What a check of the whole trail finds."""
    with bench.runtime.database.read() as connection:
        return list(audit.verify(connection))


# ── a credential that stays dead ──────────────────────────────────────────────────────────────────────────────────


def test_three_looks_and_then_its_secret_is_destroyed(bench: Bench, sandbox: Sandbox) -> None:
    """After 1 h, 25 h and 7 days it is asked again; the secret stays sealed as long as that, and no longer."""
    key = sandbox.sendgrid.add_key()
    job = bench.run("sendgrid.api_key", key.secret, "sendgrid-demo")

    assert hours_until(bench, job) == [1.0, 25.0, 168.0]
    assert tick(bench) == []
    for passed in (1, 24, 143):
        assert sealed(bench, job)
        pass_hours(bench, passed)
        (look,) = tick(bench)
        assert (look.intent, look.verdict, look.parent) == (Intent.RECHECK, Verdict.DEAD, job.id)
        assert bench.outline(look)[0] == ("before", "probe", "dead")

    assert series(bench, job) == [("look", "dead")] * 3
    assert not sealed(bench, job)
    assert moves.shred(bench.runtime.database, 10) == 1
    assert found_untrue(bench) == []


def test_a_look_that_fails_is_repeated_and_counts_for_nothing(sqlite_bench: Bench, sandbox: Sandbox) -> None:
    """503 is not dead and not alive: the same look waits, and is taken again."""
    key = sandbox.sendgrid.add_key()
    job = sqlite_bench.run("sendgrid.api_key", key.secret, "sendgrid-demo")
    pass_hours(sqlite_bench, 1)
    sandbox.fault("sendgrid", "status", status=503, times=2)

    (started,) = start_due(sqlite_bench.runtime)
    ended = sqlite_bench.carry(started, rounds=9)

    assert [outcome for _, _, outcome in sqlite_bench.outline(ended)] == [
        *["inconclusive"] * 2,
        *["dead"] * 2,
    ]
    assert ended.verdict is Verdict.DEAD
    assert series(sqlite_bench, job)[0] == ("look", "dead")


def test_two_clocks_start_each_look_once(bench: Bench, sandbox: Sandbox) -> None:
    """Both see that it is due; one of them starts it, and the other has changed nothing."""
    keys = [sandbox.sendgrid.add_key() for _ in range(6)]
    jobs = [bench.run("sendgrid.api_key", key.secret, "sendgrid-demo") for key in keys]
    pass_hours(bench, 1)

    started = at_once(*[lambda: start_due(bench.runtime)] * 3)

    ids = [job_id for each in started for job_id in each]
    assert len(ids) == len(set(ids)) == len(jobs)
    looks = reads.jobs(bench.runtime.database, intent=Intent.RECHECK)
    assert {look.parent for look in looks} == {job.id for job in jobs}
    assert all(sum(event == "joined" for event in events(bench, look.id)) == 0 for look in looks)


def events(bench: Bench, job_id: str) -> list[str]:
    """What the trail of a job tells, by name."""
    return [row.facts["event"] for row in reads.audit_rows(bench.runtime.database, job_id, 100)]


@pytest.mark.parametrize("why", ["setting", "no_probe", "never_probe"])
def test_nothing_is_kept_where_nothing_is_looked_at(sqlite_bench: Bench, sandbox: Sandbox, why: str) -> None:
    """Where looking is off, or the credential must not be tried, the secret goes at the end as it always did."""
    key = sandbox.sendgrid.add_key()
    if why == "setting":
        with_settings(sqlite_bench, recheck=[])
    if why == "never_probe":
        connection = sqlite_bench.runtime.settings.connections["sendgrid-demo"]
        connections = {"sendgrid-demo": connection.model_copy(update={"never_probe": True})}
        with_settings(sqlite_bench, connections={**sqlite_bench.runtime.settings.connections, **connections})
        sqlite_bench.runtime = replace(
            sqlite_bench.runtime,
            connections=type(sqlite_bench.runtime.connections)(
                sqlite_bench.runtime.settings, sqlite_bench.runtime.catalogue
            ),
        )

    job = sqlite_bench.run("sendgrid.api_key", key.secret, "sendgrid-demo", probe=why != "no_probe")

    assert job.verdict in {Verdict.REVOKED, Verdict.ACKNOWLEDGED}
    assert series(sqlite_bench, job) == []
    assert not sealed(sqlite_bench, job)


def test_no_look_is_later_than_its_secret_may_live(sqlite_bench: Bench, sandbox: Sandbox) -> None:
    """With secrets that are destroyed after two days, the look after a week is not promised."""
    with_settings(sqlite_bench, shred_after=2 * 86400.0)
    key = sandbox.sendgrid.add_key()

    job = sqlite_bench.run("sendgrid.api_key", key.secret, "sendgrid-demo")

    assert hours_until(sqlite_bench, job) == [1.0, 25.0]
    (row,) = rechecks.kept_secrets(sqlite_bench.runtime.database, job.credential)
    assert row.shred_by == row.created_at + 2 * 86400 * 1_000_000


# ── what came back ────────────────────────────────────────────────────────────────────────────────────────────────


def test_what_came_back_is_an_incident_and_is_left_to_a_person(bench: Bench, sandbox: Sandbox) -> None:
    """Nothing in the rule says that it lapses: it is told, not touched; driven again once it is dead, it closes."""
    key = sandbox.sendgrid.add_key()
    job = bench.run("sendgrid.api_key", key.secret, "sendgrid-demo")
    sandbox.sendgrid.keys[key.id].alive = True
    pass_hours(bench, 1)

    (incident,) = tick(bench)

    assert (incident.state, incident.reason) == (State.PARKED, Reason.CAME_BACK)
    assert series(bench, job) == [("look", "came_back"), ("look", "stopped"), ("look", "stopped")]
    pass_hours(bench, 200)
    assert tick(bench) == []
    assert sandbox.alive("sendgrid", key.id)

    again = bench.run("sendgrid.api_key", key.secret, "sendgrid-demo")
    assert again.verdict is Verdict.REVOKED
    moves.retry(bench.runtime.database, incident.id, actor="tester", why="it is dead now")
    assert bench.carry(incident.id).verdict is Verdict.DEAD
    assert found_untrue(bench) == []


@STORES
def test_a_revocation_that_lapses_is_found_and_repeated(bench: Bench, sandbox: Sandbox, store: str) -> None:
    """Deleted from its list, a token is back after a day: found, an incident, revoked again; and so a day later."""
    sandbox.switch("pangolin", store=store)
    user = sandbox.pangolin.add_user("erin")
    token = sandbox.pangolin.add_token(user.id, hours=24 * 90)
    job = bench.run("pangolin.listed_token", token.secret, PANGOLIN, variables={"TOKEN_ID": token.id})
    assert job.verdict is Verdict.REVOKED
    incidents = set()

    for day in range(2):
        pass_hours(bench, 1)
        (look,) = tick(bench)
        assert not sandbox.alive("pangolin", token.id)
        # The first look finds it dead; in the open incident, that it worked in between is still to be seen by a person.
        assert look.verdict is Verdict.DEAD if day == 0 else look.reason == Reason.CAME_BACK
        pass_hours(bench, 24)
        assert sandbox.alive("pangolin", token.id)
        (look,) = tick(bench)
        assert look.reason == Reason.CAME_BACK
        incidents.add(look.id)
        (again,) = tick(bench)
        again = bench.carry(again.id, rounds=9)
        assert (again.intent, again.parent, again.verdict) == (Intent.REVOKE, look.id, Verdict.REVOKED)
        assert not sandbox.alive("pangolin", token.id)

    assert len(incidents) == 1
    assert hours_until(bench, job) == [1.0, 25.0, 168.0]
    assert sealed(bench, job)
    assert found_untrue(bench) == []


@STORES
def test_what_cannot_be_probed_is_revoked_again_after_each_lapse_until_it_expires(
    bench: Bench, sandbox: Sandbox, store: str
) -> None:
    """By its id alone nothing can be asked: it is revoked daily, as long as the provider says that it lives."""
    sandbox.switch("pangolin", store=store, list_shows_secret=False)
    user = sandbox.pangolin.add_user("erin")
    token = sandbox.pangolin.add_token(user.id, hours=60)
    job = bench.run("pangolin.token", None, PANGOLIN, variables={"TOKEN_ID": token.id, "USER_ID": user.id})

    assert job.verdict is Verdict.ACKNOWLEDGED
    assert reads.credential(bench.runtime.database, job.credential).expires_at is not None
    for _ in range(2):
        assert hours_until(bench, job) == [25.0]
        pass_hours(bench, 25)
        (again,) = tick(bench)
        assert (again.intent, again.verdict) == (Intent.REVOKE, Verdict.ACKNOWLEDGED)
        assert not sandbox.alive("pangolin", token.id)

    assert hours_until(bench, job) == []
    assert series(bench, job) == [("again", "repeated"), ("again", "repeated")]


def test_two_clocks_repeat_each_lapsed_revocation_once(bench: Bench, sandbox: Sandbox) -> None:
    """The request that changes something leaves once, whoever saw first that it was due."""
    user = sandbox.pangolin.add_user("erin")
    tokens = [sandbox.pangolin.add_token(user.id, hours=24 * 90) for _ in range(4)]
    for token in tokens:
        bench.run("pangolin.token", None, PANGOLIN, variables={"TOKEN_ID": token.id})
    pass_hours(bench, 25)

    started = [job_id for each in at_once(*[lambda: start_due(bench.runtime)] * 3) for job_id in each]

    assert len(started) == len(set(started)) == len(tokens)
    assert {bench.carry(job_id).verdict for job_id in started} == {Verdict.ACKNOWLEDGED}
    assert not any(sandbox.alive("pangolin", token.id) for token in tokens)
    # Our own session has expired meanwhile, so one of them was refused and sent once more.
    answered = [call for call in sandbox.mutations("pangolin", "*/auth/revoke/*") if call.status == 200]
    assert len(answered) == 2 * len(tokens)


def test_a_breaker_leaves_what_lapsed_to_a_person(bench: Bench, sandbox: Sandbox) -> None:
    """Beyond what the settings allow in a day nothing is revoked again; each becomes an incident that says so."""
    with_settings(bench, again_per_connection=1)
    user = sandbox.pangolin.add_user("erin")
    tokens = [sandbox.pangolin.add_token(user.id, hours=24 * 90) for _ in range(2)]
    for token in tokens:
        bench.run("pangolin.token", None, PANGOLIN, variables={"TOKEN_ID": token.id})
    pass_hours(bench, 25)

    ended = tick(bench)

    assert sorted(str(job.verdict or job.reason) for job in ended) == ["acknowledged", "came_back"]
    (incident,) = (job for job in ended if job.reason == Reason.CAME_BACK)
    assert "the settings allow 1" in (incident.says or "")
    assert [sandbox.alive("pangolin", token.id) for token in tokens].count(True) == 1


def test_what_was_rotated_since_is_not_revoked_again(sqlite_bench: Bench, sandbox: Sandbox) -> None:
    """An id that outlived a rotation is another key's by now: only an incident, whatever lapses."""
    user = sandbox.pangolin.add_user("erin")
    token = sandbox.pangolin.add_token(user.id, hours=24 * 90)
    job = sqlite_bench.run("pangolin.token", None, PANGOLIN, variables={"TOKEN_ID": token.id})
    rotate(sqlite_bench, job)
    pass_hours(sqlite_bench, 25)
    calls = len(sandbox.mutations("pangolin", "*/revoke/*"))

    (incident,) = tick(sqlite_bench)

    assert incident.reason == Reason.CAME_BACK
    assert "rotated since" in (incident.says or "")
    assert len(sandbox.mutations("pangolin", "*/revoke/*")) == calls


def rotate(bench: Bench, job: Job) -> None:
    """A rotation of the same credential that has ended, as its worker would have left it."""
    database = bench.runtime.database
    credential = reads.credential(database, job.credential)
    new = NewJob(
        fingerprint=credential.fingerprint,
        fingerprint_key=credential.fingerprint_key,
        rule=job.rule,
        connection=job.connection,
        intent=Intent.ROTATE,
        rule_digest=job.rule_digest,
        plan=job.plan,
        plan_hash=job.plan_hash,
        queue="rotation",
        requester="tester",
    )
    claim = moves.claim(database, moves.submit(database, new).job_id, lease=60, worker="w1")
    assert claim is not None
    moves.finish(database, claim, Verdict.ROTATED, "the new key works")


def test_another_end_replaces_the_series(sqlite_bench: Bench, sandbox: Sandbox) -> None:
    """A second job that finds it dead leaves the looks as they are; one that revokes anew begins them anew."""
    key = sandbox.sendgrid.add_key()
    job = sqlite_bench.run("sendgrid.api_key", key.secret, "sendgrid-demo")
    pass_hours(sqlite_bench, 0.5)

    assert sqlite_bench.run("sendgrid.api_key", key.secret, "sendgrid-demo").verdict is Verdict.ALREADY_REVOKED
    assert hours_until(sqlite_bench, job) == [0.5, 24.5, 167.5]

    sandbox.sendgrid.keys[key.id].alive = True
    assert sqlite_bench.run("sendgrid.api_key", key.secret, "sendgrid-demo").verdict is Verdict.REVOKED
    assert hours_until(sqlite_bench, job) == [1.0, 25.0, 168.0]
    assert sealed(sqlite_bench, job)


def test_a_rule_that_changed_parks_the_look(sqlite_bench: Bench, sandbox: Sandbox) -> None:
    """A rule that is gone is no silence: the look parks and says what is lacking."""
    key = sandbox.sendgrid.add_key()
    sqlite_bench.run("sendgrid.api_key", key.secret, "sendgrid-demo")
    pass_hours(sqlite_bench, 1)
    others = [loaded for loaded in sqlite_bench.runtime.catalogue if loaded.rule.id != "sendgrid.api_key"]
    sqlite_bench.runtime = replace(sqlite_bench.runtime, catalogue=type(sqlite_bench.runtime.catalogue)(others))

    (look,) = tick(sqlite_bench)

    assert look.reason == Reason.PLAN_CHANGED
