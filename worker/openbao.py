"""Calls to Vault and OpenBao: hvac writes the request, and our own client sends it; what an answer means is not ours.

So a call has the same deadline, the same pinned host and the same errors as every other request. Nothing is taken from
this machine: no variable and no file with a token. hvac is an optional extra, and takes a tenth of a second to load, so
whoever speaks to such a server loads this module when it does.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from hvac.adapters import Adapter
from hvac.api.auth_methods.approle import AppRole
from hvac.api.auth_methods.token import Token
from hvac.api.secrets_engines.kv_v2 import KvV2
from hvac.api.system_backend import SystemBackend

from rules.message import Answer, Prepared
from rules.request import origin_of
from rules.secret import Secret

Send = Callable[[Prepared, bool], Answer]
"""Sends a request; the second argument says whether it changes a secret."""


class Wire(Adapter):  # type: ignore[misc]
    """What hvac sends by; every call answers with an `Answer`, whatever its status."""

    def __init__(
        self, base_url: str, namespace: str | None, token: Secret | None, send: Callable[[Prepared], Answer]
    ) -> None:
        """Keep what each request needs; hvac's own session is never made."""
        self._base_url, self._namespace, self._token, self._send = base_url, namespace, token, send

    def request(
        self,
        method: str,
        url: str,
        headers: dict[str, str] | None = None,
        raise_exception: bool = True,  # noqa: ARG002, FBT001, FBT002 - the base class's signature
        **said: Any,
    ) -> Answer:
        """Send one request; `json` is its body, and our calls have no other parameters."""
        body = said.get("json")
        own = {"X-Vault-Request": "true", "X-Vault-Namespace": self._namespace, **(headers or {})}
        own |= {"Content-Type": "application/json"} if body is not None else {}
        signed = {"X-Vault-Token": self._token} if self._token is not None else {}
        return self._send(
            Prepared(
                method=method.upper(),
                url=Secret(f"{self._base_url}{url}"),
                shown=f"{self._base_url}{url}",
                origin=origin_of(self._base_url),
                headers={name: Secret(text) for name, text in own.items() if text} | signed,
                body=Secret(json.dumps(body)) if body is not None else None,
            )
        )

    def get_login_token(self, response: Answer) -> str:
        """Our logins are asked for the answer itself."""
        raise NotImplementedError


class OpenBao:
    """One server, seen with one token or, before there is one, with none."""

    def __init__(self, base_url: str, namespace: str | None, send: Send, token: Secret | None = None) -> None:
        """Send nothing yet."""
        self._base_url, self._namespace, self._send, self._token = base_url, namespace, send, token

    def with_token(self, token: Secret) -> OpenBao:
        """The same server, every call signed with this token."""
        return OpenBao(self._base_url, self._namespace, self._send, token)

    def _wire(self, *, writes: bool = False) -> Wire:
        return Wire(self._base_url, self._namespace, self._token, lambda prepared: self._send(prepared, writes))

    def login(self, mount: str, role_id: Secret, secret_id: Secret) -> Answer:
        """Ask for a token by an app role."""
        role = AppRole(self._wire())
        answer: Answer = role.login(role_id.reveal(), secret_id.reveal(), use_token=False, mount_point=mount)
        return answer

    def forget(self) -> Answer:
        """Have the server revoke the token that we sign with."""
        answer: Answer = Token(self._wire()).revoke_self()
        return answer

    def capabilities(self, path: str) -> Answer:
        """Ask what our token may do at a path."""
        answer: Answer = SystemBackend(self._wire()).get_capabilities([path])
        return answer

    def read(self, mount: str, path: str) -> Answer:
        """Read the newest version."""
        engine = KvV2(self._wire())
        answer: Answer = engine.read_secret_version(path, mount_point=mount, raise_on_deleted_version=False)
        return answer

    def write(self, mount: str, path: str, values: dict[str, str], over: int) -> Answer:
        """Write a version over this one, and over no other; 0 is none."""
        engine = KvV2(self._wire(writes=True))
        answer: Answer = engine.create_or_update_secret(path, values, cas=over, mount_point=mount)
        return answer
