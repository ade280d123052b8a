"""One credential through all three houses, against a real JupyterHub, on both databases."""

from __future__ import annotations

import json

import pytest

from tests.acceptance.system import System
from tests.servers.hub import Hub

pytestmark = pytest.mark.acceptance

REVOKE = ("--rule", "jupyterhub.token", "--connection", "hub")


def make_tokens(hub: Hub, user: str) -> tuple[str, list[str]]:
    """Three tokens for one user; the target is neither first nor last in the hub's own list."""
    hub.create_user(user)
    made = dict(hub.create_token(user, note) for note in ("one", "two", "three"))
    order = [row["id"] for row in hub.list_tokens(user) if row["id"] in made]
    target = order[1]
    return made[target], [token for token_id, token in made.items() if token_id != target]


def test_the_right_one_of_three_is_proved_dead_and_found_again(
    hub_system: System, jupyterhub: Hub, request: pytest.FixtureRequest
) -> None:
    """Submitted at a terminal, looked up, deleted, proved dead, recorded; a second submission deletes nothing."""
    user = f"bob-{request.node.callspec.id}"
    target, others = make_tokens(jupyterhub, user)
    hub_system.start_all()

    done = hub_system.revoq("revoke", *REVOKE, "--wait", "--ticket", "SEC-1", "--owner", "team-a", stdin=target + "\n")

    assert done.returncode == 0, done.stdout + done.stderr + hub_system.logs()[-4000:]
    assert jupyterhub.status_of(target) == 403
    assert [jupyterhub.status_of(token) for token in others] == [200, 200]
    assert jupyterhub.count_deletes(user) == 1

    (first,) = hub_system.ask("jobs", "list")
    shown = hub_system.job(first["id"])
    assert (shown["verdict"], shown["ticket"], shown["owner"]) == ("revoked", "SEC-1", "team-a")
    assert [(step["purpose"], step["outcome"]) for step in shown["steps"]] == [
        ("before", "alive"),
        ("read", "ok"),
        ("read", "ok"),
        ("act", "ok"),
        ("after", "dead"),
    ]
    assert [step["evidence"]["status"] for step in shown["steps"]] == [200, 200, 200, 204, 403]
    assert target not in json.dumps(shown)

    again = hub_system.revoq("revoke", *REVOKE, "--wait", stdin=target)
    assert again.returncode == 0, again.stderr
    assert jupyterhub.count_deletes(user) == 1
    assert {job["verdict"] for job in hub_system.ask("jobs", "list")} == {"revoked", "already_revoked"}

    history = hub_system.ask("history", stdin=target)
    assert {job["verdict"] for job in history} == {"revoked", "already_revoked"}
    assert hub_system.revoq("audit", "verify").returncode == 0


def test_a_token_that_the_hub_never_knew_is_not_called_dead(hub_system: System, jupyterhub: Hub) -> None:
    """403 from the first probe, and nothing shows that this hub ever knew it: a person has to look."""
    hub_system.start_all()

    done = hub_system.revoq("revoke", *REVOKE, "--wait", stdin="0123456789abcdef0123456789abcdef")

    assert done.returncode == 3, done.stdout + done.stderr + hub_system.logs()[-4000:]
    (job,) = hub_system.ask("jobs", "list")
    assert (job["state"], job["reason"]) == ("parked", "not_recognised")
    assert jupyterhub.count_deletes("") == jupyterhub.count_deletes("")


def test_an_emptied_broker_loses_nothing(hub_system: System, jupyterhub: Hub, request: pytest.FixtureRequest) -> None:
    """FLUSHALL after the submission and before any worker has seen it: the sweep rings again."""
    user = f"eve-{request.node.callspec.id}"
    target, others = make_tokens(jupyterhub, user)
    job_id = hub_system.submit(*REVOKE, stdin=target)

    hub_system.broker.flushall()
    hub_system.start_all()

    assert hub_system.wait_ended(job_id)["verdict"] == "revoked"
    assert jupyterhub.status_of(target) == 403
    assert [jupyterhub.status_of(token) for token in others] == [200, 200]
