"""A call that came in and the reply that goes out, as plain values; sockets are `wire`'s."""

import json
from base64 import b64decode
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Self
from urllib.parse import parse_qsl, unquote


@dataclass(frozen=True)
class Call:
    """One request. `path` is as it was sent, still encoded; header names are in lower case.

    Headers and body may hold secrets, so neither is ever part of its text.
    """

    method: str
    path: str
    query: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    body: bytes = field(default=b"", repr=False)

    @property
    def segments(self) -> tuple[str, ...]:
        """The path's parts, each decoded for itself: an encoded slash stays inside its part."""
        return tuple(unquote(part) for part in self.path.split("/")[1:])

    def inside(self, prefix: str) -> Self:
        """The same call as the provider behind this prefix sees it."""
        return replace(self, path=self.path.removeprefix(f"/{prefix}") or "/")

    def json(self) -> Any:
        """The body as JSON; raises ValueError where it is not."""
        return json.loads(self.body)

    def form(self) -> dict[str, str]:
        """The body as a form."""
        return dict(parse_qsl(self.body.decode("utf-8", "replace"), keep_blank_values=True))

    def authorization(self, scheme: str) -> str | None:
        """What follows this scheme in the Authorization header."""
        given, _, value = self.headers.get("authorization", "").partition(" ")
        return value.strip() if given.lower() == scheme.lower() else None

    def basic(self) -> tuple[str, str] | None:
        """User and password of HTTP Basic."""
        encoded = self.authorization("basic")
        if encoded is None:
            return None
        try:
            user, _, password = b64decode(encoded, validate=True).decode().partition(":")
        except ValueError:
            return None
        return user, password


@dataclass(frozen=True)
class Reply:
    """One answer."""

    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = field(default=b"", repr=False)


class RefusedError(Exception):
    """A handler ends early with this reply: no permission, no such thing, a body that does not fit."""

    def __init__(self, reply: Reply) -> None:
        self.reply = reply
        super().__init__(str(reply.status))


def say_json(status: int, value: Any, headers: Mapping[str, str] | None = None) -> Reply:
    """An answer in JSON."""
    return Reply(status, {"Content-Type": "application/json", **(headers or {})}, json.dumps(value).encode())


def say_text(status: int, text: str, content_type: str = "text/plain; charset=utf-8") -> Reply:
    """An answer in words."""
    return Reply(status, {"Content-Type": content_type}, text.encode())
