"""What all kinds of sinks have in common: targets, records, a visit with its deadline, errors; the kinds are `sinks`'.

A sink is asked by three verbs. Whatever goes wrong leaves as a SinkError, which names the sink and the target; while a
record is under way, its secrets are struck out of every line that this process logs.
"""

from __future__ import annotations

import hmac
import json
import re
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, ClassVar

from rules.message import Answer, Prepared
from rules.secret import Secret
from worker.client import send
from worker.connections import local_origins
from worker.errors import (
    ConnectionUnusable,
    ExchangeError,
    SinkBroken,
    SinkConflict,
    SinkDenied,
    SinkError,
    SinkLost,
    SinkUnavailable,
    Trouble,
)
from worker.log import redacting
from worker.safe import Safe
from worker.settings import PLACEHOLDER, Place, RemotePlace, Settings

Record = Mapping[str, str | Secret]
"""What is delivered as one: field names, which a rule gives, and their values."""

COMPONENT = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._@+-]{0,127}")
"""What may be filled into a path or a URL: one part of it, and nothing that leads elsewhere."""

LATER = frozenset({412, 425, 429, 503})
"""Statuses that ask us to come back; 412 is Vault's word for a replica that is behind."""

FOR_A_PERSON = frozenset({Trouble.TLS, Trouble.HOST, Trouble.TOO_LARGE})
"""Troubles that do not pass by themselves."""


@dataclass(frozen=True, slots=True)
class Target:
    """Whose secret it is; fills the names in braces of a sink's settings."""

    name: str
    id: str = ""
    connection: str = ""

    @property
    def shown(self) -> str:
        """How sentences call it."""
        return self.name or self.id


@dataclass(frozen=True)
class Held:
    """What a sink has at the moment, and the token by which a later write tells whether it is still that."""

    record: Record = field(repr=False)
    version: str


class Sink(ABC):
    """One place where new secrets go, as the settings describe it. Nothing is opened before it is needed."""

    PLACE: ClassVar[type[Place]]
    _place: Any

    def __init__(self, place: Any, settings: Settings, safe: Safe) -> None:
        """Keep what the settings say; `safe` makes the digests by which versions are told apart."""
        self._place, self.settings, self.safe = place, settings, safe
        self.name: str = place.name

    @property
    def reads_back(self) -> bool:
        """Whether a read tells what is there; where it does not, a delivery stays unconfirmed."""
        readable: bool = self._place.can_be_read
        return readable

    @classmethod
    def refuse(cls, place: Any, settings: Settings) -> str | None:  # noqa: ARG003 - every kind is asked the same
        """Say what speaks against it on this machine, without asking anybody."""
        return None

    # ── the three verbs ───────────────────────────────────────────────────────────────────────────────────────────

    def check(self, target: Target) -> None:
        """Find out, as far as that can be known without a change, whether a delivery would succeed."""
        with self._visiting(target) as visit:
            self._check(visit)

    def read(self, target: Target) -> Held | None:
        """Read what is there; None where nothing is yet."""
        with self._visiting(target) as visit:
            return self._read(visit)

    def put(self, target: Target, record: Record, *, over: Held | None) -> None:
        """Deliver: afterwards the consumer finds this record. `over` is what was read; None where nothing was there.

        What is there already is not written again. Where somebody else wrote meanwhile, nothing is written.
        """
        secrets = [value for value in record.values() if isinstance(value, Secret)]
        with redacting(*secrets), self._visiting(target) as visit:
            self._put(visit, self.kept(record), over)

    def confirms(self, held: Held | None, record: Record) -> bool:
        """Whether what was read is what was delivered, as far as this sink keeps it."""
        return held is not None and is_same(held.record, self.kept(record))

    # ── what a kind does ──────────────────────────────────────────────────────────────────────────────────────────

    def kept(self, record: Record) -> Record:
        """What this sink keeps of a record; most keep all of it."""
        return record

    @abstractmethod
    def _check(self, visit: Visit) -> None: ...

    @abstractmethod
    def _read(self, visit: Visit) -> Held | None: ...

    @abstractmethod
    def _put(self, visit: Visit, record: Record, over: Held | None) -> None: ...

    # ── inside ────────────────────────────────────────────────────────────────────────────────────────────────────

    def _is_there(self, visit: Visit, record: Record, over: Held | None, undone: str) -> bool:
        """Whether the record is there already, for a kind that has no check-and-set of its own.

        Raises SinkConflict where there is something else than `over`; nothing was `undone` then.
        """
        if not self.reads_back:
            return False
        held = self._read(visit)
        if held is not None and is_same(held.record, record):
            return True
        if (held.version if held is not None else None) != (over.version if over is not None else None):
            raise visit.error(SinkConflict, f"what is there was changed since it was read; {undone}")
        return False

    @contextmanager
    def _visiting(self, target: Target) -> Iterator[Visit]:
        """One verb from its beginning to its end, within one deadline."""
        visit = Visit(self.name, target, time.monotonic() + self.settings.request_timeout)
        try:
            yield visit
        except ConnectionUnusable as error:
            raise visit.error(SinkBroken, str(error).removeprefix(f"sink {self.name}: ")) from None


@dataclass(frozen=True, slots=True)
class Visit:
    """One verb under way: at which sink, for which target, and until when."""

    sink: str
    target: Target
    deadline: float

    def error(self, kind: type[SinkError], says: str) -> SinkError:
        """An error that names sink and target."""
        return kind(self.sink, self.target.shown, says)

    def left(self) -> float:
        """Seconds that remain; raises when there are none."""
        seconds = self.deadline - time.monotonic()
        if seconds <= 0:
            raise self.error(SinkUnavailable, "the time that it had ran out before anything was asked")
        return seconds

    def fill(self, template: str, quote: Callable[[str], str] = str) -> str:
        """Fill the target in; raises where a part of it is not one safe part of a path."""

        def value_of(found: re.Match[str]) -> str:
            value: str = getattr(self.target, found[1])
            if not COMPONENT.fullmatch(value):
                says = f"its {found[1]} {value!r} cannot be part of a path: letters, digits and . _ @ + - can be"
                raise self.error(SinkBroken, says)
            return quote(value)

        return PLACEHOLDER.sub(value_of, template)

    def send(self, prepared: Prepared, place: RemotePlace, base_url: str | None, *, limit: int, writes: bool) -> Answer:
        """Send one request on its own connection, within what is left of the time; its whole answer."""
        try:
            return send(
                prepared,
                timeout=self.left(),
                body_limit=limit,
                allowed=(prepared.origin,),
                local=local_origins(base_url),
                proxy=place.proxy,
                ca_bundle=place.ca_bundle,
                reuse=False if writes else None,
            )
        except ExchangeError as error:
            raise self.told(error, writes=writes) from None

    def told(self, error: ExchangeError, *, writes: bool) -> SinkError:
        """What a request without an answer means."""
        if writes and error.sent:
            return self.error(SinkLost, f"{error}; nobody knows whether it was written: read it again")
        if error.kind in FOR_A_PERSON or (error.kind is Trouble.PROTOCOL and not error.sent):
            return self.error(SinkBroken, f"{error}: look at the sink's settings")
        return self.error(SinkUnavailable, str(error))

    def unwelcome(self, status: int, who: str, *, writes: bool) -> SinkError:
        """What an HTTP status means that no kind has a better word for."""
        if status in {401, 403}:
            says = f"{who} answered {status}: look at what the sink signs in with, and at its rights"
            return self.error(SinkDenied, says)
        if status in LATER:
            return self.error(SinkUnavailable, f"{who} answered {status}, so for now it takes nothing")
        if status >= 500 and writes:
            return self.error(SinkLost, f"{who} answered {status} to a write; nobody knows whether it was done")
        if status >= 500:
            return self.error(SinkUnavailable, f"{who} answered {status}")
        return self.error(SinkBroken, f"{who} answered {status}, which it should not: look at the sink's settings")


# ── records ───────────────────────────────────────────────────────────────────────────────────────────────────────


def opened(record: Record) -> dict[str, str]:
    """A record's values as they go over the wire; whoever calls this answers for where they go."""
    return {name: value.reveal() if isinstance(value, Secret) else value for name, value in record.items()}


def write(record: Record) -> str:
    """A record as JSON, always in the same order."""
    return json.dumps(opened(record), sort_keys=True)


def parse(text: str | bytes) -> Record | None:
    """A record from JSON: every value is a secret, and what is not a text becomes its JSON. None where it is none."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return close(found) if isinstance(found, dict) else None


def close(found: Mapping[str, Any]) -> Record:
    """What was found in a sink, as a record in which everything is secret."""
    return {name: Secret(value if isinstance(value, str) else json.dumps(value)) for name, value in found.items()}


def is_same(one: Record, other: Record) -> bool:
    """Compare in constant time."""
    return hmac.compare_digest(write(one).encode(), write(other).encode())
