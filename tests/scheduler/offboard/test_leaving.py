"""Subjects and plans against pretend providers, on both databases: who is listed, ended, listed again, and approved."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from rules.errors import BadInput, MoveRefused
from rules.leaving import Turn
from scheduler.offboard import subjects
from scheduler.offboard.applying import Applied, apply, refuse_unplanned
from scheduler.offboard.items import Row
from scheduler.offboard.loading import Loaded, load, survey
from scheduler.offboard.orders import Asked, Owned
from scheduler.offboard.planning import make
from scheduler.offboard.rounds import advance
from scheduler.offboard.source import Source, Spoken
from scheduler.sweep import shred
from tests.sandbox import Sandbox
from tests.sandbox.fixtures import sandbox
from tests.sandbox.hub import Hub
from tests.servers.moto import Moto
from tests.servers.recorder import Said, running_recorder
from tests.worker.bench import Bench, open_bench
from worker.ledger import batches, leavers, plans, reads
from worker.ledger.plans import PlanRow
from worker.ledger.rows import Job

__all__ = ["sandbox"]


@pytest.fixture
def bench(tmp_path: Path, database_url: str, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    """A hub with somebody's three tokens, and Pangolin; on both databases."""
    pangolin = sandbox.pangolin
    bot = pangolin.add_user("revoq-bot", "tenant-admin")
    monkeypatch.setenv("HUB_TOKEN", sandbox.hub.add_token("revoq", admin=True).secret)
    monkeypatch.setenv("PANGOLIN_PASSWORD", bot.password)
    connections = {
        "hub": {"provider": "jupyterhub", "base_url": sandbox.url("hub"), "identity": {"token": "env:HUB_TOKEN"}},
        "lake": {
            "provider": "pangolin",
            "base_url": sandbox.url("pangolin"),
            "identity": {"username": "revoq-bot", "tenant": pangolin.tenant, "password": "env:PANGOLIN_PASSWORD"},
        },
        "registry": {"provider": "verdaccio", "base_url": "http://127.0.0.1:1"},
    }
    settings = {"sinks": {"files": {"kind": "file", "path": str(tmp_path / "{name}.json")}}}
    with open_bench(tmp_path, database_url, sandbox, connections=connections, settings=settings) as opened:
        yield opened


@pytest.fixture
def cloud(
    tmp_path: Path, sqlite_url: str, sandbox: Sandbox, moto: Moto, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Bench]:
    """An AWS account with ann and bob in it, and an administrator."""
    for user in ("admin", "ann", "bob"):
        moto.add_user(user)
    signer = moto.add_key("admin")
    monkeypatch.setenv("AWS_KEY", signer.secret)
    identity = {"access_key_id": signer.id, "secret_access_key": "env:AWS_KEY"}
    connections = {"cloud": {"provider": "aws", "base_url": moto.url, "identity": identity}}
    with open_bench(tmp_path, sqlite_url, sandbox, connections=connections) as opened:
        yield opened


@pytest.fixture
def hub(sandbox: Sandbox) -> Hub:
    """Where dana has three tokens and ben one."""
    for note in ("laptop", "ci", "shared"):
        sandbox.hub.add_token("dana", note)
    sandbox.hub.add_token("ben", "his own")
    return sandbox.hub


def of(hub: Hub, owner: str) -> set[str]:
    """The ids of somebody's tokens that live."""
    return {token.id for token in hub.tokens.values() if token.owner == owner and token.alive}


def said(subject: str, connection: str, *spared: str) -> Spoken:
    """A subject as the command line names it."""
    return Spoken(Row(place="--subject", connection=connection, subject=subject, spared=spared))


def offboard(bench: Bench, source: Spoken | Source, **options: Any) -> Loaded:
    """Submit without a plan."""
    asked = Asked(requester="ada@desk", **options)
    found = survey(bench.runtime, source, asked, None)
    assert not found.mistakes, found.mistakes
    return load(bench.runtime, source, asked, found)


def plan(bench: Bench, source: Spoken | Source, **options: Any) -> PlanRow:
    """Plan, as `--dry-run` does."""
    asked = Asked(requester="ada@desk", **options)
    return make(bench.runtime, source, asked, survey(bench.runtime, source, asked, None))


def applied(bench: Bench, row: PlanRow, *, strict: bool = False, signature: Path | None = None) -> Applied:
    """Apply a plan."""
    return apply(bench.runtime, row.hash, actor="ada@desk", strict=strict, signature=signature)


def carry_all(bench: Bench, batch: str) -> list[Job]:
    """Carry every job of a batch, and look for more, until nothing more comes; the jobs."""
    database = bench.runtime.database
    for _ in range(20):
        lines = reads.jobs(database, batch=batch)
        for line in lines:
            if line.state.value in {"queued", "waiting"}:
                bench.carry(line.id, rounds=20)
        look_now(bench, batch)
        if len(reads.jobs(database, batch=batch)) == len(lines) and not leavers.looking(database, batch):
            break
    return [reads.job(database, line.id) for line in reads.jobs(database, batch=batch)]


def look_now(bench: Bench, batch: str) -> None:
    """List again now, and not in two seconds."""
    for leaver in leavers.of_batch(bench.runtime.database, batch):
        if leaver.ended_at is None:
            leavers.save(bench.runtime.database, leaver, look_at=0)
    advance(bench.runtime, batch)


def test_everything_of_one_person(bench: Bench, hub: Hub) -> None:
    """Each token of the subject dies, proved; what is excepted, and another's, live on; the batch ends by itself."""
    spared = min(of(hub, "dana"))

    loaded = offboard(bench, said("dana", "hub", spared))
    jobs = carry_all(bench, loaded.batch)

    assert {job.verdict for job in jobs} == {"revoked"}
    assert len(jobs) == 2
    assert (of(hub, "dana"), len(of(hub, "ben"))) == ({spared}, 1)
    (dana,) = leavers.of_batch(bench.runtime.database, loaded.batch)
    assert (dana.turn, len(dana.known)) == (Turn.DONE, 2)
    assert any("servers that the user has started" in each["says"] for each in dana.residual)
    assert batches.end_finished(bench.runtime.database) == 1


def test_what_was_made_meanwhile_is_found_by_the_next_list(bench: Bench, hub: Hub) -> None:
    """List, end, list again until nothing is new; the batch has not ended as long as it looks."""
    loaded = offboard(bench, said("dana", "hub"))
    hub.add_token("dana", "made after the first list")
    assert batches.end_finished(bench.runtime.database) == 0

    jobs = carry_all(bench, loaded.batch)

    assert len(jobs) == 4
    assert of(hub, "dana") == set()


def test_who_never_stops_is_left_to_a_person(bench: Bench, hub: Hub) -> None:
    """After so many rounds somebody makes tokens as fast as they die: the last list is told, and the batch goes on."""
    loaded = offboard(bench, said("dana", "hub"))
    for number in range(8):
        hub.add_token("dana", f"another, {number}")
        for line in reads.jobs(bench.runtime.database, batch=loaded.batch):
            if line.state.value == "queued":
                bench.carry(line.id, rounds=20)
        look_now(bench, loaded.batch)

    (dana,) = leavers.of_batch(bench.runtime.database, loaded.batch)
    assert dana.turn is Turn.STUCK
    assert "keep dana from making new ones first" in dana.says[-1]


@pytest.mark.parametrize(("owned", "alive"), [(None, True), ("revoke", False)])  # whether they live
def test_machines_that_they_made(bench: Bench, sandbox: Sandbox, owned: Owned | None, *, alive: bool) -> None:
    """They are listed as owned, and ended only where that was asked for; another's are neither."""
    pangolin = sandbox.pangolin
    dana = pangolin.add_user("dana")
    token = pangolin.add_token(dana.id)
    login = pangolin.add_login(dana.id)
    theirs = pangolin.add_service_user("etl", created_by=dana.id)
    other = pangolin.add_service_user("backup", created_by=pangolin.add_user("ben").id)

    loaded = offboard(bench, said(dana.id, "lake"), owned=owned)
    jobs = carry_all(bench, loaded.batch)

    state = pangolin.state()
    assert {job.verdict for job in jobs} == {"revoked"}, [job.says for job in jobs]
    assert (state[token.id], state.get(theirs.id, False), state[other.id], state[login.id]) == (
        False,
        alive,
        True,
        True,
    )
    (leaver,) = leavers.of_batch(bench.runtime.database, loaded.batch)
    assert [(each["name"], each["becomes"]) for each in leaver.owned] == [("etl", owned)]
    (lives_on,) = [each for each in leaver.residual if "login and OAuth tokens" in each["says"]]
    assert lives_on["until"] > bench.runtime.database.now()


def without_grace(bench: Bench) -> None:
    """Let an old key die as soon as the new one works, and not in an hour."""
    quick = []
    for loaded in bench.runtime.catalogue:
        rotation = loaded.rule.rotation
        changed = {} if rotation is None else {"rotation": rotation.model_copy(update={"grace": 0.0})}
        quick.append(replace(loaded, rule=loaded.rule.model_copy(update=changed)))
    bench.runtime = replace(bench.runtime, catalogue=type(bench.runtime.catalogue)(quick))


def test_machines_get_a_new_key(bench: Bench, sandbox: Sandbox, tmp_path: Path) -> None:
    """With --owned rotate production goes on: the consumer holds a key that works, and what the leaver knew is dead."""
    without_grace(bench)
    pangolin = sandbox.pangolin
    dana = pangolin.add_user("dana")
    theirs = pangolin.add_service_user("etl", created_by=dana.id)
    other = pangolin.add_service_user("backup", created_by=pangolin.add_user("ben").id)
    record = tmp_path / "etl.json"
    record.write_text(json.dumps({"id": theirs.id, "key": theirs.key}))

    loaded = offboard(bench, said(dana.id, "lake"), owned="rotate", sinks=("files",))
    jobs = carry_all(bench, loaded.batch)

    assert [(job.intent.value, job.verdict) for job in jobs] == [("rotate", "rotated")], [job.says for job in jobs]
    held = json.loads(record.read_text())
    assert held["key"] == pangolin.service_users[held["id"]].key != theirs.key
    assert (pangolin.state()[held["id"]], pangolin.state()[other.id]) == (True, True)
    assert theirs.id not in pangolin.service_users or pangolin.service_users[theirs.id].key != theirs.key
    (leaver,) = leavers.of_batch(bench.runtime.database, loaded.batch)
    assert [(each["name"], each["becomes"]) for each in leaver.owned] == [("etl", "rotate")]
    assert (leaver.turn, leaver.round) == (Turn.DONE, 0)


def test_the_access_keys_of_one_person(cloud: Bench, moto: Moto) -> None:
    """IAM lists them by the name of their user: they are deactivated, as listed, and nobody else's is."""
    first, second, other = moto.add_key("ann"), moto.add_key("ann"), moto.add_key("bob")

    loaded = offboard(cloud, said("ann", "cloud"))
    jobs = carry_all(cloud, loaded.batch)

    assert {job.inputs["AKID"]: job.verdict for job in jobs} == {first.id: "disabled", second.id: "disabled"}
    assert [moto.status_of(key) for key in (first, second, other)] == ["Inactive", "Inactive", "Active"]
    (ann,) = leavers.of_batch(cloud.runtime.database, loaded.batch)
    assert ann.turn is Turn.DONE
    assert any("temporary credentials" in each["says"] for each in ann.residual)


def test_a_user_whom_aws_does_not_know(cloud: Bench) -> None:
    """An answer that is no list is not taken for an empty one: the row says so before anything is committed."""
    found = survey(cloud.runtime, said("nobody", "cloud"), Asked(requester="ada"), None)

    assert found.wrong == 1
    assert "nobody at cloud: AWS list answered 404" in found.mistakes[0].says


def test_a_provider_that_lists_nobody(bench: Bench) -> None:
    """The row says so, and nothing is committed."""
    found = survey(bench.runtime, said("dana", "registry"), Asked(requester="ada"), None)

    assert found.wrong == 1
    assert "nobody but the person can list what they have at verdaccio" in found.mistakes[0].says


def test_a_plan_is_applied_as_it_is(bench: Bench, hub: Hub) -> None:
    """It names the exact ids and changes nothing; approved, it does just that, once."""
    row = plan(bench, said("dana", "hub"))
    assert {item["id"] for item in row.content["items"]} == of(hub, "dana")
    assert len(of(hub, "dana")) == 3
    assert row.content["counts"] == {"jupyterhub": {"act": 3}}

    done = applied(bench, row)
    carry_all(bench, done.loaded.batch)

    assert not done.difference
    assert (of(hub, "dana"), len(of(hub, "ben"))) == (set(), 1)
    assert batches.find(bench.runtime.database, done.loaded.batch).plan == row.id
    with pytest.raises(MoveRefused, match="a plan is applied once"):
        applied(bench, row)
    with pytest.raises(BadInput, match="there is no plan"):
        apply(bench.runtime, "0" * 64, actor="ada", strict=False, signature=None)


def test_the_world_moved(bench: Bench, hub: Hub, tmp_path: Path) -> None:
    """What vanished is probed, what is new is left alone and told; with strict all of it is refused, naming it."""
    row = plan(bench, said("dana", "hub"))
    gone, *rest = sorted(of(hub, "dana"))
    hub.tokens[gone].alive = False
    new = hub.add_token("dana", "made after the plan").id

    with pytest.raises(MoveRefused) as refused:
        applied(bench, row, strict=True)
    assert gone in str(refused.value)
    assert new in str(refused.value)
    assert of(hub, "dana") == {*rest, new}

    done = applied(bench, row)
    jobs = carry_all(bench, done.loaded.batch)

    assert [each["id"] for each in done.difference.vanished] == [gone]
    assert [each["id"] for each in done.difference.new] == [new]
    assert of(hub, "dana") == {new}
    ended = {job.inputs["TOKEN_ID"]: job.verdict or job.reason for job in jobs}
    assert ended == {gone: "not_recognised", **dict.fromkeys(rest, "revoked")}
    (dana,) = leavers.of_batch(bench.runtime.database, done.loaded.batch)
    assert [each["id"] for each in dana.unplanned] == [new]
    assert dana.turn is Turn.DONE


def test_what_moved_parks(bench: Bench, hub: Hub, tmp_path: Path) -> None:
    """A secret that was dead when it was planned, and is another's live one by now, is done to by nobody unasked."""
    token = next(token for token in hub.tokens.values() if token.owner == "dana")
    token.alive = False
    other = next(token for token in hub.tokens.values() if token.owner == "ben")
    file = tmp_path / "leavers.csv"
    file.write_text(
        f"rule,secret,connection\njupyterhub.token,{token.secret},hub\njupyterhub.token,{other.secret},hub\n"
    )
    with Source(file) as source:
        row = plan(bench, source)
    assert [item["reason"] for item in row.content["items"]] == ["not_recognised", None]
    file.unlink()
    token.alive = True

    done = applied(bench, row)
    jobs = carry_all(bench, done.loaded.batch)

    assert {job.state.value: job.reason or job.verdict for job in jobs} == {"parked": "plan_changed", "done": "revoked"}
    assert (token.alive, other.alive) == (True, False)
    (parked,) = [job for job in jobs if job.reason]
    assert "since it was planned" in str(parked.says)


def test_a_plan_that_nobody_approved_is_destroyed(
    bench: Bench, hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a day its sealed orders are shredded, and it cannot be applied."""
    file = tmp_path / "a.csv"
    file.write_text(f"rule,secret,connection\njupyterhub.token,{'0123456789abcdef' * 2},hub\n")
    monkeypatch.setattr("scheduler.offboard.planning.KEPT_FOR", 0.0)
    with Source(file) as source:
        row = plan(bench, source)

    assert shred(bench.runtime) == 1
    assert [sealed.ciphertext for sealed in plans.orders_of(bench.runtime.database, row.id)] == [None]
    with pytest.raises(MoveRefused, match="older than a day"):
        applied(bench, row)


def test_no_secret_is_in_a_plan(bench: Bench, hub: Hub, tmp_path: Path) -> None:
    """The content that is kept and printed holds ids; the secret is sealed, and its envelope goes when it was used."""
    token = next(iter(hub.tokens.values()))
    file = tmp_path / "a.csv"
    file.write_text(f"rule,secret,connection\njupyterhub.token,{token.secret},hub\n")
    with Source(file) as source:
        row = plan(bench, source)
    assert token.secret not in str(row.content)

    applied(bench, row)

    assert shred(bench.runtime) == 1


def test_breakers(bench: Bench, hub: Hub) -> None:
    """Too many for one batch is refused unless it is overridden; failures in a row pause it, with the causes."""
    limits = bench.runtime.settings.batch_limits.model_copy(update={"most": 2})
    settings = bench.runtime.settings.model_copy(update={"batch_limits": limits})
    object.__setattr__(bench.runtime, "settings", settings)
    found = survey(bench.runtime, said("dana", "hub"), Asked(requester="ada"), None)
    with pytest.raises(MoveRefused, match="3 credentials of hub: the settings allow 2 in a batch"):
        refuse_unplanned(bench.runtime, found, override=False)
    refuse_unplanned(bench.runtime, found, override=True)
    with pytest.raises(MoveRefused, match="or have its plan signed"):
        applied(bench, plan(bench, said("dana", "hub")))

    loaded = offboard(bench, said("dana", "hub"))
    for token in hub.tokens.values():
        token.alive = token.owner != "dana"
    database = bench.runtime.database
    for line in reads.jobs(database, batch=loaded.batch):
        bench.carry(line.id, rounds=5)

    assert batches.stop_failing(database, 4) == []
    assert batches.stop_failing(database, 3) == [loaded.batch]
    paused = batches.find(database, loaded.batch)
    assert (paused.state.value, paused.says) == ("paused", "3 jobs in a row did not end well (not_recognised)")
    batches.resume(database, loaded.batch, actor="ada")
    assert batches.stop_failing(database, 3) == []


@pytest.mark.parametrize(
    ("maker", "owned", "ends"),
    [
        ("00uDANAdanaDANAdanaD", None, False),
        ("00uDANAdanaDANAdanaD", "revoke", True),
        ("00uBENbenBENbenBENb", None, True),
    ],
)
def test_production_does_not_die_with_an_account(
    tmp_path: Path,
    sqlite_url: str,
    sandbox: Sandbox,
    monkeypatch: pytest.MonkeyPatch,
    maker: str,
    owned: str | None,
    *,
    ends: bool,
) -> None:
    """Whoever made a machine that is left alone keeps the account that it would die with, and a person is told."""
    monkeypatch.setenv("OKTA", "00signer")
    token = {
        "id": "00Tetletletletletlet",
        "name": "etl",
        "userId": maker,
        "clientName": "Okta API",
        "created": "2026-01-01T00:00:00Z",
    }
    with running_recorder() as okta:
        okta.answer({"GET /api/v1/api-tokens": Said(body=[token])})
        connections = {"org": {"provider": "okta", "base_url": okta.url, "identity": {"token": "env:OKTA"}}}
        with open_bench(tmp_path, sqlite_url, sandbox, connections=connections) as bench:
            terms: dict[str, Any] = {
                "spared": [],
                "owned": owned,
                "requester": "hr",
                "cause": "left",
                "ticket": None,
                "owner": None,
                "sinks": [],
            }
            leaver = subjects.read_leaver(bench.runtime, "org", "00uDANAdanaDANAdanaD", terms)
            theirs = subjects.find(bench.runtime, leaver, Turn.LAST)

    assert [each.rule for each in theirs.credentials] == (["okta.user"] if ends else [])
    assert ["left as it is" in says and "etl" in says for says in theirs.says] == ([] if ends else [True])
