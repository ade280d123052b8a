"""compose.yaml as it stands: every service's own command and health check, and a job that goes through them.

No container engine is needed: the services are processes of this machine, in a network of their own and each with a
root, a host name, secrets and a user as compose.yaml says. What an engine alone could try is the image.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import yaml

from tests.sandbox import Sandbox
from tests.sandbox.cast import describe_account, open_sendgrid
from tests.sandbox.sendgrid import Key
from tests.servers.compose import ROOT, Stack, open_stack, read_compose
from tests.servers.pod import open_pod

CONTAINER_USER = 10001
FLOWER = "http://127.0.0.1:5555"
PROMETHEUS = "http://127.0.0.1:9090"

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(600)]


@pytest.fixture
def folder() -> Iterator[Path]:
    """Where an operator would have put compose.yaml; not one of pytest's, which are closed to the containers' user."""
    made = Path(tempfile.mkdtemp(prefix="revoq-compose-"))
    made.chmod(0o755)
    shutil.copy(ROOT / "compose.yaml", made)
    shutil.copytree(ROOT / "scheduler" / "metrics", made / "scheduler" / "metrics")
    yield made
    shutil.rmtree(made, ignore_errors=True)


def first_lines(folder: Path) -> None:
    """The commands at the top of compose.yaml, by which the secrets are made; here everybody may be sudo."""
    script = "\n".join(re.findall(r"^#   (.*)$", (ROOT / "compose.yaml").read_text(), flags=re.MULTILINE))
    assert "revoq keys generate" in script
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    command = ["bash", "-euc", f'sudo() {{ "$@"; }}\n{script}']
    subprocess.run(command, cwd=folder, env={"PATH": path, "HOME": str(folder)}, check=True, capture_output=True)


def prepare(folder: Path, sandbox: Sandbox) -> Key:
    """What an operator does before the first start: secrets, settings, and who may read them. A key that has leaked."""
    first_lines(folder)
    account = open_sendgrid(sandbox)
    connection = {**describe_account(account, sandbox.base_url), "identity": {"token": "file:/run/secrets/mail"}}
    (folder / "revoq.yaml").write_text(yaml.safe_dump({"connections": {"mail": connection}}))
    (folder / "secrets" / "mail").write_text(next(iter(account.environment.values())))
    (folder / "secrets" / "mail").chmod(0o600)
    more = {name: {"secrets": ["mail"]} for name in ("urgent", "bulk", "clock")}
    override = {"services": more, "secrets": {"mail": {"file": "secrets/mail"}}}
    (folder / "compose.override.yaml").write_text(yaml.safe_dump(override))
    for path in (folder / "secrets" / "mail", folder / "secrets", folder / "revoq.yaml", folder / "rules.d"):
        os.chown(path, CONTAINER_USER, CONTAINER_USER)
    return sandbox.sendgrid.add_key()


def wait_sealed(stack: Stack) -> None:
    """Until the clock has folded every row of the trail into its sequence."""
    deadline = time.monotonic() + 60
    while json.loads(stack.run("urgent", ["revoq", "audit", "verify", "--format", "json"]).stdout)["unsealed"]:
        assert time.monotonic() < deadline, stack.log("clock")
        time.sleep(0.5)


def check_flower(folder: Path) -> None:
    """It serves nobody without the password, and changes nothing with it."""
    for page in ("/", "/tasks", "/api/workers", "/api/tasks", "/metrics", "/healthcheck"):
        assert httpx.get(f"{FLOWER}{page}").status_code == 401, page
    me = ("revoq", (folder / "secrets" / "flower").read_text().strip())
    assert httpx.get(f"{FLOWER}/api/workers", auth=me).status_code == 200
    refused = httpx.post(f"{FLOWER}/api/worker/shutdown/urgent@urgent", auth=me)
    assert refused.status_code == 403


def check_prometheus() -> None:
    """It scrapes the figures, watches the alerts, and counts the job that went through."""
    deadline = time.monotonic() + 60
    query = {"query": 'sum(revoq_jobs_ended_total{verdict="revoked"})'}
    while not (found := httpx.get(f"{PROMETHEUS}/api/v1/query", params=query).json()["data"]["result"]):
        assert time.monotonic() < deadline, httpx.get(f"{PROMETHEUS}/api/v1/targets").text
        time.sleep(0.5)
    assert float(found[0]["value"][1]) == 1
    assert httpx.get(f"{PROMETHEUS}/api/v1/rules").json()["data"]["groups"]


def test_docker_compose_reads_it(folder: Path) -> None:
    """The file is one that compose takes, and what it makes of it is what the file seems to say."""
    model = read_compose(folder)

    assert set(model["services"]) == set(yaml.safe_load((folder / "compose.yaml").read_text())["services"])
    for name in ("urgent", "bulk", "clock", "beat", "flower"):
        assert model["services"][name]["stop_grace_period"] == "1m0s"
        assert model["services"][name]["healthcheck"]["test"][:3] == ["CMD", "revoq", "doctor"]
    # What runs on and on says how it is; only the migrations end.
    assert [name for name, each in model["services"].items() if "healthcheck" not in each] == ["migrate"]


def test_a_job_goes_through(folder: Path) -> None:
    """From the first lines of compose.yaml to a revoked key, and to an orderly end within the grace."""
    with open_pod() as pod, pod.entered(), Sandbox() as sandbox:
        key = prepare(folder, sandbox)
        with open_stack(folder, pod) as stack:
            stack.up()

            words = [
                "revoq",
                "revoke",
                "--rule",
                "sendgrid.api_key",
                "--connection",
                "mail",
                "--wait",
                "--format",
                "json",
            ]
            done = stack.run("urgent", words, stdin=key.secret)

            assert done.returncode == 0, done.stdout + done.stderr + stack.log("urgent")
            assert json.loads(done.stdout)["verdict"] == "revoked"
            assert not sandbox.alive("sendgrid", key.id)
            wait_sealed(stack)
            check_flower(folder)
            check_prometheus()
            ours = ["urgent", "bulk", "clock", "beat", "flower", "metrics"]
            assert stack.stop(*ours) == dict.fromkeys(ours, 0)
