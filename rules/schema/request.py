"""The action that is one HTTP request, with its body in any shape; filling it in is `rules.request`'s."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from rules.model import Model
from rules.schema.action import Action

MUTATING_METHODS = frozenset({"POST", "PUT", "PATCH", "DELETE"})
METHODS = MUTATING_METHODS | {"GET", "HEAD"}
REPEATABLE_METHODS = frozenset({"GET", "HEAD", "PUT", "DELETE"})


class Digest(Model):
    """HTTP Digest credentials, as templates (RFC 7616)."""

    username: str
    password: str


class Part(Model):
    """One part of a multipart body. One of type `file` is named like itself; nothing is read from disk."""

    name: str = Field(min_length=1)
    type: Literal["text", "file"] = "text"
    content: str
    content_type: str | None = None


class Multipart(Model):
    """A body in parts (RFC 7578)."""

    parts: list[Part] = Field(min_length=1)


class Request(Action):
    """One HTTP request; every value is a Liquid template."""

    method: str = "GET"
    url: str
    headers: dict[str, str] = {}
    body: str | None = None
    form: dict[str, str] | None = None  # ours: a form-encoded body
    digest: Digest | str | None = None  # Kingfisher's files write it as one text, user:password
    multipart: Multipart | None = None
    response_is_html: bool = False

    @property
    def templates(self) -> list[str]:
        """URL, body, headers, form, parts and digest."""
        texts = [self.url, self.body or "", *self.headers.values(), *(self.form or {}).values()]
        texts += [part.content for part in self.multipart.parts] if self.multipart is not None else []
        if isinstance(self.digest, str):
            return [*texts, self.digest]
        return texts + ([self.digest.username, self.digest.password] if self.digest is not None else [])

    @property
    def changes(self) -> bool:
        """Told from the method."""
        return self.method.upper() in MUTATING_METHODS

    @property
    def idempotent(self) -> bool:
        """Told from the method."""
        return self.method.upper() in REPEATABLE_METHODS

    @property
    def title(self) -> str:
        """Method and URL."""
        return f"{self.method.upper()} {self.url}"

    @model_validator(mode="after")
    def _known_method(self) -> Self:
        if self.method.upper() not in METHODS:
            raise ValueError(f"expected GET, HEAD, POST, PUT, PATCH or DELETE, got {self.method!r}")
        if [self.body, self.form, self.multipart].count(None) < 2:
            raise ValueError("expected one of body, form and multipart")
        return self
