"""The rotations of the rules that revoq brings along, each against the real server where there is one, or its sandbox.

What every rotation does in which order is `test_rotation`'s; here it is what a rule asks of its provider.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from rules.errors import MoveRefused
from rules.lifecycle import Intent, Reason, Stage, State, Verdict
from rules.secret import Secret
from scheduler.schedules import advance, open_now, rehearse, unusable_rules
from tests.sandbox import Sandbox
from tests.servers.front import Front, open_front
from tests.servers.hub import Hub
from tests.servers.moto import Key, Moto
from tests.worker.bench import Bench, open_bench
from worker.errors import ConnectionUnusable
from worker.ledger import moves, reads
from worker.ledger.rows import Job
from worker.listing import list_credentials
from worker.schedules import Schedule, Targets

LONG = 3600.0
"""A grace period that no test waits for."""


def rotate(bench: Bench, rule: str, connection: str, sink: str = "files", **options: Any) -> Job:
    """Rotate a key, and carry the job as far as it goes without a wait of ten seconds or more."""
    job_id = bench.submit(rule, connection=connection, intent=Intent.ROTATE, sinks=(sink,), **options)
    return bench.carry(job_id)


def go_back(bench: Bench, job: Job) -> Job:
    """Turn a rotation round as a person would, and carry it."""
    moves.roll_back(bench.runtime.database, job.id, actor="tester", why="the new key is missed by nobody")
    return bench.carry(job.id)


def stage(bench: Bench, secret: str, rule: str, connection: str) -> Stage | None:
    """The stage that the ledger gives to a key."""
    fingerprint = bench.runtime.safe.fingerprint(Secret(secret))
    found = reads.find_credential(bench.runtime.database, fingerprint, rule, connection)
    return None if found is None else found.stage


def purposes(bench: Bench, job: Job) -> list[str]:
    """What was done, in its order."""
    return [purpose for purpose, _, _ in bench.outline(job)]


@contextmanager
def meanwhile(begun: Callable[[], object], act: Callable[[], object]) -> Iterator[None]:
    """Do something in another thread, as soon as something has begun."""

    def watch() -> None:
        while not begun():
            time.sleep(0.01)
        act()

    thread = threading.Thread(target=watch)
    thread.start()
    yield
    thread.join()


# ── AWS, on moto ──────────────────────────────────────────────────────────────────────────────────────────────────


class OnAws:
    """A user whose key lies in Secrets Manager, with an administrator's key as the connection's."""

    def __init__(self, bench: Bench, moto: Moto, front: Front, admin: Key, key: Key) -> None:
        self.bench, self.moto, self.front, self.admin, self.key = bench, moto, front, admin, key

    @property
    def secrets(self) -> Any:
        """A client of its own for what the sink holds."""
        return self.moto.client("secretsmanager", self.admin)

    def delivered(self, stage: str = "AWSCURRENT") -> dict[str, str]:
        """The record that the consumer finds."""
        said = self.secrets.get_secret_value(SecretId="services/etl", VersionStage=stage)
        found: dict[str, str] = json.loads(said["SecretString"])
        return found

    def rotate(self, **options: Any) -> Job:
        """Rotate the user's key by its id alone."""
        return rotate(self.bench, "aws.service_key", "aws", "manager", variables={"AKID": self.key.id}, **options)

    def statuses(self) -> dict[str, str]:
        """The user's keys, asked by the administrator."""
        rows = self.moto.iam(self.admin).list_access_keys(UserName="etl")["AccessKeyMetadata"]
        return {row["AccessKeyId"]: row["Status"] for row in rows}

    def stage(self, secret: str) -> Stage | None:
        """The stage of one of the user's keys."""
        return stage(self.bench, secret, "aws.service_key", "aws")


@pytest.fixture
def on_aws(
    tmp_path: Path, sqlite_url: str, sandbox: Sandbox, moto: Moto, monkeypatch: pytest.MonkeyPatch
) -> Iterator[OnAws]:
    """The connection goes through a front door that can lose an answer; the sink does not."""
    for user in ("admin", "etl"):
        moto.add_user(user)
    admin, key = moto.add_key("admin"), moto.add_key("etl")
    record = json.dumps({"access_key_id": key.id, "secret_access_key": key.secret})
    moto.client("secretsmanager").create_secret(Name="services/etl", SecretString=record)
    moto.demand_signatures()
    monkeypatch.setenv("TEST_AWS_SECRET", admin.secret)
    signs = {"access_key_id": admin.id, "secret_access_key": "env:TEST_AWS_SECRET"}
    place = {"kind": "aws_secrets_manager", "region": "us-east-1", "base_url": moto.url, "path": "services/{name}"}
    port = urlsplit(moto.url).port
    assert port is not None
    with open_front("127.0.0.1", port) as front:
        connections = {"aws": {"provider": "aws", "base_url": front.url, "identity": signs}}
        settings = {"sinks": {"manager": {**place, **signs}}}
        with open_bench(tmp_path, sqlite_url, sandbox, connections=connections, settings=settings) as bench:
            yield OnAws(bench, moto, front, admin, key)


def test_aws_a_second_key_is_delivered_and_the_first_deleted(on_aws: OnAws) -> None:
    """Read back from Secrets Manager, where the old record stays as AWSPREVIOUS; the old key is dead by its probe."""
    old = on_aws.key

    job = on_aws.rotate(grace=0.0)

    assert job.verdict is Verdict.ROTATED, job.says
    new = on_aws.delivered()
    assert on_aws.statuses() == {new["access_key_id"]: "Active"}
    assert on_aws.delivered("AWSPREVIOUS") == {"access_key_id": old.id, "secret_access_key": old.secret}
    assert on_aws.stage(new["secret_access_key"]) is Stage.CURRENT
    assert on_aws.stage(old.secret) is Stage.RETIRED
    done = [(purpose, name) for purpose, name, _ in on_aws.bench.outline(job)]
    assert done[-5:-2] == [("act", "deactivate_old"), ("pause", "before_the_end"), ("act", "delete_old")]
    assert on_aws.bench.outline(job)[-2:] == [("after", "probe", "dead")] * 2
    assert new["secret_access_key"] not in repr(on_aws.bench.steps(job))


def test_aws_in_the_grace_period_the_old_key_is_put_back(on_aws: OnAws) -> None:
    """Both keys live; then the sink holds the old one again, and the new one is deleted and proved dead."""
    old = {"access_key_id": on_aws.key.id, "secret_access_key": on_aws.key.secret}
    job = on_aws.rotate(grace=LONG)
    assert job.state is State.WAITING
    new = on_aws.delivered()
    assert on_aws.statuses() == {on_aws.key.id: "Active", new["access_key_id"]: "Active"}

    job = go_back(on_aws.bench, job)

    assert (job.state, job.verdict) == (State.DONE, Verdict.ROLLED_BACK), job.says
    assert on_aws.delivered() == old
    assert on_aws.statuses() == {on_aws.key.id: "Active"}
    assert on_aws.stage(on_aws.key.secret) is Stage.CURRENT
    assert on_aws.stage(new["secret_access_key"]) is Stage.RETIRED
    back = purposes(on_aws.bench, job)
    assert back[back.index("still") :] == ["still", "put_back", "seen_back", "demote", "withdraw", "gone"]


def test_aws_a_lost_answer_leaves_no_key_behind(on_aws: OnAws) -> None:
    """The key that was made and that nobody holds is deleted, and another one is made."""
    on_aws.front.lose_next_answer("POST", "Action=CreateAccessKey")

    job = on_aws.rotate(grace=0.0)

    assert job.verdict is Verdict.ROTATED, job.says
    done = purposes(on_aws.bench, job)
    assert (done.count("issue"), done.count("discard")) == (2, 1)
    assert on_aws.statuses() == {on_aws.delivered()["access_key_id"]: "Active"}


def test_aws_a_user_with_two_keys_has_no_room(on_aws: OnAws) -> None:
    """Nothing is issued, and the sentence says which keys there are and what to do."""
    other = on_aws.moto.iam(on_aws.admin).create_access_key(UserName="etl")["AccessKey"]["AccessKeyId"]

    job = on_aws.rotate()

    assert (job.state, job.reason) == (State.PARKED, Reason.NO_ROOM)
    assert other in (job.says or "")
    assert "delete one that nobody uses" in (job.says or "")
    assert "issue" not in purposes(on_aws.bench, job)


def test_aws_the_key_of_another_user_is_refused(on_aws: OnAws) -> None:
    """Where the user is named, the id has to be one of that user's keys."""
    variables = {"AKID": on_aws.key.id, "USER_NAME": "admin"}

    job = rotate(on_aws.bench, "aws.service_key", "aws", "manager", variables=variables)

    assert (job.state, job.reason) == (State.PARKED, Reason.NOT_RECOGNISED)
    assert list(on_aws.statuses()) == [on_aws.key.id]


def test_there_is_no_way_back_from_a_key_that_is_being_retired(on_aws: OnAws) -> None:
    """Nor from a job that has ended, or that has made nothing yet."""
    job = on_aws.rotate(grace=0.0)

    with pytest.raises(MoveRefused, match="cannot be turned back"):
        go_back(on_aws.bench, job)


def test_aws_a_schedule_lists_a_users_keys_and_rotates_them(on_aws: OnAws) -> None:
    """The list says whose they are and which are active; a variable of the schedule comes to every job."""
    runtime = on_aws.bench.runtime
    schedule = Schedule(
        name="weekly",
        intent="rotate",
        rule="aws.service_key",
        connection="aws",
        cron="0 3 * * MON",
        targets=Targets(subjects=["etl"], roles=["Active"]),
        variables={"REGION": "eu-central-1"},
        sinks=["manager"],
    )
    assert unusable_rules({"weekly": schedule}, runtime.catalogue) == []
    ((row, why),) = rehearse(runtime, schedule, "tester")
    assert (row.target, row.name, row.role, why) == (f"etl/{on_aws.key.id}", "etl", "Active", "")
    assert row.born is not None

    open_now(runtime, schedule, "tester")
    (job_id,) = advance(runtime, schedule)
    job = on_aws.bench.carry(job_id)

    assert job.state is State.WAITING, job.says
    assert job.inputs == {"AKID": on_aws.key.id, "USER_NAME": "etl", "REGION": "eu-central-1"}
    new = on_aws.delivered()["access_key_id"]
    assert on_aws.statuses() == {on_aws.key.id: "Active", new: "Active"}


def test_aws_a_list_that_may_not_be_read_says_so(on_aws: OnAws) -> None:
    """There is no such user; nothing is taken for an empty list."""
    runtime = on_aws.bench.runtime
    loaded = runtime.catalogue.get("aws.service_key")

    with pytest.raises(ConnectionUnusable, match="AWS list answered 404: the list cannot be read"):
        list_credentials(runtime.connections.account("aws", loaded), loaded, "nobody", {})


# ── JupyterHub, the real one ──────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def on_hub(
    tmp_path: Path, sqlite_url: str, sandbox: Sandbox, jupyterhub: Hub, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Bench]:
    """A connection to the hub, and a folder as the sink."""
    monkeypatch.setenv("TEST_HUB_TOKEN", jupyterhub.admin_token)
    identity = {"token": "env:TEST_HUB_TOKEN"}
    connections = {"hub": {"provider": "jupyterhub", "base_url": jupyterhub.base_url, "identity": identity}}
    settings = {"sinks": {"files": {"kind": "file", "path": f"{tmp_path}/{{name}}.json"}}, "request_timeout": "8s"}
    with open_bench(tmp_path, sqlite_url, sandbox, connections=connections, settings=settings) as bench:
        yield bench


def test_jupyterhub_the_right_token_dies_and_the_new_one_may_do_the_same(
    on_hub: Bench, jupyterhub: Hub, tmp_path: Path
) -> None:
    """One of three tokens of a user, narrower than the others; a lost answer on the way leaves nothing behind."""
    jupyterhub.create_user("rotated")
    others = [jupyterhub.create_token("rotated", "laptop"), jupyterhub.create_token("rotated", "ci")]
    scopes = ["read:users:name!user=rotated", "access:servers!user=rotated"]
    made = jupyterhub.ask("POST", "/users/rotated/tokens", json={"note": "loader", "scopes": scopes}).json()
    file = tmp_path / "loader.json"
    file.write_text(json.dumps({"id": made["id"], "token": made["token"]}))
    jupyterhub.front.lose_next_answer("POST", "/users/rotated/tokens")

    variables = {"USER": "rotated", "TOKEN_ID": made["id"]}
    job = rotate(on_hub, "jupyterhub.service_token", "hub", variables=variables, grace=0.0)

    assert job.verdict is Verdict.ROTATED, job.says
    assert purposes(on_hub, job).count("discard") == 1
    new = json.loads(file.read_text())
    assert jupyterhub.status_of(made["token"]) == 403
    assert [jupyterhub.status_of(token) for _, token in [*others, ("", new["token"])]] == [200, 200, 200]
    rows = {row["id"]: row for row in jupyterhub.list_tokens("rotated")}
    assert set(rows) == {new["id"], *(identifier for identifier, _ in others)}
    assert set(rows[new["id"]]["scopes"]) == set(made["scopes"])
    assert rows[new["id"]]["note"] == f"loader~{job.id}"


def test_jupyterhub_a_new_token_is_issued_straight_into_its_sink(
    on_hub: Bench, jupyterhub: Hub, tmp_path: Path
) -> None:
    """With the scopes that are asked for, and shown to nobody."""
    jupyterhub.create_user("issued")
    scopes = '["read:users:name!user=issued"]'

    job = on_hub.run(
        "jupyterhub.service_token",
        connection="hub",
        intent=Intent.ISSUE,
        variables={"USER": "issued", "NOTE": "fresh", "SCOPES": scopes},
        sinks=("files",),
    )

    assert job.verdict is Verdict.ISSUED, job.says
    assert jupyterhub.status_of(json.loads((tmp_path / "fresh.json").read_text())["token"]) == 200


# ── in the sandbox ────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def pretending(
    tmp_path: Path, sqlite_url: str, sandbox: Sandbox, connected: Mapping[str, Any], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Bench]:
    """Connections to all pretend providers, a folder, and a pretend Vault."""
    secrets = {
        "GITLAB": sandbox.gitlab.add_token("revoq").secret,
        "CLOUDFLARE": sandbox.cloudflare.add_token("revoq", writes=True).secret,
        "VAULT": sandbox.vault_kv.add_token().token,
    }
    for name, secret in secrets.items():
        monkeypatch.setenv(f"TEST_{name}_TOKEN", secret)
    more = {
        name: {"provider": name, "base_url": sandbox.url(name), "identity": {"token": f"env:TEST_{name.upper()}_TOKEN"}}
        for name in ("gitlab", "cloudflare")
    }
    vault = {"kind": "vault", "url": sandbox.url("vault_kv"), "mount": "kv", "path": "services/{name}"}
    sinks = {
        "files": {"kind": "file", "path": f"{tmp_path}/{{name}}.json"},
        "vault": {**vault, "token": "env:TEST_VAULT_TOKEN"},
    }
    connections = {**connected, **more}
    with open_bench(tmp_path, sqlite_url, sandbox, connections=connections, settings={"sinks": sinks}) as bench:
        yield bench


def put(tmp_path: Path, name: str, record: Mapping[str, object]) -> Path:
    """Put a record there, as if it had been delivered before."""
    file = tmp_path / f"{name}.json"
    file.write_text(json.dumps({field: str(value) for field, value in record.items()}))
    return file


def test_sendgrid_the_new_key_has_the_same_scopes(pretending: Bench, sandbox: Sandbox, tmp_path: Path) -> None:
    """Not one more: a key that is made without scopes may do everything."""
    old = sandbox.sendgrid.add_key("shop", ["mail.send"])
    file = put(tmp_path, "shop", {"id": old.id, "key": old.secret})

    job = rotate(pretending, "sendgrid.service_key", "sendgrid-demo", variables={"KEY_ID": old.id}, grace=0.0)

    assert job.verdict is Verdict.ROTATED, job.says
    new = sandbox.sendgrid.by_secret[json.loads(file.read_text())["key"]]
    assert (new.alive, new.scopes, new.name) == (True, ["mail.send"], f"shop~{job.id}")
    assert not sandbox.alive("sendgrid", old.id)
    assert stage(pretending, old.secret, "sendgrid.service_key", "sendgrid-demo") is Stage.RETIRED


def test_sendgrid_other_scopes_are_not_delivered(pretending: Bench, sandbox: Sandbox, tmp_path: Path) -> None:
    """The provider gave the new key another scope: the old one stays where it is, and works."""
    old = sandbox.sendgrid.add_key("shop", ["mail.send"])
    file = put(tmp_path, "shop", {"id": old.id, "key": old.secret})

    def widen() -> None:
        (new,) = [key for key in sandbox.sendgrid.keys.values() if key.name.startswith("shop~")]
        new.scopes.append("api_keys.delete")

    sandbox.fault("sendgrid", "delay_after", method="POST", seconds=0.5)
    with meanwhile(lambda: sandbox.calls("sendgrid", "POST") and sandbox.calls("sendgrid", "POST")[0].handled, widen):
        job = rotate(pretending, "sendgrid.service_key", "sendgrid-demo", variables={"KEY_ID": old.id}, grace=0.0)

    assert (job.state, job.reason) == (State.PARKED, Reason.PROVIDER_BROKEN)
    assert "sealed" in (job.says or "")
    assert json.loads(file.read_text())["id"] == old.id
    assert sandbox.alive("sendgrid", old.id)


def test_sendgrid_our_own_key_is_not_replaced(pretending: Bench, sandbox: Sandbox) -> None:
    """Named by its id alone, and with nothing in the sink that would tell its secret: its id is inside ours."""
    (own,) = [key for key in sandbox.sendgrid.keys.values() if key.name == "revoq"]

    job = rotate(pretending, "sendgrid.service_key", "sendgrid-demo", variables={"KEY_ID": own.id}, grace=0.0)

    assert (job.state, job.reason) == (State.PARKED, Reason.PROTECTED)
    assert not sandbox.mutations("sendgrid")


def test_vault_a_rotation_is_delivered_by_check_and_set(pretending: Bench, sandbox: Sandbox) -> None:
    """Version 2 over version 1, and the old key dead."""
    old = sandbox.sendgrid.add_key("shop", ["mail.send"])
    sandbox.vault_kv.write_behind("services/shop", {"id": old.id, "key": old.secret})

    job = rotate(pretending, "sendgrid.service_key", "sendgrid-demo", "vault", variables={"KEY_ID": old.id}, grace=0.0)

    assert job.verdict is Verdict.ROTATED, job.says
    newest = sandbox.vault_kv.secrets["", "services/shop"][-1]
    assert newest.number == 2
    assert newest.values is not None
    assert sandbox.alive("sendgrid", newest.values["id"])
    assert not sandbox.alive("sendgrid", old.id)


def test_vault_what_somebody_else_wrote_meanwhile_stays(pretending: Bench, sandbox: Sandbox) -> None:
    """Between the preflight and the delivery: nothing is written over it, and no key is retired."""
    old = sandbox.sendgrid.add_key("shop", ["mail.send"])
    sandbox.vault_kv.write_behind("services/shop", {"id": old.id, "key": old.secret})
    theirs = {"id": "theirs", "key": "SG.theirs"}

    sandbox.fault("sendgrid", "delay_after", method="POST", seconds=0.5)
    with meanwhile(
        lambda: sandbox.calls("sendgrid", "POST"), lambda: sandbox.vault_kv.write_behind("services/shop", theirs)
    ):
        job = rotate(
            pretending, "sendgrid.service_key", "sendgrid-demo", "vault", variables={"KEY_ID": old.id}, grace=0.0
        )

    assert (job.state, job.reason) == (State.PARKED, Reason.SINK_FAILED)
    assert sandbox.vault_kv.secrets["", "services/shop"][-1].values == theirs
    assert sandbox.alive("sendgrid", old.id)


def test_vault_a_version_that_came_between_the_look_and_the_write_stays(pretending: Bench, sandbox: Sandbox) -> None:
    """The write itself is a check-and-set: what is written in the moment before it wins."""
    old = sandbox.sendgrid.add_key("shop", ["mail.send"])
    sandbox.vault_kv.write_behind("services/shop", {"id": old.id, "key": old.secret})
    theirs = {"id": old.id, "key": old.secret, "comment": "touched by hand"}
    write = sandbox.vault_kv.write_secret

    def race(call: Any, path: str) -> Any:
        if call.json()["data"] != theirs:
            sandbox.vault_kv.write_behind(path, theirs)
        return write(call, path)

    sandbox.vault_kv.write_secret = race  # type: ignore[method-assign]
    job = rotate(pretending, "sendgrid.service_key", "sendgrid-demo", "vault", variables={"KEY_ID": old.id}, grace=0.0)

    assert (job.state, job.reason) == (State.PARKED, Reason.SINK_FAILED)
    assert sandbox.vault_kv.secrets["", "services/shop"][-1].values == theirs
    assert sandbox.alive("sendgrid", old.id)


def test_tailscale_the_new_key_has_the_same_capabilities(pretending: Bench, sandbox: Sandbox, tmp_path: Path) -> None:
    """Tags and all; the old key is dead by what the tailnet says of its id."""
    capabilities = {"devices": {"create": {"reusable": True, "ephemeral": True, "tags": ["tag:ci", "tag:build"]}}}
    old = sandbox.tailscale.add_key("auth", "runners", "uREVOQ", capabilities=capabilities)
    file = put(tmp_path, "runners", {"id": old.id, "key": old.secret})
    variables = {"KEY_ID": old.id, "NAME": "runners"}
    sandbox.fault("tailscale", "drop_after", method="POST")

    job = rotate(pretending, "tailscale.auth_key", "tailscale-demo", variables=variables, grace=0.0)

    assert job.verdict is Verdict.ROTATED, job.says
    new = sandbox.tailscale.by_secret[json.loads(file.read_text())["key"]]
    assert new.capabilities == capabilities
    alive = [key.id for key in sandbox.tailscale.keys.values() if key.kind == "auth" and key.user == "uREVOQ"]
    assert [each for each in alive if sandbox.alive("tailscale", each)] == [new.id]


def test_gitlab_a_token_is_rotated_in_place(pretending: Bench, sandbox: Sandbox, tmp_path: Path) -> None:
    """The one active token of its name; the new one lives for 90 days, and not for the week that GitLab gives."""
    old = sandbox.gitlab.add_token("deploy", ["read_api"])
    sandbox.gitlab.add_token("deploy-old")
    file = put(tmp_path, "deploy", {"id": old.id, "token": old.secret})

    job = rotate(pretending, "gitlab.service_token", "gitlab", variables={"NAME": "deploy"})

    assert job.verdict is Verdict.ROTATED, job.says
    delivered = json.loads(file.read_text())
    new = sandbox.gitlab.by_secret[delivered["token"]]
    assert delivered["id"] == str(new.id)
    assert (new.name, new.scopes, old.revoked) == ("deploy", ["read_api"], True)
    assert 88 * 86400 < new.expires - sandbox.clock.now() <= 90 * 86400


def test_gitlab_a_lost_rotation_is_never_sent_again(pretending: Bench, sandbox: Sandbox, tmp_path: Path) -> None:
    """Sent with the old id once more, it would end the new token too; not even a person's retry does that."""
    old = sandbox.gitlab.add_token("deploy", ["read_api"])
    put(tmp_path, "deploy", {"id": old.id, "token": old.secret})
    sandbox.fault("gitlab", "drop_after", method="POST")

    job = rotate(pretending, "gitlab.service_token", "gitlab", variables={"NAME": "deploy"})
    assert (job.state, job.reason) == (State.PARKED, Reason.OUTCOME_UNKNOWN)
    moves.retry(pretending.runtime.database, job.id, actor="tester", why="looked")
    again = pretending.carry(job.id)

    assert (again.state, again.reason) == (State.PARKED, Reason.SINK_FAILED)
    assert len(sandbox.calls("gitlab", "POST")) == 1
    assert len([token for token in sandbox.gitlab.tokens.values() if token.name == "deploy" and not token.revoked]) == 1


def test_gitlab_a_rotation_that_never_arrived_is_sent_when_a_person_has_looked(
    pretending: Bench, sandbox: Sandbox, tmp_path: Path
) -> None:
    """The old token is still the active one of its name, and the sink still holds it: so it is sound to go on."""
    old = sandbox.gitlab.add_token("deploy", ["read_api"])
    file = put(tmp_path, "deploy", {"id": old.id, "token": old.secret})
    sandbox.fault("gitlab", "drop_before", method="POST")

    job = rotate(pretending, "gitlab.service_token", "gitlab", variables={"NAME": "deploy"})
    assert (job.state, job.reason) == (State.PARKED, Reason.OUTCOME_UNKNOWN)
    moves.retry(pretending.runtime.database, job.id, actor="tester", why="looked")
    again = pretending.carry(job.id)

    assert again.verdict is Verdict.ROTATED, again.says
    assert not sandbox.gitlab.by_secret[json.loads(file.read_text())["token"]].revoked


@pytest.mark.parametrize("provider", ["gitlab", "cloudflare"])
def test_our_own_token_is_not_replaced_in_place(pretending: Bench, sandbox: Sandbox, provider: str) -> None:
    """The connection would lock itself out."""
    (own,) = [each for each in getattr(sandbox, provider).tokens.values() if each.name == "revoq"]
    variables = {"NAME": "revoq"} if provider == "gitlab" else {"TOKEN_ID": own.id}

    job = rotate(pretending, f"{provider}.service_token", provider, variables=variables)

    assert job.state is State.PARKED
    assert job.reason in {Reason.NOT_OURS, Reason.PROTECTED}
    assert not sandbox.mutations(provider)


def test_cloudflare_a_lost_roll_is_rolled_again(pretending: Bench, sandbox: Sandbox, tmp_path: Path) -> None:
    """The old secret is dead, so a new one was made and lost; another one is made at once."""
    token = sandbox.cloudflare.add_token("ci")
    file = put(tmp_path, "ci", {"id": token.id, "token": token.secret})
    sandbox.fault("cloudflare", "drop_after", method="PUT")

    job = rotate(pretending, "cloudflare.service_token", "cloudflare", variables={"TOKEN_ID": token.id})

    assert job.verdict is Verdict.ROTATED, job.says
    assert json.loads(file.read_text()) == {"id": token.id, "token": token.secret}
    assert len(sandbox.calls("cloudflare", "PUT")) == 2


# ── secrets that are made here ────────────────────────────────────────────────────────────────────────────────────


def test_keep_a_secret_is_made_delivered_and_read_back(pretending: Bench, sandbox: Sandbox, tmp_path: Path) -> None:
    """Without a connection; the secret before is kept as the previous one, and nobody is asked anything."""
    file = put(tmp_path, "database", {"secret": "before"})

    job = rotate(pretending, "keep.secret", "", variables={"NAME": "database"})

    assert job.verdict is Verdict.ROTATED, job.says
    made = json.loads(file.read_text())["secret"]
    assert len(made) == 48
    assert stage(pretending, made, "keep.secret", "") is Stage.CURRENT
    assert stage(pretending, "before", "keep.secret", "") is Stage.PREVIOUS
    assert purposes(pretending, job) == ["preflight", "generate", "deliver", "read_back", "promote", "pause"]
    assert sandbox.calls() == []


def test_keep_a_secret_is_issued_where_there_was_none(pretending: Bench, sandbox: Sandbox) -> None:
    """Into a Vault, as its first version."""
    job = pretending.run("keep.secret", intent=Intent.ISSUE, variables={"NAME": "database"}, sinks=("vault",))

    assert job.verdict is Verdict.ISSUED, job.says
    (only,) = sandbox.vault_kv.secrets["", "services/database"]
    assert only.values is not None
    assert len(only.values["secret"]) == 48


def test_keep_the_secret_before_is_put_back(pretending: Bench, tmp_path: Path) -> None:
    """As long as the grace period lasts."""
    file = put(tmp_path, "database", {"secret": "before"})
    job = rotate(pretending, "keep.secret", "", variables={"NAME": "database"}, grace=LONG)
    made = json.loads(file.read_text())["secret"]

    job = go_back(pretending, job)

    assert job.verdict is Verdict.ROLLED_BACK, job.says
    assert json.loads(file.read_text()) == {"secret": "before"}
    assert stage(pretending, "before", "keep.secret", "") is Stage.CURRENT
    assert stage(pretending, made, "keep.secret", "") is Stage.PREVIOUS


# ── the way back ──────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def waiting(pretending: Bench, sandbox: Sandbox, tmp_path: Path) -> tuple[Job, Any, Path]:
    """A rotation in its grace period, with the old key and the file that holds the new one."""
    old = sandbox.sendgrid.add_key("shop", ["mail.send"])
    file = put(tmp_path, "shop", {"id": old.id, "key": old.secret})
    job = rotate(pretending, "sendgrid.service_key", "sendgrid-demo", variables={"KEY_ID": old.id}, grace=LONG)
    assert job.state is State.WAITING
    return job, old, file


def test_back_an_old_key_that_died_meanwhile_is_not_put_back(pretending: Bench, waiting: tuple[Job, Any, Path]) -> None:
    """The consumer keeps the key that works."""
    job, old, file = waiting
    delivered = file.read_text()
    old.alive = False

    job = go_back(pretending, job)

    assert (job.state, job.reason) == (State.PARKED, Reason.PROVIDER_BROKEN)
    assert file.read_text() == delivered


def test_back_what_somebody_else_put_into_the_sink_stays(
    pretending: Bench, sandbox: Sandbox, waiting: tuple[Job, Any, Path], tmp_path: Path
) -> None:
    """Neither the old key nor the new one is in its place, so nothing is written, and no key is deleted."""
    job, old, _ = waiting
    theirs = put(tmp_path, "shop", {"id": "theirs", "key": "SG.theirs"}).read_text()

    job = go_back(pretending, job)

    assert (job.state, job.reason) == (State.PARKED, Reason.SINK_FAILED)
    assert (tmp_path / "shop.json").read_text() == theirs
    assert sandbox.alive("sendgrid", old.id)
    assert [call.method for call in sandbox.mutations("sendgrid")] == ["POST"]


def test_back_a_lost_deletion_of_the_new_key_is_sent_again(
    pretending: Bench, sandbox: Sandbox, waiting: tuple[Job, Any, Path]
) -> None:
    """Until the new key is dead by its own look."""
    job, old, file = waiting
    new = json.loads(file.read_text())["id"]
    sandbox.fault("sendgrid", "drop_after", method="DELETE")

    job = go_back(pretending, job)

    assert job.verdict is Verdict.ROLLED_BACK, job.says
    assert json.loads(file.read_text()) == {"id": old.id, "key": old.secret}
    assert (sandbox.alive("sendgrid", old.id), sandbox.alive("sendgrid", new)) == (True, False)


def test_back_is_refused_where_there_is_nothing_to_go_back_to(
    pretending: Bench, sandbox: Sandbox, tmp_path: Path
) -> None:
    """A key that was replaced in place is dead; a job that has issued nothing has nothing to take away."""
    token = sandbox.gitlab.add_token("deploy")
    put(tmp_path, "deploy", {"id": token.id, "token": token.secret})
    sandbox.fault("gitlab", "drop_after", method="POST")
    in_place = rotate(pretending, "gitlab.service_token", "gitlab", variables={"NAME": "deploy"})
    nothing = rotate(pretending, "sendgrid.service_key", "sendgrid-demo", variables={"KEY_ID": "A" * 22})

    with pytest.raises(MoveRefused, match="no way back"):
        go_back(pretending, in_place)
    with pytest.raises(MoveRefused, match="no new key"):
        go_back(pretending, nothing)
