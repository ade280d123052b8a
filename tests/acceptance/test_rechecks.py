"""A dead credential is looked at again by real processes: the clock starts it, a worker asks, and the door tells it."""

from __future__ import annotations

import json

import pytest

from tests.acceptance.conftest import Build, hub_connection
from tests.acceptance.test_main_job import REVOKE, make_tokens
from tests.servers.hub import Hub

pytestmark = pytest.mark.acceptance


def test_the_clock_looks_at_what_was_revoked(build_system: Build, sqlite_url: str, jupyterhub: Hub) -> None:
    """The one look that the settings ask for is started once, finds it dead, and with it the secret is given up."""
    system = build_system(
        sqlite_url,
        connections=hub_connection(jupyterhub),
        secrets={"HUB_TOKEN": jupyterhub.admin_token},
        settings={"recheck": ["1s"]},
    )
    target, _others = make_tokens(jupyterhub, "rae")
    system.start_all()
    job_id = system.submit(*REVOKE, stdin=target)

    job = system.wait_for(job_id, lambda found: any(look["found"] for look in found["rechecks"]))

    (look,) = job["rechecks"]
    assert (look["kind"], look["found"]) == ("look", "dead"), json.dumps(job, indent=1)
    (looked,) = system.ask("jobs", "list", "--intent", "recheck")
    assert (looked["id"], looked["parent"], looked["verdict"]) == (look["job"], job_id, "dead")
    assert job["secrets"][0]["shred_by"] == look["ended_at"]
    assert {row["id"] for row in system.ask("history", stdin=target)} == {job_id, look["job"]}
    assert system.revoq("audit", "verify").returncode == 0
