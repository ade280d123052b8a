"""Pangolin's service users against the pretend server, in both of its stores: the right one dead, proved, and alone."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from rules.lifecycle import Intent, Reason, State, Verdict
from rules.secret import Secret
from scheduler.submit import Order, check, rehearse
from tests.sandbox import Sandbox
from tests.sandbox.pangolin import ServiceUser, Token
from tests.worker.bench import Bench, open_bench
from tests.worker.test_providers import hurry, others_live, outcomes
from worker.ledger import moves, reads
from worker.ledger.rows import Job
from worker.listing import Listed, list_credentials

RULE = "pangolin.service_user"
NOBODY = "00000000-0000-4000-8000-000000000000"
SOON = {"Retry-After": "1"}


@pytest.fixture(params=["memory", "postgres"])
def store(request: pytest.FixtureRequest, sandbox: Sandbox) -> str:
    """The real server's traps depend on where it keeps its things."""
    sandbox.switch("pangolin", store=request.param)
    return str(request.param)


@pytest.fixture
def bench(tmp_path: Path, sqlite_url: str, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    """Connections as a tenant's administrator, as a service user, as root, and as root with a tenant that it owns."""
    machine = sandbox.pangolin.add_service_user("revoq-machine", "tenant-admin")
    admin = sandbox.pangolin.add_user("revoq-bot", "tenant-admin")
    root = sandbox.pangolin.add_user("root", "root")
    where = {"provider": "pangolin", "base_url": sandbox.url("pangolin")}
    connections: dict[str, Any] = {}
    for name, user in (("pangolin", admin), ("root", root), ("owner", root)):
        monkeypatch.setenv(f"TEST_{user.username.upper()}", user.password)
        identity = {"username": user.username, "password": f"env:TEST_{user.username.upper()}"}
        connections[name] = {**where, "identity": identity}
    connections["owner"]["owns"] = {"tenant": sandbox.pangolin.tenant}
    monkeypatch.setenv("TEST_MACHINE", machine.key)
    signed = {"service_user_id": machine.id, "key": "env:TEST_MACHINE", "tenant": machine.tenant}
    connections["machine"] = {**where, "identity": signed}
    with open_bench(tmp_path, sqlite_url, sandbox, connections=connections) as opened:
        hurry(opened)
        yield opened


@pytest.fixture
def target(sandbox: Sandbox) -> ServiceUser:
    """One of three, the second."""
    sandbox.pangolin.add_service_user("first")
    added = sandbox.pangolin.add_service_user("etl")
    sandbox.pangolin.add_service_user("third")
    return added


def end(bench: Bench, target: ServiceUser, *, key: bool = True, connection: str = "pangolin", **options: Any) -> Job:
    """Revoke it by its id and name, with its key or without it."""
    secret = target.key if key else None
    variables = {"SERVICE_USER_ID": target.id, "SERVICE_USER_NAME": target.name}
    return bench.run(RULE, secret, connection, variables=variables | options.pop("variables", {}), **options)


def touched(sandbox: Sandbox) -> list[tuple[str, str]]:
    """Every call that may have changed a service user."""
    return [(call.method, call.path) for call in sandbox.mutations("pangolin", "*/service-users*")]


def traded(sandbox: Sandbox, target: ServiceUser) -> list[Token]:
    """The tokens that its key was ever traded for."""
    return [token for token in sandbox.pangolin.tokens.values() if token.user_id == target.id]


# ── the right one ─────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.usefixtures("store")
def test_with_its_key_it_is_tried_before_and_after(bench: Bench, sandbox: Sandbox, target: ServiceUser) -> None:
    """Disabled, deleted, and refused after: nobody else dies, and what the probe left behind is dead, too."""
    before = sandbox.state()

    job = end(bench, target)

    assert job.verdict is Verdict.REVOKED
    assert others_live(sandbox, before, target.id)
    steps = [("probe", "alive"), ("read", "ok"), ("disabled", "alive"), ("disable", "ok"), ("delete", "ok")]
    assert outcomes(bench, job) == [*steps, ("probe", "dead")]
    assert [method for method, _ in touched(sandbox)] == ["PUT", "DELETE"]
    (left,) = traded(sandbox, target)
    assert not sandbox.pangolin.is_alive(left)
    assert bench.steps(job)[0].evidence["clean_up"]["outcome"] == "ok"  # type: ignore[index]

    again = end(bench, target)
    assert again.verdict is Verdict.ALREADY_REVOKED
    assert len(touched(sandbox)) == 2


@pytest.mark.usefixtures("store")
def test_without_its_key_it_is_read_before_and_after(bench: Bench, sandbox: Sandbox, target: ServiceUser) -> None:
    """The server has it no more: that is the proof there is, and the key is never tried."""
    before = sandbox.state()

    job = end(bench, target, key=False)

    assert job.verdict is Verdict.REVOKED
    assert others_live(sandbox, before, target.id)
    steps = [("disabled", "alive"), ("read", "ok"), ("disable", "ok"), ("delete", "ok"), ("disabled", "dead")]
    assert outcomes(bench, job) == steps
    assert sandbox.calls("pangolin", path="*/oauth/*") == []

    assert end(bench, target, key=False).verdict is Verdict.ALREADY_REVOKED
    assert len(touched(sandbox)) == 2


def test_no_secret_is_written_down(bench: Bench, target: ServiceUser) -> None:
    """Neither the key nor the token that it was traded for is in a step, in clear or sealed."""
    job = end(bench, target)

    (left,) = traded(bench.sandbox, target)
    written = repr(bench.steps(job))
    assert target.key not in written
    assert left.secret not in written
    assert all("SESSION" not in (step.taken or {}) for step in bench.steps(job))


def test_one_that_is_disabled_already_is_deleted(bench: Bench, sandbox: Sandbox, target: ServiceUser) -> None:
    """An inactive one is neither dead nor done with: it could be enabled again."""
    target.active = False

    assert end(bench, target).verdict is Verdict.REVOKED
    assert target.id not in sandbox.pangolin.service_users


# ── another one ───────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.usefixtures("store")
@pytest.mark.parametrize("key", [True, False])
def test_another_name_is_refused(bench: Bench, sandbox: Sandbox, target: ServiceUser, *, key: bool) -> None:
    """A mistyped id meets a name that is not the one that was asked for."""
    before = sandbox.state()

    job = end(bench, target, key=key, variables={"SERVICE_USER_NAME": "first"})

    assert job.reason == Reason.NEEDS_SELECTION
    assert "not what was asked for" in (job.says or "")
    assert touched(sandbox) == []
    assert others_live(sandbox, before)


@pytest.mark.usefixtures("store")
@pytest.mark.parametrize("connection", ["pangolin", "machine", "owner"])
@pytest.mark.parametrize("key", [True, False])
def test_another_tenant_is_refused(bench: Bench, sandbox: Sandbox, connection: str, *, key: bool) -> None:
    """The server would let it die: we compare with the tenant that we sign in at, or with what the settings own."""
    foreign = sandbox.pangolin.add_service_user("etl", tenant="11111111-0000-4000-8000-000000000001")

    job = end(bench, foreign, key=key, connection=connection)

    assert job.reason == Reason.NOT_OURS
    assert touched(sandbox) == []
    assert sandbox.alive("pangolin", foreign.id)


@pytest.mark.usefixtures("store")
@pytest.mark.parametrize("key", [True, False])
def test_an_id_that_nobody_has_is_no_success(bench: Bench, sandbox: Sandbox, target: ServiceUser, *, key: bool) -> None:
    """On PostgreSQL deleting it would be answered with 200; it is not even asked for."""
    before = sandbox.state()

    job = end(bench, target, key=key, variables={"SERVICE_USER_ID": NOBODY})

    assert job.reason == Reason.NOT_RECOGNISED
    assert touched(sandbox) == []
    assert others_live(sandbox, before)


def test_a_key_beside_another_s_id_is_refused(bench: Bench, sandbox: Sandbox, target: ServiceUser) -> None:
    """The id exists and its name fits, but the key is another's: who of the two is meant nobody can tell."""
    other = sandbox.pangolin.add_service_user("other")

    job = bench.run(
        RULE, other.key, "pangolin", variables={"SERVICE_USER_ID": target.id, "SERVICE_USER_NAME": target.name}
    )

    assert job.reason == Reason.NOT_RECOGNISED
    assert touched(sandbox) == []


def test_protected_names_are_left_alone(bench: Bench, sandbox: Sandbox) -> None:
    """What the settings protect by a glob is not even read."""
    glass = sandbox.pangolin.add_service_user("break-glass-1")
    bench.runtime.settings.connection("pangolin").protected.names.append("break-glass-*")

    assert end(bench, glass).reason == Reason.PROTECTED
    assert touched(sandbox) == []


def test_a_protected_name_is_forced_once(bench: Bench, sandbox: Sandbox) -> None:
    """A person lifts that guard for one drive, with a reason in the trail; a hold stops it all the same."""
    glass = sandbox.pangolin.add_service_user("break-glass-1")
    bench.runtime.settings.connection("pangolin").protected.names.append("break-glass-*")
    database, parked = bench.runtime.database, end(bench, glass)
    moves.hold_on(database, "*", actor="tester", why="incident")

    assert moves.force(database, parked.id, actor="kim", why="it leaked") is Reason.PROTECTED

    held = bench.carry(parked.id)
    assert (held.state, held.reason, touched(sandbox)) == (State.WAITING, moves.HELD, [])
    moves.hold_off(database, "*", actor="tester", why="over")
    assert bench.carry(parked.id, rounds=9).verdict is Verdict.REVOKED
    told = [row.facts for row in reads.audit_rows(database, parked.id, 100)]
    assert [(row["actor"], row["why"], row["forced"]) for row in told if "forced" in row] == [
        ("kim", "it leaked", "protected")
    ]


def test_force_lasts_for_one_drive(bench: Bench, sandbox: Sandbox) -> None:
    """Driven again by an ordinary retry, the guard is back; our own identity is never given up."""
    glass = sandbox.pangolin.add_service_user("break-glass-1")
    bench.runtime.settings.connection("pangolin").protected.names.append("break-glass-*")
    database, parked = bench.runtime.database, end(bench, glass)
    sandbox.fault("pangolin", status=403, method="DELETE", times=None)

    moves.force(database, parked.id, actor="kim", why="it leaked")
    assert bench.carry(parked.id, rounds=9).reason == Reason.DENIED
    moves.retry(database, parked.id, actor="kim", why="again")
    assert bench.carry(parked.id, rounds=9).reason == Reason.PROTECTED

    own = next(each for each in sandbox.pangolin.service_users.values() if each.name == "revoq-machine")
    ours = end(bench, own, connection="machine")
    moves.force(database, ours.id, actor="kim", why="really")
    assert bench.carry(ours.id, rounds=9).reason == Reason.PROTECTED


@pytest.mark.parametrize("key", [True, False])
def test_the_branch_that_we_sit_on(bench: Bench, sandbox: Sandbox, target: ServiceUser, *, key: bool) -> None:
    """A connection that signs in as a service user ends others, and never that one, by whatever it is named."""
    own = next(each for each in sandbox.pangolin.service_users.values() if each.name == "revoq-machine")

    assert end(bench, own, key=key, connection="machine").reason == Reason.PROTECTED
    assert touched(sandbox) == []
    assert end(bench, target, key=key, connection="machine").verdict is Verdict.REVOKED

    bench.runtime.connections.close()
    assert not any(sandbox.pangolin.is_alive(token) for token in traded(sandbox, own))


# ── answers that tell nothing ─────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("status", [401, 403, 429, 500, 503])
def test_what_says_nothing_ends_nothing(bench: Bench, sandbox: Sandbox, target: ServiceUser, status: int) -> None:
    """A refusal in other words, a refusal for the moment and a broken store are never read as dead."""
    bench.runtime = replace(bench.runtime, settings=bench.runtime.settings.model_copy(update={"retry_for": 0.2}))
    sandbox.fault("pangolin", "status", method="POST", path="*/oauth/*", status=status, headers=SOON, times=50)

    job = bench.carry(bench.submit(RULE, target.key, "pangolin", variables=named(target)), rounds=5)

    assert {outcome for name, outcome in outcomes(bench, job) if name == "probe"} == {"inconclusive"}
    assert touched(sandbox) == []


@pytest.mark.parametrize("status", [401, 403, 429, 500, 503])
def test_what_cannot_be_read_is_not_acted_on(bench: Bench, sandbox: Sandbox, target: ServiceUser, status: int) -> None:
    """Without its key, everything hangs on being able to read it."""
    bench.runtime = replace(bench.runtime, settings=bench.runtime.settings.model_copy(update={"retry_for": 0.2}))
    sandbox.fault("pangolin", "status", method="GET", path="*/service-users/*", status=status, headers=SOON, times=50)

    job = bench.carry(bench.submit(RULE, None, "pangolin", variables=named(target)), rounds=5)

    assert job.reason == (Reason.DENIED if status in {401, 403} else Reason.BUDGET_SPENT)
    assert touched(sandbox) == []


def test_a_key_that_must_not_be_tried(bench: Bench, sandbox: Sandbox, target: ServiceUser) -> None:
    """Its name and tenant are still compared; the end is acknowledged, and no more."""
    assert end(bench, target, probe=False).verdict is Verdict.ACKNOWLEDGED
    assert traded(sandbox, target) == []
    assert target.id not in sandbox.pangolin.service_users


def test_a_dry_run_leaves_nothing_behind(bench: Bench, sandbox: Sandbox, target: ServiceUser) -> None:
    """It tries the key as a job would, takes the token away again, and changes no service user."""
    order = Order(
        rule=RULE, secret=Secret(target.key), connection="pangolin", requester="tester", variables=named(target)
    )

    rehearsal = rehearse(bench.runtime, check(bench.runtime, order))

    assert [coming.planned.name for coming in rehearsal.coming] == ["disable", "delete", "probe"]
    assert touched(sandbox) == []
    (left,) = traded(sandbox, target)
    assert not sandbox.pangolin.is_alive(left)


def named(target: ServiceUser) -> dict[str, str]:
    """The variables that name it."""
    return {"SERVICE_USER_ID": target.id, "SERVICE_USER_NAME": target.name}


def test_a_probe_whose_traces_stay_still_counts(bench: Bench, sandbox: Sandbox, target: ServiceUser) -> None:
    """The token of the look could not be revoked: the verdict is the same, and the step says what lives on."""
    sandbox.fault("pangolin", "status", method="POST", path="/api/v1/auth/revoke", status=500)

    job = bench.run(RULE, target.key, "pangolin", variables=named(target), intent=Intent.PROBE)

    assert job.verdict is Verdict.ALIVE
    (step,) = bench.steps(job)
    assert "could not be taken away" in (step.says or "")
    assert step.evidence["clean_up"]["outcome"] == "lost"  # type: ignore[index]
    (left,) = traded(sandbox, target)
    assert sandbox.pangolin.is_alive(left)


@pytest.mark.usefixtures("store")
@pytest.mark.parametrize("fault", ["drop_before", "drop_after"])
@pytest.mark.parametrize(("method", "key"), [("PUT", True), ("DELETE", True), ("DELETE", False)])
def test_a_lost_answer_is_asked_about(
    bench: Bench, sandbox: Sandbox, target: ServiceUser, fault: str, method: str, *, key: bool
) -> None:
    """Whether the server acted or not, the end is the same, and it is proved."""
    before = sandbox.state()
    sandbox.fault("pangolin", fault, method=method, path="*/service-users/*")

    job = end(bench, target, key=key)

    assert job.verdict is Verdict.REVOKED
    assert others_live(sandbox, before, target.id)
    assert "ask" in [purpose for purpose, _, _ in bench.outline(job)]


def test_a_deletion_that_was_refused_can_be_undone(bench: Bench, sandbox: Sandbox, target: ServiceUser) -> None:
    """It is disabled by then, and is neither called dead nor left so: enabling it again is proved with its key."""
    sandbox.fault("pangolin", "status", method="DELETE", path="*/service-users/*", status=403)

    assert end(bench, target).reason == Reason.DENIED
    assert not sandbox.alive("pangolin", target.id)

    assert end(bench, target, intent=Intent.RESTORE).verdict is Verdict.RESTORED
    assert sandbox.alive("pangolin", target.id)


def test_another_name_is_not_enabled(bench: Bench, sandbox: Sandbox, target: ServiceUser) -> None:
    """The way back looks as closely as the way there."""
    target.active = False

    job = end(bench, target, key=False, intent=Intent.RESTORE, variables={"SERVICE_USER_NAME": "first"})

    assert job.reason == Reason.PROVIDER_BROKEN
    assert touched(sandbox) == []


# ── lists, and tokens of a session ────────────────────────────────────────────────────────────────────────────────


def listed(bench: Bench, rule: str, connection: str = "pangolin", subject: str | None = None) -> Listed:
    """What the rule lists over this connection."""
    loaded = bench.runtime.catalogue.get(rule)
    return list_credentials(bench.runtime.connections.account(connection, loaded), loaded, subject, {})


def test_service_users_are_listed(bench: Bench, sandbox: Sandbox, target: ServiceUser) -> None:
    """Those of our tenant over all pages, with what tells them apart; no key, and nobody else's."""
    for number in range(120):
        sandbox.pangolin.add_service_user(f"more-{number}")
    sandbox.pangolin.add_service_user("foreign", tenant="11111111-0000-4000-8000-000000000001")
    ours = {each.id for each in sandbox.pangolin.service_users.values() if each.tenant == sandbox.pangolin.tenant}

    found = listed(bench, RULE)

    assert {row["id"] for row in found.rows} == ours
    shown = next(row["shown"] for row in found.rows if row["id"] == target.id)
    assert isinstance(shown, dict)
    told = {"id": target.id, "name": "etl", "role": "tenant-user", "active": "true"}
    assert {name: value for name, value in shown.items() if not name.startswith("created")} == told
    assert "pgl_" not in json.dumps(found.rows)


def test_root_lists_nothing(bench: Bench, target: ServiceUser) -> None:
    """Root has no tenant: an empty list proves nothing, and revoking by id and name still works where it owns one."""
    assert listed(bench, RULE, "root").rows == []
    assert end(bench, target, connection="owner").verdict is Verdict.REVOKED


@pytest.mark.usefixtures("store")
def test_a_session_revokes_itself(bench: Bench, sandbox: Sandbox) -> None:
    """A log-in's token is in no list, and ends itself for good all the same."""
    user = sandbox.pangolin.add_user("dana")
    session, other = sandbox.pangolin.add_login(user.id), sandbox.pangolin.add_login(user.id)

    job = bench.run("pangolin.token", session.secret, "pangolin")

    assert job.verdict is Verdict.REVOKED
    assert not sandbox.pangolin.is_alive(session)
    assert sandbox.pangolin.is_alive(other)


def test_what_was_known_of_another_id_is_no_evidence(bench: Bench, sandbox: Sandbox, target: ServiceUser) -> None:
    """Its key was seen to work; handed in beside another's id it is refused, and lives."""
    assert end(bench, target, intent=Intent.PROBE).verdict is Verdict.ALIVE
    other = sandbox.pangolin.add_service_user("other")

    job = bench.run(RULE, target.key, "pangolin", variables={"SERVICE_USER_ID": other.id, "SERVICE_USER_NAME": "other"})

    assert (job.verdict, job.reason) == (None, Reason.NOT_RECOGNISED)
    assert sandbox.alive("pangolin", target.id)
