"""The rules of five providers against pretend ones: the right one dead, every other alive, and proof by probe."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from rules.lifecycle import Reason, Verdict
from tests.sandbox import Sandbox
from tests.worker.bench import Bench, open_bench
from worker.ledger.rows import Job


@pytest.fixture
def bench(tmp_path: Path, sqlite_url: str, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    """A runtime with a connection to each provider, whose rules wait for fractions of what they say."""
    connections, values = describe(sandbox)
    for name, value in values.items():
        monkeypatch.setenv(name, value)
    with open_bench(tmp_path, sqlite_url, sandbox, connections=connections) as opened:
        hurry(opened)
        yield opened


@pytest.fixture
def impatient_bench(bench: Bench) -> Bench:
    """One that gives up after a second, for providers that never answer as they should."""
    settings = bench.runtime.settings.model_copy(update={"retry_for": 1.0})
    bench.runtime = replace(bench.runtime, settings=settings)
    return bench


def describe(sandbox: Sandbox) -> tuple[dict[str, Any], dict[str, str]]:
    """The connections, and the variables that hold their secrets."""
    atlas, vercel, twilio = sandbox.mongodb_atlas, sandbox.vercel, sandbox.twilio
    manager = sandbox.sumologic.add_key(label="revoq", manager=True)
    session = sandbox.npm.add_token(name="revoq", session=True)
    identities = {
        "mongodb_atlas": ({"client_id": atlas.client_id}, "client_secret", atlas.client_secret),
        "sumologic": ({"username": manager.id}, "password", manager.secret),
        "twilio": ({"username": twilio.account}, "password", twilio.auth_token),
        "npm": ({}, "token", session.secret),
        "vercel": ({"client_id": vercel.client_id}, "client_secret", vercel.client_secret),
    }
    connections: dict[str, Any] = {}
    values: dict[str, str] = {}
    for name, (plain, secret, value) in identities.items():
        variable = f"TEST_{name.upper()}"
        where = {"provider": name, "base_url": sandbox.url(name)}
        values[variable] = value
        connections[name] = {**where, "identity": {**plain, secret: f"env:{variable}"}}
        connections[f"{name}-alone"] = where  # knows the address, and signs nothing
    return connections, values


def hurry(bench: Bench) -> None:
    """Let every rule wait a little instead of minutes; nothing else of it is changed."""
    quick = []
    for loaded in bench.runtime.catalogue:
        verification = loaded.rule.verification.model_copy(update={"spacing": 0.05, "window": 2.0})
        quick.append(replace(loaded, rule=loaded.rule.model_copy(update={"verification": verification})))
    bench.runtime = replace(bench.runtime, catalogue=type(bench.runtime.catalogue)(quick))


def others_live(sandbox: Sandbox, before: dict[str, dict[str, bool]], *dead: str) -> bool:
    """Whether exactly these have died since."""
    after = sandbox.state()
    return all(
        after[name].get(each, False) is (alive and each not in dead)
        for name, ids in before.items()
        for each, alive in ids.items()
    )


def outcomes(bench: Bench, job: Job) -> list[tuple[str, str]]:
    """Name and outcome of each step."""
    return [(name, outcome) for _, name, outcome in bench.outline(job)]


# ── MongoDB Atlas ─────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("connection", ["mongodb_atlas", "mongodb_atlas-alone"])
def test_atlas_deletes_the_last_of_three_pages(bench: Bench, sandbox: Sandbox, connection: str) -> None:
    """Neither the row that is no key, nor a twin in either half: the one row with both, proved by Digest."""
    atlas = sandbox.mongodb_atlas
    target = atlas.add_key(owner=True, linger=2)
    atlas.add_key(public=target.public)
    atlas.add_key(end=target.secret[-12:])
    atlas.keys[target.id] = atlas.keys.pop(target.id)  # the last row
    before = sandbox.state()
    variables = {"PUBLIC_KEY": target.public}

    job = bench.run("mongodb_atlas.api_key", target.secret, connection, variables=variables)

    assert job.verdict is Verdict.REVOKED
    assert others_live(sandbox, before, target.id)
    assert deletions(sandbox) == 1
    assert outcomes(bench, job)[-2:] == [("probe", "dead"), ("probe", "dead")]

    again = bench.run("mongodb_atlas.api_key", target.secret, connection, variables=variables)
    assert again.verdict is Verdict.ALREADY_REVOKED
    assert deletions(sandbox) == 1


def deletions(sandbox: Sandbox) -> int:
    """How many keys Atlas deleted; the first call of Digest only asks for its challenge."""
    return len([call for call in sandbox.mutations("mongodb_atlas", "*/apiKeys/*") if call.status == 204])


def test_atlas_parks_where_two_rows_fit(bench: Bench, sandbox: Sandbox) -> None:
    """Two keys alike in all that a row shows: a person is asked, and nobody dies."""
    target = sandbox.mongodb_atlas.add_key()
    twin = sandbox.mongodb_atlas.add_key(public=target.public, end=target.secret[-12:])
    before = sandbox.state()

    job = bench.run("mongodb_atlas.api_key", target.secret, "mongodb_atlas", variables={"PUBLIC_KEY": target.public})

    assert job.reason == Reason.NEEDS_SELECTION
    assert {candidate["id"] for candidate in job.candidates or []} == {target.id, twin.id}
    assert others_live(sandbox, before)


def test_atlas_key_of_another_organization_is_not_ours(bench: Bench, sandbox: Sandbox) -> None:
    """The service account has no say there: the job parks, and the key lives."""
    atlas = sandbox.mongodb_atlas
    key = atlas.add_key(org=atlas.other_org)

    job = bench.run("mongodb_atlas.api_key", key.secret, "mongodb_atlas", variables={"PUBLIC_KEY": key.public})

    assert job.reason == Reason.DENIED
    assert sandbox.alive("mongodb_atlas", key.id)


def test_atlas_refusal_by_address_is_no_death(impatient_bench: Bench, sandbox: Sandbox) -> None:
    """Nothing is deleted on it; with the organization named and no probe, the end is acknowledged and no more."""
    atlas = sandbox.mongodb_atlas
    sandbox.switch("mongodb_atlas", addresses_allowed=False)
    key = atlas.add_key()
    before = sandbox.state()
    variables = {"PUBLIC_KEY": key.public}

    job = impatient_bench.run("mongodb_atlas.api_key", key.secret, "mongodb_atlas", variables=variables)
    assert job.reason == Reason.BUDGET_SPENT
    assert others_live(sandbox, before)

    other = atlas.add_key()
    named = {"PUBLIC_KEY": other.public, "ORG_ID": atlas.org}
    ended = impatient_bench.run("mongodb_atlas.api_key", other.secret, "mongodb_atlas", variables=named, probe=False)
    assert ended.verdict is Verdict.ACKNOWLEDGED
    assert others_live(sandbox, before, other.id)
    assert not sandbox.alive("mongodb_atlas", other.id)


# ── Sumo Logic ────────────────────────────────────────────────────────────────────────────────────────────────────


def test_sumo_disables_deletes_and_waits_for_three_refusals(bench: Bench, sandbox: Sandbox) -> None:
    """The key goes on working for a while after it is gone; that is settling, and three refusals in a row are proof."""
    target = sandbox.sumologic.add_key(linger=3)
    before = sandbox.state()
    variables = {"ACCESS_ID": target.id}

    job = bench.run("sumologic.access_key", target.secret, "sumologic", variables=variables)

    assert job.verdict is Verdict.REVOKED
    assert others_live(sandbox, before, target.id)
    assert outcomes(bench, job) == [
        *(("probe", "alive"), ("find", "ok"), ("disable", "ok"), ("delete", "ok")),
        *[("probe", "alive")] * 3,
        *[("probe", "dead")] * 3,
    ]
    again = bench.run("sumologic.access_key", target.secret, "sumologic", variables=variables)
    assert again.verdict is Verdict.ALREADY_REVOKED


def test_sumo_never_writes_over_an_allow_list(bench: Bench, sandbox: Sandbox) -> None:
    """A key with origins is deleted at once: were the deletion refused, its list would still be there."""
    target = sandbox.sumologic.add_key(cors=["https://c.example"])
    sandbox.fault("sumologic", "status", method="DELETE", status=403)

    job = bench.run("sumologic.access_key", target.secret, "sumologic", variables={"ACCESS_ID": target.id})

    assert job.reason == Reason.DENIED
    assert sandbox.calls("sumologic", "PUT") == []
    assert target.cors == ["https://c.example"]


def test_sumo_refusals_of_good_keys_end_nothing(impatient_bench: Bench, sandbox: Sandbox) -> None:
    """A good key that is refused, or asked at the wrong deployment, is neither dead nor touched."""
    flaky = sandbox.sumologic.add_key(flaky=3)
    variables = {"ACCESS_ID": flaky.id}
    refused = impatient_bench.run("sumologic.access_key", flaky.secret, "sumologic", variables=variables)
    assert refused.reason == Reason.NOT_RECOGNISED

    sandbox.switch("sumologic", moved=True)
    key = sandbox.sumologic.add_key()
    moved = impatient_bench.run("sumologic.access_key", key.secret, "sumologic", variables={"ACCESS_ID": key.id})
    assert moved.reason == Reason.BUDGET_SPENT
    assert sandbox.mutations("sumologic") == []


def test_a_stray_refusal_by_sumo_is_looked_at_again(bench: Bench, sandbox: Sandbox) -> None:
    """One refusal before a good answer is no death: the key is found alive, and only then ended."""
    key = sandbox.sumologic.add_key(flaky=1)

    job = bench.run("sumologic.access_key", key.secret, "sumologic", variables={"ACCESS_ID": key.id})

    assert bench.outline(job)[:2] == [("before", "probe", "dead"), ("before", "probe", "alive")]
    assert job.verdict is Verdict.REVOKED
    assert not sandbox.alive("sumologic", key.id)


def test_sumo_key_deletes_itself(bench: Bench, sandbox: Sandbox) -> None:
    """Without an identity the key signs for itself, and is not disabled first: it could not sign any more."""
    target = sandbox.sumologic.add_key()
    before = sandbox.state()

    job = bench.run("sumologic.access_key", target.secret, "sumologic-alone", variables={"ACCESS_ID": target.id})

    assert job.verdict is Verdict.REVOKED
    assert [call.method for call in sandbox.mutations("sumologic")] == ["DELETE"]
    assert others_live(sandbox, before, target.id)


# ── Twilio ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_twilio_key_is_gone_for_the_account_that_had_it(bench: Bench, sandbox: Sandbox) -> None:
    """Read before, deleted by SID, and twice not found after; its secret is never sent."""
    target = sandbox.twilio.add_key(linger=1)
    before = sandbox.state()

    job = bench.run("twilio.api_key", None, "twilio", variables={"KEY_SID": target.id})

    assert job.verdict is Verdict.REVOKED
    assert others_live(sandbox, before, target.id)
    assert outcomes(bench, job) == [
        *(("probe", "alive"), ("read", "ok"), ("delete", "ok")),
        *(("probe", "alive"), ("probe", "dead"), ("probe", "dead")),
    ]
    again = bench.run("twilio.api_key", None, "twilio", variables={"KEY_SID": target.id})
    assert again.verdict is Verdict.ALREADY_REVOKED
    assert len(sandbox.mutations("twilio")) == 1


def test_twilio_404_of_a_stranger_s_key_proves_nothing(bench: Bench, sandbox: Sandbox) -> None:
    """The account never had it: the same answer as after a deletion, and the job parks."""
    foreign = sandbox.twilio.add_key(ours=False)

    job = bench.run("twilio.api_key", foreign.secret, "twilio", variables={"KEY_SID": foreign.id})

    assert job.reason == Reason.NOT_RECOGNISED
    assert sandbox.mutations("twilio") == []


def test_twilio_wrong_region_is_no_death(impatient_bench: Bench, sandbox: Sandbox) -> None:
    """One code for a dead key and for a wrong region: it is read as neither."""
    target = sandbox.twilio.add_key()
    sandbox.switch("twilio", region_fits=False)

    job = impatient_bench.run("twilio.api_key", None, "twilio", variables={"KEY_SID": target.id})

    assert job.reason == Reason.BUDGET_SPENT
    assert sandbox.mutations("twilio") == []


def test_twilio_main_key_that_signs_is_protected(bench: Bench, sandbox: Sandbox) -> None:
    """The key that the connection signs in with is named by its SID, and never deleted."""
    main = sandbox.twilio.add_key(kind="main")
    connection = bench.runtime.settings.connection("twilio")
    connection.identity["username"] = main.id

    job = bench.run("twilio.api_key", None, "twilio", variables={"KEY_SID": main.id})

    assert job.reason == Reason.PROTECTED
    assert sandbox.mutations("twilio") == []


# ── npm ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_npm_revokes_the_one_row_that_fits(bench: Bench, sandbox: Sandbox) -> None:
    """An old token in the first row, a revoked twin, one that begins alike; ours is last, and dies slowly."""
    npm = sandbox.npm
    npm.add_token(legacy=True)
    npm.tokens = dict(reversed(npm.tokens.items()))  # the old form is in the first row
    target = npm.add_token(linger=2)
    npm.add_token(like=target.secret, revoked=True)
    npm.add_token(like=target.secret, same_end=False)
    npm.tokens[target.id] = npm.tokens.pop(target.id)
    before = sandbox.state()

    job = bench.run("npm.token", target.secret, "npm")

    assert job.verdict is Verdict.REVOKED
    assert others_live(sandbox, before, target.id)
    assert outcomes(bench, job)[:3] == [("probe", "alive"), ("find", "ok"), ("revoke", "ok")]
    assert all(target.secret not in call.path for call in sandbox.calls("npm"))
    assert bench.run("npm.token", target.secret, "npm").verdict is Verdict.ALREADY_REVOKED
    assert len(sandbox.mutations("npm")) == 1


def test_npm_parks_between_twins_and_before_a_second_factor(bench: Bench, sandbox: Sandbox) -> None:
    """Two rows that fit need a person, a one-time password needs one too; neither token dies."""
    target = sandbox.npm.add_token()
    twin = sandbox.npm.add_token(like=target.secret)
    before = sandbox.state()

    job = bench.run("npm.token", target.secret, "npm")
    assert job.reason == Reason.NEEDS_SELECTION
    assert {candidate["id"] for candidate in job.candidates or []} == {target.id, twin.id}

    sandbox.switch("npm", second_factor=True)
    other = sandbox.npm.add_token()
    assert bench.run("npm.token", other.secret, "npm").reason == Reason.DENIED
    assert others_live(sandbox, before)
    assert sandbox.alive("npm", other.id)


# ── Vercel ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_vercel_app_token_is_ours_before_and_inactive_after(bench: Bench, sandbox: Sandbox) -> None:
    """Introspection guards and proves; the refresh token goes with it, as the rule says."""
    vercel = sandbox.vercel
    refresh = vercel.add_token("vcr")
    target = vercel.add_token("vca", pair=refresh.id, linger=1)
    before = sandbox.state()

    job = bench.run("vercel.app_token", target.secret, "vercel")

    assert job.verdict is Verdict.REVOKED
    assert others_live(sandbox, before, target.id, refresh.id)
    assert outcomes(bench, job)[:3] == [("probe", "alive"), ("whose", "ok"), ("revoke", "ok")]
    again = bench.run("vercel.app_token", target.secret, "vercel")
    assert again.verdict is Verdict.ALREADY_REVOKED


def test_vercel_token_of_another_app_is_not_touched(bench: Bench, sandbox: Sandbox) -> None:
    """Another app's token parks before anything is sent; a yes that did nothing is seen through."""
    vercel = sandbox.vercel
    foreign, liar = vercel.add_token(ours=False), vercel.add_token()

    assert bench.run("vercel.app_token", foreign.secret, "vercel").reason == Reason.NOT_OURS
    assert sandbox.calls("vercel", path="*/revoke") == []

    sandbox.switch("vercel", yes_but_alive=True)
    assert bench.run("vercel.app_token", liar.secret, "vercel").reason == Reason.STILL_ALIVE


def test_vercel_user_s_token_deletes_itself(bench: Bench, sandbox: Sandbox) -> None:
    """It says which one it is, and that one is gone; no identity signs."""
    target = sandbox.vercel.add_token("vcp", linger=1)
    before = sandbox.state()

    job = bench.run("vercel.token", target.secret, "vercel-alone")

    assert job.verdict is Verdict.REVOKED
    assert others_live(sandbox, before, target.id)
    assert bench.run("vercel.token", target.secret, "vercel-alone").verdict is Verdict.ALREADY_REVOKED


# ── all of them ───────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("fault", ["drop_before", "drop_after"])
@pytest.mark.parametrize("provider", ["mongodb_atlas", "sumologic", "twilio", "npm", "vercel"])
def test_a_lost_answer_is_asked_about(bench: Bench, sandbox: Sandbox, provider: str, fault: str) -> None:
    """Whether the provider acted or not, the end is the same, and it is proved."""
    rule, target, variables = prepare(sandbox, provider)
    method, path = ("POST", "*/revoke") if provider == "vercel" else ("DELETE", "*")
    sandbox.fault(provider, fault, method=method, path=path)

    job = bench.run(rule, None if provider == "twilio" else target.secret, provider, variables=variables)

    assert job.verdict is Verdict.REVOKED
    assert not sandbox.alive(provider, target.id)
    assert "ask" in [purpose for purpose, _, _ in bench.outline(job)]


@pytest.mark.parametrize("provider", ["mongodb_atlas", "sumologic", "twilio", "npm", "vercel"])
def test_patience_is_kept_when_throttled(bench: Bench, sandbox: Sandbox, provider: str) -> None:
    """Every call once answered 429 is made again, and the right one dies."""
    rule, target, variables = prepare(sandbox, provider)
    before = sandbox.state()
    path = "*/tokens" if provider == "npm" else "*"  # being asked for patience at the sign-in takes half a minute
    sandbox.fault(provider, "status", method="GET", path=path, status=429, times=2)
    sandbox.fault(provider, "status", method="DELETE", status=429)
    if provider == "vercel":
        sandbox.fault(provider, "status", path="*/revoke", status=429)

    job = bench.run(rule, None if provider == "twilio" else target.secret, provider, variables=variables)

    assert job.verdict is Verdict.REVOKED
    assert others_live(sandbox, before, target.id)


def prepare(sandbox: Sandbox, provider: str) -> tuple[str, Any, dict[str, str]]:
    """One credential of a provider, its rule, and what names it."""
    match provider:
        case "mongodb_atlas":
            key = sandbox.mongodb_atlas.add_key()
            return "mongodb_atlas.api_key", key, {"PUBLIC_KEY": key.public}
        case "sumologic":
            access = sandbox.sumologic.add_key()
            return "sumologic.access_key", access, {"ACCESS_ID": access.id}
        case "twilio":
            named = sandbox.twilio.add_key()
            return "twilio.api_key", named, {"KEY_SID": named.id}
        case "npm":
            return "npm.token", sandbox.npm.add_token(), {}
        case _:
            return "vercel.app_token", sandbox.vercel.add_token(), {}
