"""What hurts while a job is under way: a worker killed between the deed and its record, a hold in the middle."""

from __future__ import annotations

import json

import pytest

from tests.acceptance.conftest import Build, hub_connection
from tests.acceptance.system import System
from tests.acceptance.test_main_job import REVOKE, make_tokens
from tests.servers.hub import Hub

pytestmark = pytest.mark.acceptance


def test_a_worker_killed_between_the_delete_and_its_record(
    hub_system: System, jupyterhub: Hub, request: pytest.FixtureRequest
) -> None:
    """The next worker asks the provider instead of assuming; one DELETE, `revoked`, and the audit shows the intent."""
    user = f"kim-{request.node.callspec.id}"
    target, others = make_tokens(jupyterhub, user)
    hub_system.start_all()
    with jupyterhub.front.holding_next_answer("DELETE") as held:
        job_id = hub_system.submit(*REVOKE, stdin=target)
        held.wait_until_done()
        hub_system.kill("urgent")
    hub_system.restart("urgent")

    job = hub_system.wait_ended(job_id)

    assert job["verdict"] == "revoked", json.dumps(job, indent=1)
    assert jupyterhub.count_deletes(user) == 1
    assert jupyterhub.status_of(target) == 403
    assert [jupyterhub.status_of(token) for token in others] == [200, 200]
    assert ("act", "lost") in [(step["purpose"], step["outcome"]) for step in job["steps"]]
    assert ("ask", "dead") in [(step["purpose"], step["outcome"]) for step in job["steps"]]
    rows = hub_system.ask("audit", "list", "--job", job_id)
    assert [row["name"] for row in rows if row["event"] == "step→intended" and row["mutating"]] == ["delete"]
    assert hub_system.revoq("audit", "verify").returncode == 0


def test_a_hold_stops_every_mutating_request(build_system: Build, sqlite_url: str, jupyterhub: Hub) -> None:
    """With the hold on, lookups go on and nothing is deleted; off, the jobs go on by themselves."""
    system = build_system(
        sqlite_url,
        connections=hub_connection(jupyterhub),
        secrets={"HUB_TOKEN": jupyterhub.admin_token},
        # The answer that is kept back below has to be waited for until the command has returned.
        settings={"request_timeout": "25s", "claim": "60s"},
    )
    target, _others = make_tokens(jupyterhub, "hal")
    system.start_all()
    with jupyterhub.front.holding_next_answer("GET") as held:
        job_id = system.submit(*REVOKE, stdin=target)
        held.wait_until_done()
        system.revoq("hold", "on", "--reason", "incident").check_returncode()

    waiting = system.wait_for(job_id, lambda job: job["state"] == "waiting")

    assert waiting["reason"] == "held"
    assert jupyterhub.count_deletes("hal") == 0
    assert jupyterhub.status_of(target) == 200

    system.revoq("hold", "off", "--reason", "over").check_returncode()

    assert system.wait_ended(job_id)["verdict"] == "revoked"
    assert jupyterhub.count_deletes("hal") == 1
