"""A real JupyterHub behind a front door that counts; its users and tokens are made through its own API."""

import json
import os
import secrets
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from tests.servers.front import Front, open_front
from tests.servers.missing import report_missing
from tests.servers.ports import find_free_port
from tests.servers.process import Process

CONFIG = """\
import json
from pathlib import Path

values = json.loads(Path(__file__).with_name("values.json").read_text())

c.JupyterHub.authenticator_class = "dummy"
c.Authenticator.allow_all = True
c.JupyterHub.services = [{"name": "revoq", "api_token": values["admin_token"]}]
c.JupyterHub.load_roles = [{"name": "revoq", "scopes": ["admin:users", "tokens"], "services": ["revoq"]}]
c.JupyterHub.bind_url = values["bind_url"]
c.JupyterHub.hub_bind_url = values["hub_bind_url"]
c.ConfigurableHTTPProxy.api_url = values["proxy_api_url"]
c.ConfigurableHTTPProxy.command = [values["proxy"]]
c.JupyterHub.db_url = values["db_url"]
c.JupyterHub.cookie_secret_file = values["cookie_secret_file"]
"""


@dataclass(frozen=True)
class Hub:
    """One JupyterHub. Code under test is given `base_url`; the methods here go past the counting front door."""

    base_url: str
    admin_token: str
    front: Front
    direct_url: str
    process: Process

    def create_user(self, name: str) -> None:
        self.ask("POST", f"/users/{name}").raise_for_status()

    def create_token(self, user: str, note: str) -> tuple[str, str]:
        """A new token of the user's: its id, and its secret."""
        created = self.ask("POST", f"/users/{user}/tokens", json={"note": note}).raise_for_status().json()
        return created["id"], created["token"]

    def list_tokens(self, user: str) -> list[dict[str, Any]]:
        """What the hub says of the user's tokens, in its own order and without their secrets."""
        listed: list[dict[str, Any]] = self.ask("GET", f"/users/{user}/tokens").raise_for_status().json()["api_tokens"]
        return listed

    def status_of(self, token: str) -> int:
        """The status with which the hub answers a token that asks who it is: 200 alive, 403 dead."""
        return httpx.get(f"{self.direct_url}/hub/api/user", headers={"Authorization": f"token {token}"}).status_code

    def count_deletes(self, user: str = "") -> int:
        """How many DELETE requests came through the front door, for this user or for all."""
        return self.front.count("DELETE", f"/users/{user}")

    def ask(self, method: str, path: str, **options: Any) -> httpx.Response:
        headers = {"Authorization": f"token {self.admin_token}"}
        return httpx.request(method, f"{self.direct_url}/hub/api{path}", headers=headers, **options)


@contextmanager
def running_hub(directory: Path) -> Iterator[Hub]:
    """A hub with its proxy and its front door, which all end together."""
    proxy = find_proxy()
    port = find_free_port()
    direct_url = f"http://127.0.0.1:{port}"
    admin_token = secrets.token_hex(20)
    values = {
        "admin_token": admin_token,
        "bind_url": direct_url,
        "hub_bind_url": f"http://127.0.0.1:{find_free_port()}",
        "proxy_api_url": f"http://127.0.0.1:{find_free_port()}",
        "proxy": str(proxy),
        "db_url": f"sqlite:///{directory / 'hub.sqlite'}",
        "cookie_secret_file": str(directory / "cookie_secret"),
    }
    (directory / "values.json").write_text(json.dumps(values))
    config = directory / "config.py"
    config.write_text(CONFIG)
    with (
        Process.start(
            [sys.executable, "-m", "jupyterhub", "-f", config],
            log=directory / "hub.log",
            cwd=directory,
            # A setting of the machine's own hub, or a proxy for HTTP, would change what is tested.
            env={name: os.environ[name] for name in ("HOME", "LANG", "PATH", "TMPDIR") if name in os.environ},
        ) as process,
        open_front("127.0.0.1", port) as front,
    ):
        process.wait_until(lambda: answers(direct_url))
        yield Hub(base_url=front.url, admin_token=admin_token, front=front, direct_url=direct_url, process=process)


def find_proxy() -> Path:
    """JupyterHub's proxy, an npm package: named by CONFIGURABLE_HTTP_PROXY, or on the PATH."""
    found = os.environ.get("CONFIGURABLE_HTTP_PROXY") or shutil.which("configurable-http-proxy")
    if found and shutil.which(found):
        return Path(found).absolute()
    return report_missing(
        "configurable-http-proxy",
        "npm install configurable-http-proxy somewhere, and put it on the PATH or name it in CONFIGURABLE_HTTP_PROXY",
    )


def answers(url: str) -> bool:
    """The proxy answers before the hub does, though never with 200."""
    try:
        return httpx.get(f"{url}/hub/api", timeout=2).status_code == 200
    except httpx.HTTPError:
        return False
