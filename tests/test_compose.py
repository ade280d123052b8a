"""compose.yaml says what the design says; no container engine is here, so what a container would do is not tried."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[1]
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]


def words(name: str) -> str:
    """A service's command on one line."""
    return " ".join(SERVICES[name]["command"])


def test_the_five_processes_are_those_of_the_design() -> None:
    """Incidents have a worker of their own, the clock too, and Flower can change nothing."""
    assert words("urgent").startswith("celery -A worker.app worker -Q urgent")
    assert words("bulk").startswith("celery -A worker.app worker -Q bulk,rotation")
    assert words("clock").startswith("celery -A scheduler.app worker -Q clock -P solo")
    assert words("beat") == "celery -A scheduler.app beat"
    assert "flower --address=0.0.0.0 --port=5555 --read-only=True" in words("flower")
    assert words("migrate") == "revoq db upgrade"


def test_no_secret_is_in_a_command_or_a_variable() -> None:
    """What a process is started with can be read by others: only names of files stand here."""
    for name, service in SERVICES.items():
        variables = {key: value for key, value in (service.get("environment") or {}).items() if key.startswith("REVOQ")}
        assert all(key.endswith("_FILE") or "URL" not in key for key in variables), name
        assert "--requirepass" not in words(name) if "command" in service else True
    assert all(set(service.get("secrets", [])) <= set(COMPOSE["secrets"]) for service in SERVICES.values())


def test_only_who_opens_sealed_secrets_has_the_keys() -> None:
    """What Flower or beat never had, nobody takes from them."""
    keyed = {name for name, service in SERVICES.items() if "seal_keys" in service.get("secrets", [])}
    told = {name for name, service in SERVICES.items() if "REVOQ_SEAL_KEYS_FILE" in (service.get("environment") or {})}
    assert keyed == told == {"urgent", "bulk", "clock"}


def test_incidents_have_the_processor_first() -> None:
    """Bulk weighs less than every other container, each of which has the default."""
    assert {name: service["cpu_shares"] for name, service in SERVICES.items() if "cpu_shares" in service} == {
        "bulk": 128
    }


def test_everything_is_pinned_and_nothing_is_published_but_flower_on_loopback() -> None:
    """An image without a version changes under one's feet, and a published broker is everybody's."""
    images = [service["image"] for service in SERVICES.values()]
    assert all(re.search(r":v?\d+\.\d+", image) for image in images)
    assert [port for service in SERVICES.values() for port in service.get("ports", [])] == ["127.0.0.1:5555:5555"]


def test_our_own_containers_can_do_little() -> None:
    """Not root, a read-only root file system, no capabilities."""
    for name in ("migrate", "urgent", "bulk", "clock", "beat", "flower", "metrics"):
        service = SERVICES[name]
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
        assert service["user"] == "10001:10001"
