"""The weekly rotation of Pangolin's service users, as twins and in place, against the pretend server in both of its
stores, with each trap of the real one: no key is lost, nobody loses a right, and what cannot be done says so.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from rules.errors import BadInput
from rules.lifecycle import Intent, Reason, Stage, State, Verdict
from rules.secret import Secret
from scheduler.schedules import advance, open_now
from tests.sandbox import Sandbox
from tests.sandbox.pangolin import DAY, ServiceUser
from tests.worker.bench import Bench, open_bench
from tests.worker.test_providers import hurry
from worker.ledger import moves, reads
from worker.ledger.rows import Job
from worker.schedules import Schedule, Targets

TWIN = "pangolin.service_user"
IN_PLACE = "pangolin.service_user_key"
ELSEWHERE = "11111111-0000-4000-8000-000000000001"
SALES = {"type": "catalog", "catalog_id": "5a1e5000-0000-4000-8000-000000000001"}
RAW = {"type": "namespace", "catalog_id": "5a1e5000-0000-4000-8000-000000000001", "namespace": 'raw "1"'}
FOR_EVER = 10_000
SOON = {"Retry-After": "1"}


class Weekly:
    """A bench with service users whose keys a file sink holds, and what is to be seen of both."""

    def __init__(self, bench: Bench, folder: Path) -> None:
        self.bench, self.folder = bench, folder
        self.server = bench.sandbox.pangolin
        self.target = self.add("etl")

    def add(self, name: str, **options: Any) -> ServiceUser:
        """One more, with its key where its consumer finds it."""
        added = self.server.add_service_user(name, **options)
        self.deliver(added)
        return added

    def deliver(self, held: ServiceUser) -> None:
        """Put a key there, as if it had been delivered before."""
        self.file(held).write_text(json.dumps({"id": held.id, "key": held.key}))

    def file(self, target: ServiceUser) -> Path:
        """Where a consumer looks, whatever its service user is called this week."""
        return self.folder / f"{target.name.partition('~')[0]}.json"

    def delivered(self, target: ServiceUser) -> dict[str, str]:
        """The record that a consumer finds."""
        found: dict[str, str] = json.loads(self.file(target).read_text())
        return found

    def holder(self, target: ServiceUser) -> ServiceUser:
        """The service user that a consumer's record is about; its key has to be the one that is there."""
        record = self.delivered(target)
        found = self.server.service_users[record["id"]]
        assert found.key == record["key"]
        return found

    def submit(self, target: ServiceUser, rule: str = TWIN, connection: str = "pangolin", **options: Any) -> str:
        """Ask for a rotation; its job's id."""
        named = {"SERVICE_USER_ID": target.id, "SERVICE_USER_NAME": target.name}
        return self.bench.submit(
            rule,
            connection=connection,
            intent=Intent.ROTATE,
            variables=named | options.pop("variables", {}),
            sinks=("files",),
            grace=options.pop("grace", 0.0),
            **options,
        )

    def rotate(self, target: ServiceUser | None = None, rule: str = TWIN, **options: Any) -> Job:
        """Rotate, and carry the job to its end."""
        return self.bench.carry(self.submit(target or self.target, rule, **options), rounds=20)

    def retry(self, job: Job) -> Job:
        """Drive it again, and carry it to its end."""
        moves.retry(self.bench.runtime.database, job.id, actor="tester", why="it was mended")
        return self.bench.carry(job.id, rounds=20)

    def mutations(self) -> list[str]:
        """What was asked for that changes something, sign-ins and what they leave apart."""
        calls = self.bench.sandbox.mutations("pangolin", "/api/v1/*")
        return [call.method for call in calls if not call.path.endswith(("/login", "/auth/revoke"))]

    def named(self, base: str) -> list[ServiceUser]:
        """Every service user under this name, suffixed or not."""
        return [each for each in self.server.service_users.values() if each.name.partition("~")[0] == base]

    def stage(self, secret: str, rule: str = TWIN) -> Stage | None:
        """The stage that the ledger gives to a key."""
        fingerprint = self.bench.runtime.safe.fingerprint(Secret(secret))
        found = reads.find_credential(self.bench.runtime.database, fingerprint, rule, "pangolin")
        return None if found is None else found.stage

    def purposes(self, job: Job) -> list[str]:
        """What each step was for."""
        return [purpose for purpose, _, _ in self.bench.outline(job)]


def connect(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Connections as a tenant's administrator, as a service user, and as root with a tenant that it owns."""
    machine = sandbox.pangolin.add_service_user("revoq-machine", "tenant-admin")
    admin = sandbox.pangolin.add_user("revoq-bot", "tenant-admin")
    root = sandbox.pangolin.add_user("root", "root")
    monkeypatch.setenv("TEST_ADMIN", admin.password)
    monkeypatch.setenv("TEST_ROOT", root.password)
    monkeypatch.setenv("TEST_MACHINE", machine.key)
    where = {"provider": "pangolin", "base_url": sandbox.url("pangolin")}
    signed = {"service_user_id": machine.id, "key": "env:TEST_MACHINE", "tenant": machine.tenant}
    return {
        "pangolin": {**where, "identity": {"username": admin.username, "password": "env:TEST_ADMIN"}},
        "machine": {**where, "identity": signed},
        "owner": {
            **where,
            "identity": {"username": root.username, "password": "env:TEST_ROOT"},
            "owns": {"tenant": sandbox.pangolin.tenant},
        },
    }


@pytest.fixture(params=["memory", "postgres"])
def store(request: pytest.FixtureRequest, sandbox: Sandbox) -> str:
    """The real server's traps depend on where it keeps its things."""
    sandbox.switch("pangolin", store=request.param)
    return str(request.param)


def open_weekly(
    folder: Path, url: str, sandbox: Sandbox, connections: Mapping[str, Any], **settings: Any
) -> Iterator[Weekly]:
    """A bench with a file sink."""
    sink = folder / "sink"
    sink.mkdir()
    sinks = {"files": {"kind": "file", "path": f"{sink}/{{name}}.json"}}
    with open_bench(folder, url, sandbox, connections=connections, settings={"sinks": sinks, **settings}) as bench:
        hurry(bench)
        yield Weekly(bench, sink)


@pytest.fixture
def weekly(tmp_path: Path, sqlite_url: str, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> Iterator[Weekly]:
    """On SQLite, where a test is not about the ledger."""
    yield from open_weekly(tmp_path, sqlite_url, sandbox, connect(sandbox, monkeypatch))


@pytest.fixture
def impatient(tmp_path: Path, sqlite_url: str, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> Iterator[Weekly]:
    """One that gives up after a second."""
    yield from open_weekly(tmp_path, sqlite_url, sandbox, connect(sandbox, monkeypatch), retry_for="1s")


@pytest.fixture
def anywhere(tmp_path: Path, database_url: str, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> Iterator[Weekly]:
    """On SQLite and on PostgreSQL."""
    yield from open_weekly(tmp_path, database_url, sandbox, connect(sandbox, monkeypatch))


# ── the twin ──────────────────────────────────────────────────────────────────────────────────────────────────────


def is_rotated(weekly: Weekly, job: Job, old: ServiceUser) -> ServiceUser:
    """Whatever happened on the way: the consumer's record works, and nothing else of this name is left; the twin."""
    assert (job.state, job.verdict) == (State.DONE, Verdict.ROTATED), job.says
    twin = weekly.holder(old)
    assert weekly.named(old.name.partition("~")[0]) == [twin]
    assert weekly.server.may_sign_in(twin)
    assert (twin.role, twin.tenant) == (old.role, old.tenant)
    assert not any(
        weekly.server.is_alive(token)
        for token in weekly.server.tokens.values()
        if not token.username.startswith("revoq")
    )
    return twin


@pytest.mark.usefixtures("store")
def test_a_twin_takes_the_place_of_the_first(anywhere: Weekly) -> None:
    """Every step in its order; at the end one service user is there, and the ledger knows both keys."""
    old = anywhere.target
    job = anywhere.rotate()
    twin = is_rotated(anywhere, job, old)
    assert twin.id != old.id
    assert twin.name == f"etl~{job.id[-8:]}"
    assert twin.description == f"rotated (revoq {job.id})"
    assert anywhere.stage(twin.key) is Stage.CURRENT
    assert anywhere.stage(old.key) is Stage.RETIRED
    assert [(purpose, name, outcome) for purpose, name, outcome in anywhere.bench.outline(job)] == [
        ("read", "target", "ok"),
        ("read", "listed", "ok"),
        ("preflight", "look at files", "ok"),
        ("before", "probe", "alive"),
        ("list", "existing", "ok"),
        ("issue", "create", "ok"),
        ("read", "twin", "ok"),
        ("read", "no_expiry", "ok"),
        ("grant", "copy_roles", "ok"),
        ("grant", "copy_permissions", "ok"),
        ("test", "test", "alive"),
        ("deliver", "deliver to files", "ok"),
        ("read_back", "read back from files", "ok"),
        ("promote", "promote", "ok"),
        ("pause", "grace", "ok"),
        ("used", "used", "ok"),
        ("read", "same_roles", "ok"),
        ("read", "same_permissions", "ok"),
        ("act", "disable_old", "ok"),
        ("act", "delete_old", "ok"),
        ("after", "probe", "dead"),
        ("after", "disabled", "dead"),
    ]


@pytest.mark.usefixtures("store")
def test_next_week_the_twin_is_replaced_by_another_one(weekly: Weekly) -> None:
    """The suffix and the stamp are changed and never added to, and the consumer looks where it always did."""
    weekly.target.description = 'Loads "everything" (nightly)'
    first = is_rotated(weekly, weekly.rotate(), weekly.target)
    job = weekly.rotate(first)
    second = is_rotated(weekly, job, first)
    assert second.name == f"etl~{job.id[-8:]}"
    assert second.description == f'Loads "everything" (nightly) (revoq {job.id})'
    assert [path.name for path in weekly.folder.iterdir() if path.suffix == ".json"] == ["etl.json"]
    assert second.id not in {weekly.target.id, first.id}


@pytest.mark.usefixtures("store")
def test_a_first_delivery_is_proved_by_reading_alone(weekly: Weekly) -> None:
    """No sink tells the old key, so that it cannot be tried; that the server has it no more is proof enough."""
    weekly.file(weekly.target).unlink()
    job = weekly.rotate()
    is_rotated(weekly, job, weekly.target)
    looks = [(name, outcome) for purpose, name, outcome in weekly.bench.outline(job) if purpose in {"before", "after"}]
    assert looks == [("disabled", "dead")]


def test_no_secret_is_written_down(weekly: Weekly) -> None:
    """Neither key, nor a token that one was traded for, is in a step or in the job."""
    job = weekly.rotate()
    written = repr(weekly.bench.steps(job)) + repr(job)
    traded = [token.secret for token in weekly.server.tokens.values()]
    assert not any(secret in written for secret in (weekly.target.key, weekly.delivered(weekly.target)["key"], *traded))


def test_five_of_which_one_is_refused_for_ever(impatient: Weekly) -> None:
    """Four are rotated. The fifth keeps its key, and parks when its time is spent; nothing is left of it."""
    others = [impatient.add(f"etl-{number}") for number in range(4)]
    jobs = [impatient.rotate(other) for other in others]
    impatient.bench.sandbox.fault(
        "pangolin", "status", method="POST", path="*/service-users", status=500, times=FOR_EVER
    )
    failed = impatient.rotate()
    for other, job in zip(others, jobs, strict=True):
        is_rotated(impatient, job, other)
    assert (failed.state, failed.reason) == (State.PARKED, Reason.BUDGET_SPENT), failed.says
    assert impatient.holder(impatient.target) is impatient.target
    assert impatient.named("etl") == [impatient.target]
    impatient.bench.sandbox.clear_faults()
    is_rotated(impatient, impatient.retry(failed), impatient.target)


# ── what hangs on the id ──────────────────────────────────────────────────────────────────────────────────────────


def equip(weekly: Weekly) -> tuple[set[str], list[tuple[str, str]]]:
    """Give the target roles and permissions, some of them twice; what it may then."""
    grant = {"scope": SALES, "actions": ["read", "list"]}
    for number in range(2):
        weekly.server.add_role(f"role-{number}", grant, to=weekly.target.id)
    weekly.server.add_permission(weekly.target.id, SALES, "read", "list")
    weekly.server.add_permission(weekly.target.id, RAW, "write")
    weekly.server.add_permission(weekly.target.id, RAW, "write")
    return weekly.server.may(weekly.target.id)


@pytest.mark.usefixtures("store")
def test_roles_and_permissions_are_copied(weekly: Weekly) -> None:
    """All of them and no others; what a role allows does not become a permission of its own."""
    rights = equip(weekly)
    twin = is_rotated(weekly, weekly.rotate(), weekly.target)
    assert weekly.server.may(twin.id) == rights


@pytest.mark.usefixtures("store")
@pytest.mark.parametrize(
    ("fault", "path", "after"),
    [("drop_before", "*/roles", 0), ("drop_after", "*/roles", 1), ("drop_after", "*/permissions", 1)],
)
def test_a_right_whose_answer_was_lost_is_given_once(weekly: Weekly, fault: str, path: str, after: int) -> None:
    """The lists are read again, and only what is lacking is sent again."""
    rights = equip(weekly)
    weekly.bench.sandbox.fault("pangolin", fault, method="POST", path=path, after=after)
    twin = is_rotated(weekly, weekly.rotate(), weekly.target)
    assert weekly.server.may(twin.id) == rights


def test_rights_that_may_not_be_given_park_before_the_delivery(weekly: Weekly) -> None:
    """The consumer keeps its key, and the new one stays sealed until it may do the same; then it goes on from there."""
    rights = equip(weekly)
    weekly.bench.sandbox.fault("pangolin", "status", method="POST", path="*/permissions", status=403, times=FOR_EVER)
    job = weekly.rotate()
    assert (job.state, job.reason) == (State.PARKED, Reason.DENIED), job.says
    assert weekly.holder(weekly.target) is weekly.target
    weekly.bench.sandbox.clear_faults()
    twin = is_rotated(weekly, weekly.retry(job), weekly.target)
    assert weekly.server.may(twin.id) == rights
    assert weekly.mutations().count("DELETE") == 1


@pytest.mark.usefixtures("store")
@pytest.mark.parametrize("whose", ["old", "new"])
def test_rights_that_differ_park_before_the_old_one_is_retired(weekly: Weekly, whose: str) -> None:
    """Somebody gave one of the two more in the grace period: the consumer works on, and a person says what is right."""
    job_id = weekly.submit(weekly.target, grace=12.0)
    job = weekly.bench.carry(job_id)
    assert job.state is State.WAITING
    twin = weekly.holder(weekly.target)
    lucky, other = (weekly.target, twin) if whose == "old" else (twin, weekly.target)
    weekly.server.add_permission(lucky.id, SALES, "read")
    job = weekly.bench.carry(job_id, rounds=5)
    assert (job.state, job.reason) == (State.PARKED, Reason.PROVIDER_BROKEN)
    assert ("1 lacking" if whose == "old" else "1 too many") in (job.says or "")
    assert weekly.server.may_sign_in(weekly.target)
    assert weekly.server.may_sign_in(twin)
    weekly.server.add_permission(other.id, SALES, "read")
    is_rotated(weekly, weekly.retry(job), weekly.target)


def test_a_hold_in_the_midst_of_copying_stops_it(weekly: Weekly) -> None:
    """No second right is given while it is on; lifted, the rest is."""
    rights = equip(weekly)
    database = weekly.bench.runtime.database
    give = weekly.server.add_permission

    def give_and_hold(*told: Any, **options: Any) -> dict[str, Any]:
        moves.hold_on(database, "pangolin", actor="tester", why="one moment")
        return give(*told, **options)

    weekly.server.add_permission = give_and_hold  # type: ignore[method-assign]
    job = weekly.bench.carry(weekly.submit(weekly.target))
    weekly.server.add_permission = give  # type: ignore[method-assign]
    assert job.state is State.WAITING
    (twin,) = [each for each in weekly.named("etl") if each is not weekly.target]
    assert len(weekly.server.may(twin.id)[1]) == 1
    moves.hold_off(database, "pangolin", actor="tester", why="it is over")
    assert weekly.server.may(is_rotated(weekly, weekly.bench.carry(job.id, rounds=20), weekly.target).id) == rights


@pytest.mark.parametrize("days", [None, 1, 40])
def test_the_twin_lives_as_long_as_the_first_would_have(weekly: Weekly, days: int | None) -> None:
    """Its time is not begun anew: the twin ends half a day away from it at most, or never, where it never would."""
    old = weekly.add("dated", expires_in_days=days)
    if old.expires is not None:
        old.expires -= 0.3 * DAY
    twin = is_rotated(weekly, weekly.rotate(old), old)
    if old.expires is None:
        assert twin.expires is None
    else:
        assert abs((twin.expires or 0) - old.expires) < DAY / 2


@pytest.mark.parametrize("ended", ["disabled", "expired"])
@pytest.mark.parametrize("rule", [TWIN])
def test_what_somebody_ended_is_not_brought_back(weekly: Weekly, rule: str, ended: str) -> None:
    """Neither a service user that is disabled nor one whose time is over gets a twin."""
    old = weekly.add("ended", expires_in_days=1)
    old.active = ended == "expired"
    old.expires = None if ended == "disabled" else weekly.server.clock.now() - DAY
    job = weekly.rotate(old, rule)
    assert job.state is State.PARKED
    assert ("disabled" if ended == "disabled" else "has passed") in (job.says or "")
    assert weekly.mutations() == []


# ── answers that never came ───────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.usefixtures("store")
@pytest.mark.parametrize(
    ("fault", "method", "path"),
    [
        ("drop_before", "POST", "*/service-users"),
        ("drop_after", "POST", "*/service-users"),
        ("cut", "POST", "*/service-users"),
        ("drop_before", "PUT", "*/service-users/*"),
        ("drop_after", "PUT", "*/service-users/*"),
        ("drop_before", "DELETE", "*/service-users/*"),
        ("drop_after", "DELETE", "*/service-users/*"),
        ("drop_after", "POST", "*/oauth/tokens"),
        ("drop_before", "GET", "*/service-users/*"),
    ],
)
def test_a_lost_answer_is_resolved_by_asking(weekly: Weekly, fault: str, method: str, path: str) -> None:
    """At every call: one service user is left, and it is the one in the sink."""
    weekly.bench.sandbox.fault("pangolin", fault, method=method, path=path)
    job = weekly.rotate()
    if path.endswith(
        "tokens"
    ):  # A token that nobody ever saw cannot be revoked; it lives for an hour, as the rule says.
        weekly.server.tokens.clear()
    is_rotated(weekly, job, weekly.target)


@pytest.mark.usefixtures("store")
def test_a_twin_that_nobody_holds_is_deleted_and_made_again(anywhere: Weekly) -> None:
    """The server made it and its answer was lost, and so was the one to its deletion: it is found by its stamp."""
    sandbox = anywhere.bench.sandbox
    sandbox.fault("pangolin", "drop_after", method="POST", path="*/service-users")
    sandbox.fault("pangolin", "drop_after", method="DELETE", path="*/service-users/*")
    job = anywhere.rotate()
    is_rotated(anywhere, job, anywhere.target)
    assert (anywhere.purposes(job).count("issue"), anywhere.purposes(job).count("discard")) == (2, 1)


# ── the wrong one ─────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.usefixtures("store")
@pytest.mark.parametrize("rule", [TWIN, IN_PLACE])
def test_a_mistyped_id_rotates_nobody(weekly: Weekly, rule: str) -> None:
    """Its name is another's, its tenant is another's, or nobody has it: the server would not have minded."""
    other = weekly.add("payroll")
    foreign = weekly.add("etl", tenant=ELSEWHERE)
    asked = {"SERVICE_USER_NAME": "etl"}
    jobs = [
        weekly.rotate(rule=rule, variables={**asked, "SERVICE_USER_ID": identifier})
        for identifier in (other.id, foreign.id, "00000000-0000-4000-8000-000000000000")
    ]
    assert [job.reason for job in jobs] == [Reason.NOT_RECOGNISED, Reason.NOT_OURS, Reason.NOT_RECOGNISED]
    assert weekly.mutations() == []


@pytest.mark.parametrize("rule", [TWIN, IN_PLACE])
def test_root_makes_no_twin_outside_of_every_tenant(weekly: Weekly, rule: str) -> None:
    """What it creates would be nobody's, and its list is empty."""
    job = weekly.rotate(rule=rule, connection="owner")
    assert (job.state, job.reason) == (State.PARKED, Reason.NOT_RECOGNISED)
    assert weekly.mutations() == []


@pytest.mark.parametrize("rule", [TWIN, IN_PLACE])
def test_the_identity_that_signs_in_is_never_rotated(weekly: Weekly, rule: str) -> None:
    """A connection that is a service user itself rotates others, and not the branch that it sits on."""
    own = next(each for each in weekly.server.service_users.values() if each.name == "revoq-machine")
    weekly.deliver(own)
    job = weekly.rotate(own, rule, connection="machine")
    assert (job.state, job.reason) == (State.PARKED, Reason.PROTECTED)
    assert weekly.mutations() == []
    done = weekly.rotate(rule=rule, connection="machine")
    assert done.verdict is Verdict.ROTATED, done.says


# ── in place ──────────────────────────────────────────────────────────────────────────────────────────────────────


def is_replaced(weekly: Weekly, job: Job, before: str) -> None:
    """The same service user has another key, which its consumer finds."""
    assert (job.state, job.verdict) == (State.DONE, Verdict.ROTATED), job.says
    assert weekly.holder(weekly.target) is weekly.target
    assert weekly.target.key != before
    assert weekly.named("etl") == [weekly.target]


def test_in_place_the_same_service_user_gets_another_key(anywhere: Weekly) -> None:
    """Its id and what hangs on it stay, and the old key is proved dead."""
    rights, before = equip(anywhere), anywhere.target.key
    job = anywhere.rotate(rule=IN_PLACE)
    is_replaced(anywhere, job, before)
    assert anywhere.server.may(anywhere.target.id) == rights
    assert anywhere.stage(before, IN_PLACE) is Stage.RETIRED
    assert anywhere.stage(anywhere.target.key, IN_PLACE) is Stage.CURRENT
    assert anywhere.bench.outline(job)[-1] == ("after", "old", "dead")


@pytest.mark.parametrize(("fault", "rotated"), [("drop_before", 1), ("drop_after", 2), ("cut", 2)])
def test_in_place_the_old_key_tells_what_a_lost_answer_meant(weekly: Weekly, fault: str, rotated: int) -> None:
    """Alive: nothing was done, and it is asked for again. Dead: the new key is lost, and another one made at once."""
    before = weekly.target.key
    weekly.bench.sandbox.fault("pangolin", fault, method="POST", path="*/rotate")
    job = weekly.rotate(rule=IN_PLACE)
    is_replaced(weekly, job, before)
    asked = [(name, outcome) for purpose, name, outcome in weekly.bench.outline(job) if purpose == "ask"]
    assert asked == [("old", "alive" if rotated == 1 else "dead")]


def test_in_place_a_server_with_sql_refuses_for_ever(weekly: Weekly) -> None:
    """The 500 does not pass: it is asked once, the old key is seen to work, and the job says what to take instead."""
    weekly.bench.sandbox.switch("pangolin", store="postgres")
    before = weekly.target.key
    job = weekly.rotate(rule=IN_PLACE)
    assert (job.state, job.reason) == (State.PARKED, Reason.PROVIDER_BROKEN)
    assert "keeps its things in SQL" in (job.says or "")
    assert "the old key still works" in (job.says or "")
    assert weekly.mutations() == ["POST"]
    assert weekly.holder(weekly.target).key == before
    is_rotated(weekly, weekly.rotate(), weekly.target)


def test_in_place_an_answer_without_its_key_is_an_incident(weekly: Weekly) -> None:
    """The server says yes, the old key is dead, and the new one was never shown."""
    weekly.bench.sandbox.fault("pangolin", "wrong_json", method="POST", path="*/rotate", handled=True)
    job = weekly.rotate(rule=IN_PLACE)
    assert (job.state, job.reason) == (State.PARKED, Reason.OUTCOME_UNKNOWN), job.says
    before = weekly.target.key
    is_replaced(weekly, weekly.retry(job), before)


def test_in_place_nothing_is_done_where_no_sink_has_the_old_key(weekly: Weekly) -> None:
    """There is no overlap, so that a sink that is not ready would be an outage."""
    weekly.file(weekly.target).unlink()
    job = weekly.rotate(rule=IN_PLACE)
    assert (job.state, job.reason) == (State.PARKED, Reason.SINK_FAILED)
    assert weekly.mutations() == []


# ── the path of the consumer ──────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.usefixtures("store")
def test_where_x_api_key_takes_no_new_key_the_consumer_keeps_its_own(weekly: Weekly) -> None:
    """Such a key would be good by OAuth; who uses it asks otherwise, and so does the test."""
    job = weekly.rotate(variables={"X_API_KEY": "yes"})
    assert (job.state, job.reason) == (State.PARKED, Reason.PROVIDER_BROKEN)
    assert "PANGOLIN_ALLOW_LEGACY_API_KEYS" in (job.says or "")
    assert weekly.holder(weekly.target) is weekly.target
    assert weekly.server.may_sign_in(weekly.target)
    weekly.bench.sandbox.switch("pangolin", legacy_keys=True)
    is_rotated(weekly, weekly.retry(job), weekly.target)


def test_by_oauth_no_key_is_ever_sent_as_x_api_key(weekly: Weekly) -> None:
    """Each such refusal would be an event there."""
    is_rotated(weekly, weekly.rotate(), weekly.target)
    assert weekly.server.rejected_api_keys == 0


@pytest.mark.parametrize("rule", [TWIN, IN_PLACE])
def test_what_a_test_leaves_is_taken_away(weekly: Weekly, rule: str) -> None:
    """Every token that a key was traded for has revoked itself, and the others live."""
    bystander = weekly.server.add_login(weekly.server.add_user("dana").id)
    assert weekly.rotate(rule=rule).verdict is Verdict.ROTATED
    traded = [token for token in weekly.server.tokens.values() if token.username.startswith("etl")]
    assert traded
    assert not any(weekly.server.is_alive(token) for token in traded)
    assert weekly.server.is_alive(bystander)


@pytest.mark.parametrize("status", [401, 429, 503])
def test_a_test_that_tells_nothing_delivers_nothing(impatient: Weekly, status: int) -> None:
    """A refusal in other words, or for the moment: neither dead nor alive."""
    impatient.bench.sandbox.fault(
        "pangolin", "status", method="POST", path="*/oauth/*", status=status, headers=SOON, times=FOR_EVER, after=1
    )
    job = impatient.rotate()
    assert (job.state, job.reason) == (State.PARKED, Reason.BUDGET_SPENT), job.says
    assert impatient.holder(impatient.target) is impatient.target


def test_an_old_key_that_is_still_used_is_not_retired(weekly: Weekly) -> None:
    """Somebody traded it after the new one had taken its place."""
    job_id = weekly.submit(weekly.target, grace=12.0)
    assert weekly.bench.carry(job_id).state is State.WAITING
    weekly.target.last_used = weekly.server.clock.now() + 5
    job = weekly.bench.carry(job_id, rounds=5)
    assert (job.state, job.reason) == (State.PARKED, Reason.STILL_IN_USE)
    assert weekly.server.may_sign_in(weekly.target)
    assert weekly.server.may_sign_in(weekly.holder(weekly.target))


def test_a_schedule_has_new_keys_tried_on_their_consumers_path(weekly: Weekly) -> None:
    """Where what uses the keys signs in by X-API-Key, the schedule says so for all of them."""
    weekly.bench.sandbox.switch("pangolin", legacy_keys=True)
    runtime = weekly.bench.runtime
    schedule = Schedule(
        name="weekly",
        intent="rotate",
        rule=TWIN,
        connection="pangolin",
        cron="0 3 * * MON",
        targets=Targets(names=["etl"]),
        variables={"X_API_KEY": "yes"},
        sinks=["files"],
    )
    open_now(runtime, schedule, "tester")
    (job_id,) = advance(runtime, schedule)
    job = weekly.bench.carry(job_id)
    assert ("read", "as_api_key", "ok") in weekly.bench.outline(job)
    assert weekly.holder(weekly.target) is not weekly.target


# ── a first key ───────────────────────────────────────────────────────────────────────────────────────────────────


def issue(weekly: Weekly, rule: str = TWIN, **variables: str) -> Job:
    """Ask for a new key, and carry the job to its end."""
    job_id = weekly.bench.submit(
        rule, connection="pangolin", intent=Intent.ISSUE, variables=variables, sinks=("files",)
    )
    return weekly.bench.carry(job_id, rounds=20)


@pytest.mark.usefixtures("store")
def test_a_new_service_user_goes_straight_into_its_sink(anywhere: Weekly) -> None:
    """It has the role that was asked for and signs in, nobody saw its key, and it is rotated like any other."""
    job = issue(anywhere, SERVICE_USER_NAME="fresh", ROLE="tenant-user")
    assert (job.state, job.verdict) == (State.DONE, Verdict.ISSUED), job.says
    (made,) = anywhere.named("fresh")
    assert anywhere.holder(made) is made
    assert anywhere.server.may_sign_in(made)
    assert (made.role, made.tenant, made.expires) == ("tenant-user", anywhere.server.tenant, None)
    assert made.description == f"issued (revoq {job.id})"
    assert made.key not in repr(anywhere.bench.steps(job)) + repr(job)
    is_rotated(anywhere, anywhere.rotate(made), made)


@pytest.mark.usefixtures("store")
def test_a_new_service_user_whose_answer_is_lost_is_found_and_made_again(weekly: Weekly) -> None:
    """The one that nobody holds a key of is deleted; at the end there is one."""
    weekly.bench.sandbox.fault("pangolin", "cut", method="POST", path="*/service-users")
    job = issue(weekly, SERVICE_USER_NAME="fresh", ROLE="tenant-user")
    assert job.verdict is Verdict.ISSUED, job.says
    (made,) = weekly.named("fresh")
    assert weekly.holder(made) is made


def test_a_new_service_user_needs_a_role(weekly: Weekly) -> None:
    """What cannot be known is asked for before anything is written; root is nobody's to give."""
    with pytest.raises(BadInput, match=r"needs ROLE: give --var ROLE=…"):
        issue(weekly, SERVICE_USER_NAME="fresh")
    with pytest.raises(BadInput, match=r"ROLE .* expected tenant-user\|tenant-admin"):
        issue(weekly, SERVICE_USER_NAME="fresh", ROLE="root")
    assert weekly.mutations() == []


def test_a_sink_that_holds_a_key_is_no_place_for_a_new_one(weekly: Weekly) -> None:
    """Nothing is made."""
    job = issue(weekly, SERVICE_USER_NAME="etl", ROLE="tenant-user")
    assert job.reason == Reason.SINK_FAILED
    assert weekly.mutations() == []


def test_a_service_user_without_a_known_key_gets_one_in_place(weekly: Weekly) -> None:
    """It is read first, keeps its id, and its new key is where its consumer looks."""
    weekly.file(weekly.target).unlink()
    before = weekly.target.key
    named = {"SERVICE_USER_ID": weekly.target.id, "SERVICE_USER_NAME": "etl"}
    job = issue(weekly, IN_PLACE, **named)
    assert job.verdict is Verdict.ISSUED, job.says
    assert weekly.holder(weekly.target) is weekly.target
    assert weekly.target.key != before
    assert weekly.purposes(job)[:2] == ["read", "read"]


def test_in_place_a_lost_answer_is_asked_for_again(weekly: Weekly) -> None:
    """There is one key at a time, and nobody is known to use the one before."""
    weekly.file(weekly.target).unlink()
    weekly.bench.sandbox.fault("pangolin", "cut", method="POST", path="*/rotate")
    job = issue(weekly, IN_PLACE, SERVICE_USER_ID=weekly.target.id, SERVICE_USER_NAME="etl")
    assert job.verdict is Verdict.ISSUED, job.says
    assert weekly.holder(weekly.target) is weekly.target


@pytest.mark.parametrize("rule", [TWIN, IN_PLACE])
def test_no_key_is_issued_for_a_mistyped_id(weekly: Weekly, rule: str) -> None:
    """The server would give one for anybody's id, whatever its name."""
    other = weekly.server.add_service_user("payroll")
    weekly.file(weekly.target).unlink()
    job = issue(weekly, rule, SERVICE_USER_ID=other.id, SERVICE_USER_NAME="etl")
    assert job.reason == Reason.NOT_RECOGNISED, job.says
    assert weekly.mutations() == []
