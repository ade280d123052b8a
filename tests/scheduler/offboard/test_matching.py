"""Which rule a finding is given to: by id, by alias, by a pattern that tells itself apart; and what is left alone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from rules.lifecycle import Reason, Verdict
from scheduler.offboard.items import TOKEN, Finding
from scheduler.offboard.matching import Unmatched, match
from tests.sandbox import Sandbox
from tests.sandbox.fixtures import sandbox
from tests.worker.bench import Bench, open_bench

__all__ = ["sandbox"]

KEY = "SG." + "a1B2" * 5 + "a1" + "." + "c3D4" * 10 + "e5F"
JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N"
AWS_ID, AWS_SECRET = "AKIAX5MPQ7RSTUVWYZ2K", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYzK4x2ULoZq"
PROVIDERS = ("sendgrid", "aws", "pangolin", "verdaccio", "twilio", "jupyterhub", "npm")


def found(name: str, secret: str, **beside: str) -> Finding:
    return Finding(place="1", scanner="x", names=(name,), values={**beside, TOKEN: secret}, where="a.txt")


@pytest.fixture
def bench(tmp_path: Path, sqlite_url: str, sandbox: Sandbox) -> Iterator[Bench]:
    """One connection to each of a few providers, and two to one of them."""
    named = {name: {"provider": name, "base_url": "https://x.example.com"} for name in PROVIDERS}
    more = {"hub-two": {"provider": "jupyterhub", "base_url": "https://y.example.com"}}
    with open_bench(tmp_path, sqlite_url, sandbox, connections={**named, **more}) as opened:
        yield opened


@pytest.mark.parametrize("name", ["sendgrid.api_key", "kingfisher.sendgrid.1", "veles.secrets/sendgrid", "anything"])
def test_by_id_alias_and_pattern(bench: Bench, name: str) -> None:
    """An id and an alias lead to their rule; under another name the text itself does, if it is nothing else."""
    matched = match(bench.runtime, found(name, KEY), "")

    assert (matched.loaded.rule.id, matched.connection, matched.secret) == ("sendgrid.api_key", "sendgrid", KEY)


@pytest.mark.parametrize(
    "finding",
    [
        found("kingfisher.aws.2", AWS_SECRET, AKID=AWS_ID),
        found("betterleaks.aws-access-token", AWS_ID, AWS_SECRET_ACCESS_KEY=AWS_SECRET),
        found("trufflehog.AWS", AWS_ID, PAIR=AWS_SECRET),
    ],
)
def test_both_halves_of_a_pair(bench: Bench, finding: Finding) -> None:
    """Scanners call the halves otherwise, and some put the id first: each is told by what it looks like."""
    matched = match(bench.runtime, finding, "")

    assert (matched.loaded.rule.id, matched.secret) == ("aws.access_key", AWS_SECRET)
    assert matched.variables == {"AKID": AWS_ID}


@pytest.mark.parametrize(
    ("finding", "why"),
    [
        (found("generic", "k3Yz" * 10), "no rule here knows it"),
        (found("generic", "0123456789abcdef" * 2), "no rule here knows it"),
        (found("jwt", JWT), "several rules fit"),
        (found("kingfisher.twilio.2", "a" * 32), "twilio.api_key needs KEY_SID too"),
        (found("kingfisher.sendgrid.1", "not one"), "the secret that sendgrid.api_key expects is not in the finding"),
        (found("kingfisher.tailscale.1", "tskey-api-" + "a" * 12 + "-" + "b" * 32), "no connection to tailscale"),
        (found("jupyterhub.token", "a1" * 16), "hub-two, jupyterhub all lead to jupyterhub"),
    ],
)
def test_what_is_left_alone(bench: Bench, finding: Finding, why: str) -> None:
    """A text that may be many things, a pair without its other half, an account that nobody signs for: each says so."""
    with pytest.raises(Unmatched, match=why):
        match(bench.runtime, finding, "")


def test_a_chosen_connection(bench: Bench) -> None:
    """Where several lead to a provider, the chosen one is taken; for other providers it says nothing."""
    assert match(bench.runtime, found("jupyterhub.token", "a1" * 16), "hub-two").connection == "hub-two"
    assert match(bench.runtime, found("x", KEY), "hub-two").connection == "sendgrid"


@pytest.mark.parametrize(
    ("owns", "verdict", "reason", "probes"),
    [
        ({"subject": "dana"}, Verdict.REVOKED, None, True),
        ({"subject": "erin"}, None, Reason.NOT_OURS, True),
        ({"tenant": "acme"}, None, Reason.NOT_OURS, True),
        ({}, None, Reason.NOT_OURS, False),
    ],
)
def test_a_finding_has_to_be_shown_to_be_ours(
    tmp_path: Path,
    sqlite_url: str,
    sandbox: Sandbox,
    monkeypatch: pytest.MonkeyPatch,
    owns: dict[str, str],
    verdict: Verdict | None,
    reason: Reason | None,
    probes: bool,  # noqa: FBT001 - a table's column
) -> None:
    """Whose it is is asked before anything is changed; where nothing could show it, it is not even tried."""
    session, target = sandbox.npm.add_token(session=True), sandbox.npm.add_token()
    monkeypatch.setenv("NPM_SESSION", session.secret)
    npm = {"provider": "npm", "base_url": sandbox.url("npm"), "identity": {"token": "env:NPM_SESSION"}, "owns": owns}
    with open_bench(tmp_path, sqlite_url, sandbox, connections={"npm": npm}) as bench:
        job = bench.run("npm.token", target.secret, "npm", finding=True)

    assert (job.verdict, job.reason) == (verdict, reason), job.says
    tried = [call for call in sandbox.calls("npm", path="*/-/whoami") if call.actor == target.id]
    assert bool(tried) is probes
    assert len(sandbox.mutations("npm")) == (verdict is not None)
