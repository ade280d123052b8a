"""Every error that this house raises, as one tree; none of their messages ever holds a secret.

rules.errors.RevoqError      anything that revoq says to a person; a sentence, never a traceback
├── SettingsError            one setting cannot be used: which, where it stands, what was expected, what came
│   └── SettingsErrors       all mistakes in the settings at once
├── UnknownConnection        no connection has this name; the nearest ones are named
├── UnknownSink              no sink has this name; the nearest ones are named
├── ConnectionUnusable       a connection's identity cannot be read: connection, field and what to do
├── SafeError                a sealed secret cannot be had, or the key ring cannot be used
│   ├── KeyMissing           the key that it was sealed with is not on the ring
│   ├── Shredded             it was destroyed on purpose, or should have been by now
│   └── Tampered             it was changed, or stands in another place than the one it was sealed for
├── ExchangeError            an HTTP exchange gave no usable answer: what went wrong, and whether anything was sent
├── SinkError                a new secret could not be delivered, or not be read there: sink, target and what to do
│   ├── SinkUnavailable      it will pass by itself; nothing was written that its consumer can see: try again
│   ├── SinkDenied           the sink knows us and does not let us, or does not know us
│   ├── SinkBroken           a person has to mend the settings or the sink
│   ├── SinkConflict         somebody else wrote there since it was read: nothing was written
│   └── SinkLost             nobody knows whether it was written: a read will tell
├── ClaimLost                somebody else holds the job by now: stop at once, write nothing more
├── Held                     a hold is on: no mutating request may leave
├── UnknownJob               no job has this id, or several begin like it
└── SchemaMismatch           the database's tables are not the ones that this version works with
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum

from rules.errors import RevoqError


class SettingsError(RevoqError):
    """One mistake in the settings: the setting's name, a sentence, and where it was said (variable, file, line)."""

    def __init__(self, setting: str, says: str, where: str = "") -> None:
        """Keep the parts apart, so that a listing can show them in columns."""
        self.setting, self.says, self.where = setting, says, where
        super().__init__(": ".join(part for part in (where, setting, says) if part))


class SettingsErrors(SettingsError):
    """Every mistake that was found, in the order in which the sources are read."""

    def __init__(self, mistakes: Sequence[SettingsError]) -> None:
        """Say them one a line."""
        self.mistakes = tuple(mistakes)
        super().__init__("", "\n".join(str(mistake) for mistake in self.mistakes))


class UnknownConnection(RevoqError):
    """No connection has this name."""


class UnknownSink(RevoqError):
    """No sink has this name."""


class ConnectionUnusable(RevoqError):
    """A connection's identity cannot be read."""


class SafeError(RevoqError):
    """A sealed secret cannot be had, or the key ring cannot be used."""


class KeyMissing(SafeError):
    """The key is not on the ring; `key_id` says which."""

    def __init__(self, key_id: str) -> None:
        """Name the key and what to do."""
        self.key_id = key_id
        super().__init__(f"the key {key_id} is not on the key ring: put its line back into the file of keys")


class Shredded(SafeError):
    """There is nothing left to open."""


class Tampered(SafeError):
    """What was found is not what was sealed, or not for this place."""


class Trouble(StrEnum):
    """What can go wrong in an exchange."""

    REFUSED = "refused"  # nobody listens, or no way leads there
    DNS = "dns"  # the name has no address
    TLS = "tls"  # no trust: certificate, name or protocol
    TIMEOUT = "timeout"  # the time for the whole exchange ran out
    RESET = "reset"  # the connection broke before the answer was whole
    PROTOCOL = "protocol"  # not HTTP as we speak it, on either side
    TOO_LARGE = "too_large"  # the answer is longer than the limit
    HOST = "host"  # the address is not one that may be asked: nothing was tried
    PROXY = "proxy"  # the proxy did not let us through
    PUT_OFF = "put_off"  # we were asked to sign in later: too early, or too often


class ExchangeError(RevoqError):
    """No usable answer. `sent` is False only where nothing of the request can have reached the provider.

    `retry_after`: the seconds for which the provider wants to be left alone, where it did not let us sign in for now.
    """

    def __init__(
        self,
        kind: Trouble | str,
        sent: bool,  # noqa: FBT001 - a part of the one fact
        says: str,
        *,
        retry_after: float | None = None,
    ) -> None:
        """Keep the kind and whether it was sent, which decide what happens next, apart from the sentence."""
        self.kind, self.sent, self.says, self.retry_after = Trouble(kind), sent, says, retry_after
        super().__init__(says)


class SinkError(RevoqError):
    """Something about one sink and one target; which of these it is decides what the engine does next."""

    def __init__(self, sink: str, target: str, says: str) -> None:
        """Keep sink, target and sentence apart, so that a listing can show them in columns."""
        self.sink, self.target, self.says = sink, target, says
        super().__init__(f"sink {sink}, {target}: {says}" if target else f"sink {sink}: {says}")


class SinkUnavailable(SinkError):
    """Nobody answers, or asks us to come back later."""


class SinkDenied(SinkError):
    """Signing in failed, or a right is missing."""


class SinkBroken(SinkError):
    """The settings, or what is in the sink, cannot be worked with."""


class SinkConflict(SinkError):
    """What is there is neither what was read before nor what was to be delivered."""


class SinkLost(SinkError):
    """The answer to a write did not come."""


class ClaimLost(RevoqError):
    """The fence has moved on: another worker holds the job."""


class Held(RevoqError):
    """A hold is on for the connection, or for everything; `why` is what the person said who put it there."""

    def __init__(self, why: str) -> None:
        """Keep the reason apart, since the job that has to wait shows it."""
        self.why = why
        super().__init__(f"a hold is on: {why}; nothing is changed before: revoq hold off")


class UnknownJob(RevoqError):
    """No job has this id, or several begin like it."""


class SchemaMismatch(RevoqError):
    """The tables are older or newer than this version."""
