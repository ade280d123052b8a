"""The provider of the benchmarks answers, remembers and counts."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from bench.stand import Provider
from tests.acceptance.system import ROOT
from tests.servers.ports import find_free_port
from tests.servers.process import Process


@pytest.fixture
def provider(tmp_path: Path) -> Iterator[Provider]:
    """A process of its own, as the benchmarks have it."""
    port = find_free_port()
    command = [sys.executable, "-m", "bench.provider", str(port)]
    with Process.start(command, log=tmp_path / "log", cwd=ROOT) as process:
        process.wait_until(lambda: "ready." in process.output())
        running = Provider(f"http://127.0.0.1:{port}", process)
        yield running
        running.client.close()


def test_a_deleted_token_is_dead(provider: Provider) -> None:
    """Alive until it is deleted, on one connection; both are counted."""
    headers = {"Authorization": "Bearer bt_a-17"}
    with httpx.Client(base_url=provider.url) as client:
        found = client.get("/v1/token", headers=headers)
        gone = client.delete(f"/v1/tokens/{found.json()['id']}", headers=headers)
        after = client.get("/v1/token", headers=headers)

    assert (found.status_code, gone.status_code, after.status_code) == (200, 204, 401)
    said = provider.stats()
    assert (said["looks"], said["deletions"]) == (2, 1)


def test_faults_are_as_many_as_asked_for(provider: Provider) -> None:
    """With a share of one nothing is answered well; told to count anew, everything is."""
    provider.reset(0, faults=1)
    said = []
    for _ in range(20):
        try:
            answer = httpx.get(f"{provider.url}/v1/token", headers={"Authorization": "Bearer bt_a-1"})
            said.append(answer.text)
        except httpx.RemoteProtocolError:
            said.append("cut")

    assert '{"id":"a-1"}' not in said
    assert provider.stats()["faults"] == 20
    provider.reset(0)
    assert httpx.get(f"{provider.url}/v1/token", headers={"Authorization": "Bearer bt_a-1"}).json() == {"id": "a-1"}
