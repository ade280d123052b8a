"""A credential that nobody holds is named by its id, read back as one row, and ended by it; no secret is anywhere."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from rules.errors import BadInput
from rules.lifecycle import Reason, Verdict
from tests.sandbox import Sandbox
from tests.worker.bench import Bench, open_bench
from worker.ledger import reads

RULES = """
provider:
  name: named
  title: Keys by their id
  hosts: {BASE_URL: []}
  identity:
    needs: [account, token]
    secrets: [token]
    sign: {Authorization: "Bearer {{ TOKEN }}"}
rules:
  - id: named.key
    name: key that is only named
    secret: none
    variables: {KEY_ID: {about: its id, required: true, identifies: true}}
    credential: {id: KEY_ID, subject: NAME}
    validation:
      type: Http
      content:
        request: &read
          method: GET
          url: "{{ BASE_URL }}/v3/api_keys/{{ KEY_ID }}"
          actor: true
          response_matcher: [{type: StatusMatch, status: [200]}]
        dead: [{type: StatusMatch, status: [404]}]
    revocation:
      type: HttpMultiStep
      content:
        steps:
          - name: read
            request: *read
            select:
              rows: $
              where: [{field: api_key_id, equals: "{{ KEY_ID }}"}]
              id: api_key_id
            extract:
              FOUND_ID: {type: JsonPath, path: $.api_key_id}
              NAME: {type: JsonPath, path: $.name}
            outcomes:
              - is: not_ours
                when: [{type: JsonMatch, path: $.name, equals: "{{ ACTOR_ACCOUNT }}", negative: true}]
          - name: delete
            request:
              method: DELETE
              url: "{{ BASE_URL }}/v3/api_keys/{{ FOUND_ID }}"
              actor: true
              response_matcher: [{type: StatusMatch, status: [204]}]
    verification: {window: 1s, spacing: 1s}
"""
RULE = "named.key"


@pytest.fixture
def bench(tmp_path: Path, sqlite_url: str, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    """A runtime with the rule above, and a connection whose account is called `ours`."""
    (tmp_path / "rules").mkdir()
    (tmp_path / "rules" / "named.yaml").write_text(RULES)
    monkeypatch.setenv("TEST_NAMED", sandbox.sendgrid.add_key(name="revoq").secret)
    identity = {"account": "ours", "token": "env:TEST_NAMED"}
    connections = {"named": {"provider": "named", "base_url": sandbox.url("sendgrid"), "identity": identity}}
    settings = {"rules_path": [str(tmp_path / "rules")]}
    with open_bench(tmp_path, sqlite_url, sandbox, connections=connections, settings=settings) as opened:
        yield opened


def test_its_id_is_enough(bench: Bench, sandbox: Sandbox) -> None:
    """It dies alone, and the ledger knows it by its id afterwards, so that a second job finds it dead."""
    target, other = (sandbox.sendgrid.add_key(name="ours") for _ in range(2))

    job = bench.run(RULE, None, "named", variables={"KEY_ID": target.id})

    assert job.verdict is Verdict.REVOKED
    assert [row[1:] for row in bench.outline(job)] == [
        ("probe", "alive"),
        ("read", "ok"),
        ("delete", "ok"),
        ("probe", "dead"),
    ]
    assert not sandbox.alive("sendgrid", target.id)
    assert sandbox.alive("sendgrid", other.id)
    known = reads.credential(bench.runtime.database, job.credential)
    assert (known.provider_id, known.subject) == (target.id, "ours")

    again = bench.run(RULE, None, "named", variables={"KEY_ID": target.id})
    assert (again.verdict, again.credential) == (Verdict.ALREADY_REVOKED, job.credential)
    assert len(sandbox.calls("sendgrid", "DELETE")) == 1


def test_another_s_is_left_alone(bench: Bench, sandbox: Sandbox) -> None:
    """The answer names an owner that is not the connection's own account: nothing is sent that changes anything."""
    theirs = sandbox.sendgrid.add_key(name="theirs")

    job = bench.run(RULE, None, "named", variables={"KEY_ID": theirs.id})

    assert job.reason == Reason.NOT_OURS
    assert sandbox.alive("sendgrid", theirs.id)
    assert sandbox.mutations("sendgrid") == []


def test_a_secret_is_refused_and_the_name_is_demanded(bench: Bench) -> None:
    """A secret has no use here, and the identity of our own connection is nothing that a requester may say."""
    with pytest.raises(BadInput, match="takes no secret: KEY_ID names the credential"):
        bench.submit(RULE, "SG.something", "named", variables={"KEY_ID": "x"})
    with pytest.raises(BadInput, match="KEY_ID is needed"):
        bench.submit(RULE, None, "named")
    with pytest.raises(BadInput, match="there is no variable ACTOR_ACCOUNT"):
        bench.submit(RULE, None, "named", variables={"KEY_ID": "x", "ACTOR_ACCOUNT": "theirs"})
