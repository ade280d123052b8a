"""A planted secret is looked for in everything that left: broker, logs, Flower, database, listings, process list."""

from __future__ import annotations

import base64
import json
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from tests.acceptance.system import System
from tests.acceptance.test_main_job import REVOKE, make_tokens
from tests.servers.broker import Broker
from tests.servers.hub import Hub

pytestmark = pytest.mark.acceptance


def forms_of(secret: str) -> list[bytes]:
    """The secret as it is, and as base64 writes it at each of the three offsets, without the ends that vary."""
    raw = secret.encode()
    encoded = [base64.b64encode(b"x" * offset + raw)[4 if offset else 0 : -4] for offset in range(3)]
    return [raw, *encoded]


def find_leaks(content: bytes, secrets: list[str]) -> list[str]:
    """Every planted secret that is in the content, in any of its forms, message bodies decoded."""
    places = [content, *decode_bodies(content)]
    return [secret for secret in secrets for form in forms_of(secret) if any(form in place for place in places)]


def decode_bodies(content: bytes) -> Iterator[bytes]:
    """The bodies of Celery's messages: JSON with a base64 text under `body`."""
    for part in content.split(b'"body": "')[1:]:
        try:
            yield base64.b64decode(part.split(b'"', 1)[0].replace(b"\\", b""))
        except ValueError:
            continue


@contextmanager
def monitoring(broker: Broker) -> Iterator[list[bytes]]:
    """All that the broker was told while the block ran."""
    heard: list[bytes] = []
    with broker.connect() as client, client.monitor() as monitor:  # type: ignore[no-untyped-call]
        stop = threading.Event()

        def listen() -> None:
            for command in monitor.listen():
                heard.append(json.dumps(command, default=str).encode())
                if stop.is_set():
                    return

        thread = threading.Thread(target=listen, daemon=True)
        thread.start()
        yield heard
        stop.set()
        with broker.connect() as other:
            other.ping()
        thread.join(timeout=10)


def read_files(directory: Path) -> bytes:
    """Every file below a folder, one after the other."""
    return b"\n".join(path.read_bytes() for path in sorted(directory.rglob("*")) if path.is_file())


def dump(broker: Broker, directory: Path) -> bytes:
    """A snapshot of the broker as `redis-cli --rdb` writes it, or its append-only file where there is no client."""
    if broker.cli is None:
        return read_files(broker.directory)
    target = directory / "dump.rdb"
    subprocess.run([broker.cli, "-p", str(broker.port), "--rdb", target], check=True, capture_output=True)
    return target.read_bytes() + read_files(broker.directory)


def list_processes() -> bytes:
    """What `ps` shows to anybody on the machine."""
    return b"\n".join(" ".join(process.info["cmdline"] or []).encode() for process in psutil.process_iter(["cmdline"]))


def test_a_planted_secret_is_nowhere_but_at_the_provider(
    sqlite_hub_system: System, jupyterhub: Hub, tmp_path: Path
) -> None:
    """Success, a park and a repetition, with everything at debug level and Flower watching."""
    system = sqlite_hub_system
    target, _others = make_tokens(jupyterhub, "cleo")
    stranger = "fedcba9876543210fedcba9876543210"
    secrets = [target, stranger, jupyterhub.admin_token]
    system.start("flower")
    system.start_all()

    outputs: list[str] = []
    processes = b""
    with monitoring(system.broker) as heard:
        for secret in (target, stranger, target):
            done = system.revoq("revoke", *REVOKE, "--wait", stdin=secret)
            outputs += [done.stdout, done.stderr]
            processes += list_processes()
        jobs: list[dict[str, Any]] = system.ask("jobs", "list")
        outputs += [json.dumps(system.job(job["id"])) for job in jobs]
        outputs += [system.revoq("jobs", "show", job["id"]).stdout for job in jobs]
        flower = httpx.get(f"http://127.0.0.1:{system.flower_port}/api/tasks", timeout=10)
        snapshot = dump(system.broker, tmp_path)

    assert {job["verdict"] or job["reason"] for job in jobs} == {"revoked", "already_revoked", "not_recognised"}
    assert heard, "the monitor heard nothing, so the test shows nothing"
    shown = {name: task for name, task in flower.json().items() if task["name"] == "revoke"}
    assert {task["state"] for task in shown.values()} == {"SUCCESS", "FAILURE"}, "Flower shows how the jobs stand"
    assert {task["args"] for task in shown.values()} == {"(jupyterhub.token revoke)"}
    assert {name.rpartition(".")[0] for name in shown} == {job["id"] for job in jobs}
    assert "not_recognised" in flower.text
    places = {
        "broker dump": snapshot,
        "MONITOR": b"\n".join(heard),
        "logs": system.logs().encode(),
        "Flower": flower.content,
        "data folder": read_files(system.directory / "data"),
        "database": read_files(Path(system.database_url.removeprefix("sqlite:///")).parent),
        "terminal": "\n".join(outputs).encode(),
        "ps": processes,
    }
    assert {place: find_leaks(content, secrets) for place, content in places.items()} == {place: [] for place in places}


def test_the_search_itself_finds_what_is_planted() -> None:
    """A canary that cannot sing proves nothing: raw, in base64 at any offset, and in a message's body."""
    secret = "0123456789abcdef0123456789abcdef"
    body = base64.b64encode(json.dumps([[secret], {}]).encode()).decode()

    assert find_leaks(b"... " + secret.encode(), [secret])
    assert find_leaks(base64.b64encode(b"ab" + secret.encode() + b"cd"), [secret])
    assert find_leaks(json.dumps({"body": body}).encode(), [secret])
    assert not find_leaks(b"nothing here", [secret])
