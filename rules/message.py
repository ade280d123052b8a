"""A request that is ready to leave and the answer that came, as plain values; sending is `worker.client`'s."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

from rules.secret import Secret


@dataclass(frozen=True, slots=True)
class Prepared:
    """A filled request. The parts that may hold a secret are `Secret`s; `shown` is the URL with secrets masked.

    `origin` is `scheme://host[:port]`, told from the rule's text or a base URL before anything was filled in.
    """

    method: str
    url: Secret
    shown: str
    origin: str
    headers: Mapping[str, Secret] = field(default_factory=dict)
    body: Secret | None = None
    digest: tuple[Secret, Secret] | None = None


@dataclass(frozen=True)
class Answer:
    """What came back: the status, the headers (names in lower case) and the whole body, within the client's limit."""

    status: int
    headers: Mapping[str, str]
    body: bytes = field(repr=False)

    @cached_property
    def text(self) -> str:
        """The body as UTF-8, with what is not UTF-8 replaced."""
        return self.body.decode("utf-8", "replace")

    @cached_property
    def json(self) -> object:
        """The body as JSON; raises ValueError where it is not."""
        try:
            return json.loads(self.body)
        except RecursionError:
            raise ValueError("nested too deep to be read") from None

    @property
    def is_html(self) -> bool:
        """Whether it is a web page: what proxies and maintenance pages answer, with any status."""
        start = self.body[:256].lstrip().lower()
        return "text/html" in self.headers.get("content-type", "") or start.startswith((b"<!doctype html", b"<html"))
