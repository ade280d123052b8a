"""A person leaves: one command over a pretend Pangolin, a real JupyterHub and a real Verdaccio; and plans."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.acceptance.conftest import Build, hub_connection
from tests.acceptance.system import System
from tests.sandbox import Sandbox
from tests.sandbox.fixtures import sandbox
from tests.servers.hub import Hub
from tests.servers.verdaccio import Verdaccio

__all__ = ["sandbox"]

pytestmark = [pytest.mark.acceptance, pytest.mark.xdist_group("verdaccio")]


def test_one_command_for_a_leaver(
    build_system: Build, sandbox: Sandbox, jupyterhub: Hub, verdaccio: Verdaccio, sqlite_url: str, tmp_path: Path
) -> None:
    """All that is Bob's dies, proved; Ann's, the machines that Bob made, and what nobody lists live and are told."""
    pangolin = sandbox.pangolin
    bot = pangolin.add_user("revoq-bot", "tenant-admin")
    bob, ann = pangolin.add_user("bob"), pangolin.add_user("ann")
    tokens = [pangolin.add_token(bob.id) for _ in range(3)]
    login, others = pangolin.add_login(bob.id), pangolin.add_token(ann.id)
    etl = pangolin.add_service_user("etl", created_by=bob.id)
    for name in ("bob", "ann"):
        jupyterhub.create_user(name)
        verdaccio.create_user(f"{name}-leaving")
    of_bob = [jupyterhub.create_token("bob", note)[1] for note in ("laptop", "ci")]
    of_ann = jupyterhub.create_token("ann", "laptop")[1]
    package, own = verdaccio.create_token("bob-leaving")[1], verdaccio.create_token("ann-leaving")[1]
    system = build_system(
        sqlite_url,
        connections={
            **hub_connection(jupyterhub),
            "lake": {
                "provider": "pangolin",
                "base_url": sandbox.url("pangolin"),
                "identity": {"username": "revoq-bot", "tenant": pangolin.tenant, "password": "env:LAKE_PASSWORD"},
            },
            "registry": {"provider": "verdaccio", "base_url": verdaccio.base_url},
        },
        secrets={"HUB_TOKEN": jupyterhub.admin_token, "LAKE_PASSWORD": bot.password, "BOB_PACKAGES": package},
    )
    file = tmp_path / "bob.csv"
    file.write_text(
        f"connection,subject,rule,secret\nlake,{bob.id},,\nhub,bob,,\nregistry,,verdaccio.token,env:BOB_PACKAGES\n"
    )
    system.start_all()

    done = system.revoq("offboard", str(file), "--wait", "--timeout", "120s", "--format", "json", within=180)

    told = json.loads(done.stdout)
    assert done.returncode == 0, done.stderr + done.stdout + system.logs()[-4000:]
    assert (told["by_verdict"], told["looking"]) == ({"revoked": 6}, 0)
    state = pangolin.state()
    assert [state[each.id] for each in tokens] == [False] * 3
    assert [state[each.id] for each in (others, login, etl)] == [True] * 3
    assert [jupyterhub.status_of(each) for each in of_bob] == [403, 403]
    assert jupyterhub.status_of(of_ann) == 200
    assert (verdaccio.whoami(package), verdaccio.whoami(own)) == (None, "ann-leaving")
    at = {each["connection"]: each for each in told["subjects"]}
    assert [(each["name"], each["becomes"]) for each in at["lake"]["owned"]] == [("etl", None)]
    (logins,) = [each for each in at["lake"]["residual"] if "login and OAuth tokens" in each["says"]]
    assert logins["until"] is not None
    shown = system.revoq("batches", "show", told["batch"]).stdout
    assert "lives on: login and OAuth tokens" in shown
    assert "etl), left alone" in shown
    assert system.revoq("audit", "verify").returncode == 0


def test_a_plan_while_the_world_moves(hub_system: System, jupyterhub: Hub, request: pytest.FixtureRequest) -> None:
    """Made, overtaken, refused when strict, applied as far as it holds, and never a second time."""
    user = f"eve-{request.node.callspec.id}"
    jupyterhub.create_user(user)
    made = dict(jupyterhub.create_token(user, note) for note in ("a", "b", "c"))
    hub_system.start_all()
    plan = hub_system.ask("offboard", "--connection", "hub", "--subject", user, "--dry-run")
    assert {item["id"] for item in plan["items"]} == set(made)
    assert [jupyterhub.status_of(token) for token in made.values()] == [200] * 3
    gone, *rest = made
    jupyterhub.ask("DELETE", f"/users/{user}/tokens/{gone}").raise_for_status()
    new, secret = jupyterhub.create_token(user, "made since")

    strict = hub_system.revoq("offboard", "--approve", plan["hash"], "--strict")
    wrong = hub_system.revoq("offboard", "--approve", "f" * 64)
    done = hub_system.revoq("offboard", "--approve", plan["hash"], "--wait", "--format", "json", within=120)
    again = hub_system.revoq("offboard", "--approve", plan["hash"])

    assert strict.returncode == 2
    assert f"vanished: jupyterhub.listed_token {gone}" in strict.stderr
    assert f"new: jupyterhub.listed_token {new}" in strict.stderr
    assert (wrong.returncode, "there is no plan" in wrong.stderr) == (2, True)
    told = json.loads(done.stdout)
    assert (told["by_verdict"], told["by_cause"]) == ({"revoked": 2}, {"not_recognised": 1}), hub_system.logs()[-4000:]
    assert [each["id"] for each in told["new"]] == [new]
    assert [jupyterhub.status_of(made[each]) for each in rest] == [403, 403]
    assert jupyterhub.status_of(secret) == 200
    assert (told["authenticated"], done.returncode) == (False, 3)
    assert (again.returncode, "a plan is applied once" in again.stderr) == (2, True)
    events = [row["event"] for row in hub_system.ask("audit", "list", "--limit", "200")]
    assert {"plan →made", "plan approved", "plan →applied"} <= set(events)
