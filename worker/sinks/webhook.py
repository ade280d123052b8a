"""A sink that is somebody's service: a POST, signed as the Standard Webhooks specification says.

The id of a message is told from what is delivered to whom, so that a service that keeps ids takes a repeated delivery
once; to put an earlier record back there, `over` has to say what it replaces. What is there can be read back only where
the settings name a `read_url`; a GET there is signed too.
"""

from __future__ import annotations

import binascii
import hmac
import json
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

from standardwebhooks import Webhook

from rules.message import Answer, Prepared
from rules.request import origin_of
from rules.secret import Secret
from worker.errors import ConnectionUnusable, SinkBroken, SinkConflict
from worker.settings import Named, Settings, WebhookPlace
from worker.sink import Held, Record, Sink, Visit, opened, parse

WHO = "the service"
SHORTEST = 24
"""Bytes that the specification asks of a signing key at least."""
TAKEN = frozenset({409, 412})


class Hook(Sink):
    """One service for all targets."""

    PLACE = WebhookPlace
    _place: WebhookPlace

    @classmethod
    def refuse(cls, place: Any, settings: Settings) -> str | None:  # noqa: ARG003 - every kind is asked the same
        """A key that nobody can sign with."""
        try:
            signer_of(place)
        except ConnectionUnusable as error:
            return str(error).removeprefix(f"sink {place.name}: ")
        return None

    def _check(self, visit: Visit) -> None:
        """Read, where that can be done; else only see whether somebody answers, whatever is answered to HEAD."""
        if self.reads_back:
            self._read(visit)
            return
        answer = self._send(visit, "HEAD", self._place.url, "", "check")
        if answer.status >= 500 or answer.status in {401, 403, 429}:
            raise visit.unwelcome(answer.status, WHO, writes=False)

    def _read(self, visit: Visit) -> Held | None:
        if self._place.read_url is None:
            return None
        answer = self._send(visit, "GET", self._place.read_url, "", "read")
        if answer.status == 404:
            return None
        if answer.status != 200:
            raise visit.unwelcome(answer.status, WHO, writes=False)
        record = parse(answer.body)
        if record is None:
            raise visit.error(SinkBroken, f"{WHO} answered with something else than a record in JSON")
        return Held(record, answer.headers.get("etag") or self.safe.digest(answer.body))

    def _put(self, visit: Visit, record: Record, over: Held | None) -> None:
        if self._is_there(visit, record, over, "nothing was sent"):
            return
        target = {"name": visit.target.name, "id": visit.target.id, "connection": visit.target.connection}
        data = {"target": target, "record": opened(record), "over": over.version if over is not None else None}
        told = {"type": "credential.delivered", "timestamp": datetime.now(UTC).isoformat(), "data": data}
        about = json.dumps(data, sort_keys=True)
        answer = self._send(visit, "POST", self._place.url, json.dumps(told), about)
        if answer.status in TAKEN:
            raise visit.error(SinkConflict, f"{WHO} answered {answer.status}: it has something else than was read")
        if not 200 <= answer.status < 300:
            raise visit.unwelcome(answer.status, WHO, writes=True)
        if answer.is_html:
            raise visit.error(SinkBroken, f"a web page answered instead of {WHO}: look at url")

    def _send(self, visit: Visit, method: str, template: str, body: str, about: str) -> Answer:
        """One signed request; the same `about` makes the same id."""
        place = self._place
        url = visit.fill(template, lambda value: quote(value, safe=""))
        now = datetime.now(UTC)
        signer = signer_of(place)
        digest = hmac.digest(place.resolve("secret").reveal().encode(), f"{method} {url} {about}".encode(), "sha256")
        message = f"msg_{digest.hex()[:32]}"
        headers = {
            "content-type": "application/json",
            "webhook-id": message,
            "webhook-timestamp": str(int(now.timestamp())),
            "webhook-signature": signer.sign(message, now, body),
        }
        prepared = Prepared(
            method=method,
            url=Secret(url),
            shown=url,
            origin=origin_of(url),
            headers={name: Secret(value) for name, value in headers.items()},
            body=Secret(body) if body else None,
        )
        writes = method == "POST"
        return visit.send(prepared, place, template, limit=self.settings.body_limit, writes=writes)


SINK = Hook


def signer_of(place: Named) -> Webhook:
    """What signs for a service; raises ConnectionUnusable where its secret is too weak or cannot be read."""
    key = place.resolve("secret").reveal().removeprefix("whsec_")
    try:
        material = binascii.a2b_base64(key + "=" * (-len(key) % 4), strict_mode=True)
    except ValueError:
        material = b""
    if len(material) < SHORTEST:
        says = f"expected at least {SHORTEST} random bytes in base64, as `openssl rand -base64 32` makes them"
        raise ConnectionUnusable(f"sink {place.name}: secret: {says}")
    return Webhook(material)
