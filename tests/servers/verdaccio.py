"""A real Verdaccio behind a front door that counts; its users and tokens are made through its own API."""

import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import yaml

from tests.servers.front import Front, open_front
from tests.servers.missing import report_missing
from tests.servers.ports import find_free_port
from tests.servers.process import Process

TOKENS = "/-/npm/v1/tokens"


@dataclass(frozen=True)
class Verdaccio:
    """One registry. Code under test is given `base_url`; the methods here go past the counting front door."""

    base_url: str
    front: Front
    direct_url: str
    passwords: dict[str, str] = field(default_factory=dict)
    sessions: dict[str, str] = field(default_factory=dict)

    def create_user(self, name: str) -> None:
        """A new user, who is signed in at once."""
        self.passwords[name] = secrets.token_hex(12)
        user = {"name": name, "password": self.passwords[name]}
        signed_in = httpx.put(f"{self.direct_url}/-/user/org.couchdb.user:{name}", json=user).raise_for_status()
        self.sessions[name] = signed_in.json()["token"]

    def create_token(self, user: str) -> tuple[str, str]:
        """A new token of the user's: its key, and its secret."""
        wanted = {"password": self.passwords[user], "readonly": False, "cidr_whitelist": []}
        created = self.ask("POST", user, json=wanted).raise_for_status().json()
        return created["key"], created["token"]

    def list_tokens(self, user: str) -> list[dict[str, Any]]:
        """What the registry says of the user's tokens, in its own order and with their secrets masked."""
        listed: list[dict[str, Any]] = self.ask("GET", user).raise_for_status().json()["objects"]
        return listed

    def whoami(self, token: str) -> str | None:
        """Whose token it is, or None where the registry refuses it."""
        answer = httpx.get(f"{self.direct_url}/-/whoami", headers={"Authorization": f"Bearer {token}"})
        return None if answer.status_code == 403 else str(answer.raise_for_status().json()["username"])

    def count_deletes(self, key: str = "") -> int:
        """How many DELETE requests came through the front door, for this key or for all."""
        return self.front.count("DELETE", f"{TOKENS}/token/{key}")

    def ask(self, method: str, user: str, **options: Any) -> httpx.Response:
        headers = {"Authorization": f"Bearer {self.sessions[user]}"}
        return httpx.request(method, f"{self.direct_url}{TOKENS}", headers=headers, **options)


@contextmanager
def running_verdaccio(directory: Path) -> Iterator[Verdaccio]:
    """A registry without packages and its front door, which end together."""
    program = find_verdaccio()
    port = find_free_port()
    direct_url = f"http://127.0.0.1:{port}"
    config = directory / "config.yaml"
    config.write_text(yaml.safe_dump(configure(directory)))
    with (
        Process.start(
            [program, "-c", config, "-l", f"127.0.0.1:{port}"],
            log=directory / "verdaccio.log",
            cwd=directory,
            env={name: os.environ[name] for name in ("HOME", "LANG", "PATH", "TMPDIR") if name in os.environ},
        ) as process,
        open_front("127.0.0.1", port) as front,
    ):
        process.wait_until(lambda: answers(direct_url))
        yield Verdaccio(base_url=front.url, front=front, direct_url=direct_url)


def configure(directory: Path) -> dict[str, Any]:
    """Signed tokens, which can be listed and deleted, and no other registry behind this one."""
    return {
        "storage": str(directory / "storage"),
        "auth": {"htpasswd": {"file": str(directory / "htpasswd")}},
        "uplinks": {},
        "packages": {"**": {"access": "$authenticated", "publish": "$authenticated"}},
        "security": {"api": {"jwt": {"sign": {"expiresIn": "29d"}}}},
        "flags": {"token": True},
        "log": {"type": "stdout", "format": "pretty", "level": "http"},
    }


def find_verdaccio() -> Path:
    """The registry, an npm package: named by VERDACCIO, or on the PATH."""
    found = os.environ.get("VERDACCIO") or shutil.which("verdaccio")
    if found and shutil.which(found):
        return Path(found).absolute()
    return report_missing(
        "verdaccio", "npm install verdaccio somewhere, and put it on the PATH or name it in VERDACCIO"
    )


def answers(url: str) -> bool:
    """Whether it is there."""
    try:
        return httpx.get(f"{url}/-/ping", timeout=2).status_code == 200
    except httpx.HTTPError:
        return False
