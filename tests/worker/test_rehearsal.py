"""A dry run decides as a job would, over the real reads, and leaves no trace at the provider or in the ledger."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from rules.decision import Do, Finish, Park, Wait
from rules.lifecycle import Intent, Reason, State, Verdict
from rules.secret import Secret
from scheduler.submit import Order, check, rehearse
from tests.sandbox import Sandbox
from tests.sandbox.cast import Cast, Member
from tests.worker.bench import SANDBOX_RULES, Bench, open_bench
from worker import rehearsal
from worker.ledger import moves, reads
from worker.rehearsal import Rehearsal

SIGNS_IN = "*/api/v1/users/login"


def try_out(bench: Bench, rule: str, secret: str | None, connection: str, **options: Any) -> Rehearsal:
    """Rehearse an order as the operator's door would."""
    order = Order(
        rule=rule,
        secret=None if secret is None else Secret(secret),
        connection=connection,
        requester="tester",
        **options,
    )
    return rehearse(bench.runtime, check(bench.runtime, order))


def rehearse_member(bench: Bench, member: Member) -> Rehearsal:
    """The same for one of the cast."""
    return try_out(bench, member.rule, member.secret, member.connection, variables=dict(member.vars))


def comes_to(found: Rehearsal) -> str:
    """A job's ending, or `act`."""
    match found.decision:
        case Finish(verdict, _):
            return verdict.value
        case Park(reason, _):
            return reason.value
        case Do():
            return "act"
        case other:
            return type(other).__name__


def outline(found: Rehearsal) -> list[tuple[str, str, str]]:
    """Purpose, name and outcome of each read."""
    return [(each.planned.purpose.value, each.planned.name, each.result.outcome.value) for each in found.taken]


def test_the_whole_cast_is_foretold(sqlite_bench: Bench, sandbox: Sandbox, cast: Cast) -> None:
    """Where a job would act, park or end, the dry run says so, and not one mutating request leaves."""
    before = {(name, each): alive for name, ids in sandbox.state().items() for each, alive in ids.items()}

    foretold = {member.title: comes_to(rehearse_member(sqlite_bench, member)) for member in cast.members}

    acted = {"revoked", "still_alive"}  # Only acting on it shows which of the two it is.
    expected = {member.title: member.verdict or member.reason for member in cast.members}
    assert foretold == {title: "act" if end in acted else end for title, end in expected.items()}
    assert [call for call in sandbox.mutations() if not call.path.endswith("/login")] == []
    assert {(name, each): sandbox.alive(name, each) for name, each in before} == before


def test_nothing_is_written_down(sqlite_bench: Bench, sandbox: Sandbox) -> None:
    """The ledger holds no job, no credential, no audit row and no secret afterwards."""
    key = sandbox.sendgrid.add_key()
    database = sqlite_bench.runtime.database

    found = try_out(sqlite_bench, "sendgrid.api_key", key.secret, "sendgrid-demo")

    assert found.acts
    assert reads.jobs(database) == []
    assert reads.audit_rows(database, None, 10) == []
    fingerprint = sqlite_bench.runtime.safe.fingerprint(Secret(key.secret))
    assert reads.find_credential(database, fingerprint, "sendgrid.api_key", "sendgrid-demo") is None


def test_the_requests_to_come_are_shown_without_secrets(sqlite_bench: Bench, sandbox: Sandbox) -> None:
    """Method, address, headers and body as they would leave; the secret is masked in all of them."""
    user = sandbox.pangolin.add_user("zoe")
    token = sandbox.pangolin.add_token(user.id)

    found = try_out(sqlite_bench, "pangolin.token", token.secret, "pangolin-demo")

    act, proof = found.coming
    assert act.shown is not None
    assert proof.shown is not None
    assert (act.planned.name, act.shown.method, act.shown.url) == (
        "revoke_itself",
        "POST",
        f"{sandbox.url('pangolin')}/api/v1/auth/revoke",
    )
    assert act.shown.headers == {"Authorization": "Bearer ••••", "Content-Type": "application/json"}
    assert act.shown.body == "{}"
    assert (proof.planned.name, proof.planned.purpose.value) == ("probe", "after")
    assert token.secret not in repr(found)


def test_a_selection_is_resolved_over_all_pages(sqlite_bench: Bench, sandbox: Sandbox) -> None:
    """The request to come holds the id of the one row that fits; where two fit, both are named."""
    key = sandbox.keyring.add_key(owner="ann")
    for _ in range(12):
        sandbox.keyring.add_key(owner="ben")

    found = try_out(sqlite_bench, "keyring.token", key.secret, "keyring-demo")

    assert outline(found) == [("before", "probe", "alive"), ("read", "find", "ok")]
    assert found.coming[0].shown is not None
    assert found.coming[0].shown.url == f"{sandbox.url('keyring')}/v1/keys/{key.id}"

    twin = sandbox.keyring.add_key(owner="cid", like=key.secret)
    found = try_out(sqlite_bench, "keyring.token", key.secret, "keyring-demo")

    assert comes_to(found) == Reason.NEEDS_SELECTION
    assert {candidate["id"] for candidate in found.candidates} == {key.id, twin.id}
    assert found.coming == []


def test_no_probe_is_kept_to(sqlite_bench: Bench, sandbox: Sandbox) -> None:
    """The credential is not tried, not even to see whether it works, and no proof is announced."""
    key = sandbox.sendgrid.add_key()

    found = try_out(sqlite_bench, "sendgrid.api_key", key.secret, "sendgrid-demo", probe=False)

    assert found.acts
    assert [coming.planned.purpose.value for coming in found.coming] == ["act"]
    assert sandbox.calls("sendgrid", "GET", "*/v3/scopes") == []


def test_our_own_identity_is_told(sqlite_bench: Bench, sandbox: Sandbox, cast: Cast) -> None:
    """What a job would refuse for promise 8, the dry run refuses."""
    account = next(account for account in cast.accounts if account.name == "sendgrid-demo")
    (own,) = account.environment.values()

    assert comes_to(try_out(sqlite_bench, "sendgrid.api_key", own, "sendgrid-demo")) == Reason.PROTECTED


def test_a_hold_changes_nothing_and_is_told(sqlite_bench: Bench, sandbox: Sandbox) -> None:
    """A dry run sends nothing that a hold would stop."""
    key = sandbox.sendgrid.add_key()
    moves.hold_on(sqlite_bench.runtime.database, "sendgrid-demo", actor="tester", why="incident")

    found = try_out(sqlite_bench, "sendgrid.api_key", key.secret, "sendgrid-demo")

    assert found.acts
    assert found.held == "sendgrid-demo is held by tester: incident"


def test_the_open_job_that_a_submission_would_join_is_named(sqlite_bench: Bench, sandbox: Sandbox) -> None:
    """Trying out what is under way already says so, and the job is left alone."""
    key = sandbox.sendgrid.add_key()
    job = sqlite_bench.submit("sendgrid.api_key", key.secret, "sendgrid-demo")

    assert try_out(sqlite_bench, "sendgrid.api_key", key.secret, "sendgrid-demo").joins == job
    assert reads.job(sqlite_bench.runtime.database, job).state is State.QUEUED


def test_what_the_ledger_knows_counts(sqlite_bench: Bench, sandbox: Sandbox) -> None:
    """A key that we ended ourselves is dead with evidence, also where the provider has forgotten it."""
    key = sandbox.keyring.add_key()
    assert sqlite_bench.run("keyring.token", key.secret, "keyring-demo").verdict is Verdict.REVOKED

    assert comes_to(try_out(sqlite_bench, "keyring.token", key.secret, "keyring-demo")) == Verdict.ALREADY_REVOKED


def test_a_probe_is_tried_out_too(sqlite_bench: Bench, sandbox: Sandbox) -> None:
    """It only looks anyway; rehearsed, it leaves no job behind."""
    key = sandbox.sendgrid.add_key()

    found = try_out(sqlite_bench, "sendgrid.api_key", key.secret, "sendgrid-demo", intent=Intent.PROBE)

    assert comes_to(found) == Verdict.ALIVE
    assert reads.jobs(sqlite_bench.runtime.database) == []


def test_a_provider_that_does_not_answer_is_waited_for_a_little(
    sqlite_bench: Bench, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A person is waiting: after a while the dry run says what a job would wait for."""
    monkeypatch.setattr(rehearsal, "PATIENCE", 1.0)
    key = sandbox.sendgrid.add_key()
    sandbox.fault("sendgrid", "status", method="GET", path="*/v3/scopes", status=503, times=None)

    found = try_out(sqlite_bench, "sendgrid.api_key", key.secret, "sendgrid-demo")

    assert isinstance(found.decision, Wait)
    assert "503" in found.decision.why


PAUSING = """
rules:
  - id: keyring.pausing
    name: Keyring key, slowly
    pattern: '\\b(?P<TOKEN>kr_[A-Za-z0-9]{32})\\b'
    validation:
      type: Http
      content:
        request:
          url: "{{ BASE_URL }}/v1/whoami"
          headers: {Authorization: "Bearer {{ TOKEN }}"}
          response_matcher: [{type: StatusMatch, status: [200]}]
        dead: [{type: StatusMatch, status: [401]}]
    revocation:
      type: HttpMultiStep
      content:
        steps:
          - {name: settle, pause: 1h}
          - name: note
            request:
              method: POST
              url: "{{ BASE_URL }}/v1/notes"
              form: {key: "{{ TOKEN }}", why: a leaver}
              response_matcher: [{type: StatusMatch, status: [201]}]
            extract: {NOTE: {type: JsonPath, path: $.id}}
          - {name: wait, pause: 90s}
          - name: close
            given: [NOTE]
            request:
              method: PUT
              url: "{{ BASE_URL }}/v1/notes/{{ NOTE }}"
              headers: {Content-Type: application/json, X-Key: "{{ TOKEN }}"}
              body: '{"key": "{{ TOKEN }}", "closed": true}'
              response_matcher: [{type: StatusMatch, status: [200]}]
"""


@pytest.fixture
def pausing_bench(tmp_path: Path, sqlite_url: str, sandbox: Sandbox) -> Iterator[Bench]:
    """One with a rule that waits, and whose second change needs what the first one answers."""
    rules = tmp_path / "rules"
    rules.mkdir()
    head = (SANDBOX_RULES / "keyring.yaml").read_text().partition("rules:\n")[0]
    (rules / "pausing.yaml").write_text(head + PAUSING.lstrip())
    connection = {"provider": "keyring", "base_url": sandbox.url("keyring")}
    settings = {"rules_path": [str(rules)]}
    with open_bench(tmp_path, sqlite_url, sandbox, connections={"ring": connection}, settings=settings) as opened:
        yield opened


def test_pauses_are_passed_and_what_is_not_known_yet_is_said(pausing_bench: Bench, sandbox: Sandbox) -> None:
    """An hour of waiting is no hour for the person who tries it out, and secrets are masked in bodies and forms too."""
    key = sandbox.keyring.add_key()

    found = try_out(pausing_bench, "keyring.pausing", key.secret, "ring")

    assert outline(found) == [("before", "probe", "alive"), ("pause", "settle", "ok")]
    note, wait, close, proof = found.coming
    assert note.shown is not None
    assert note.shown.body == "key=••••&why=a leaver"
    assert wait.shown is not None
    assert wait.shown.method == "WAIT"
    assert (close.planned.name, close.shown) == ("close", None)
    assert "NOTE" in close.lacking
    assert proof.planned.purpose.value == "after"
    assert key.secret not in repr(found)
