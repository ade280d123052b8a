"""The ordered steps of one job, frozen, with a hash; which part of a rule each stands for is told by `rules.parts`.

Making a plan is `rules.planning`'s, carrying it out is `worker.engine`'s.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

from rules.lifecycle import Intent

ACTOR = "ACTOR"
"""The name that is known when a connection with an identity signs calls; for `given` and `unless`."""
TOKEN = "TOKEN"  # noqa: S105 - the name of a template variable
GRACE = "grace"
"""The name of the wait between promoting the new key and retiring the old one."""


class Purpose(StrEnum):
    """What a step is for; the same request may serve several."""

    BEFORE = "before"  # a probe before anything else
    RECOGNISE = "recognise"  # did this account ever know it? asked where the first probe says dead
    READ = "read"  # a lookup
    ACT = "act"  # the request that ends the credential
    PAUSE = "pause"  # a wait that the rule asks for
    ASK = "ask"  # a probe after a lost answer: what happened?
    AFTER = "after"  # a probe as proof
    OURS = "ours"  # a probe after a picked candidate was disabled: was it ours?
    UNDO = "undo"  # what enables a credential again that was not ours
    # Of a rotation:
    PREFLIGHT = "preflight"  # is a sink ready, and which key does it hold?
    VACANT = "vacant"  # is a sink ready, and does it hold nothing?
    LIST = "list"  # what exists before anything is issued
    GENERATE = "generate"  # make the new key here, where the provider takes one from us
    ISSUE = "issue"  # the request that makes the new key
    FIND = "find"  # after a lost answer: the key that was made and that nobody holds
    DISCARD = "discard"  # the request that deletes that key
    GRANT = "grant"  # give the new key what the old one may do
    TEST = "test"  # does the new key work, on the path that its consumer uses?
    DELIVER = "deliver"  # put it into a sink
    READ_BACK = "read_back"  # does the sink hold it?
    RELOAD = "reload"  # tell the consumer
    PROMOTE = "promote"  # the new key is CURRENT, the old one PREVIOUS
    USED = "used"  # when was the old key last used?
    # Of the way back, as long as the old key was not retired:
    STILL = "still"  # does the old key still work?
    PUT_BACK = "put_back"  # put the old key into a sink again
    SEEN_BACK = "seen_back"  # does the sink hold it again?
    TELL_BACK = "tell_back"  # tell the consumer
    DEMOTE = "demote"  # the old key is CURRENT again, the new one PREVIOUS
    WITHDRAW = "withdraw"  # the request that deletes the new key
    GONE = "gone"  # is the new key dead?


MAKES_KEYS = frozenset({Intent.ROTATE, Intent.ISSUE})
"""The intents that make a new key; driven again, they go on where they stood."""
HANDED_IN = frozenset({Intent.REVOKE, Intent.PROBE})
"""What is asked for with the credential in hand; what follows from it uses what was kept, as far as it needs that."""
CHANGES = frozenset(
    {Purpose.ACT, Purpose.UNDO, Purpose.ISSUE, Purpose.DISCARD, Purpose.GRANT, Purpose.DELIVER, Purpose.RELOAD}
    | {Purpose.PUT_BACK, Purpose.TELL_BACK, Purpose.WITHDRAW}
)
"""What changes something, at the provider or in a sink."""
WAY_BACK = frozenset(
    {
        Purpose.STILL,
        Purpose.PUT_BACK,
        Purpose.SEEN_BACK,
        Purpose.TELL_BACK,
        Purpose.DEMOTE,
        Purpose.WITHDRAW,
        Purpose.GONE,
    }
)
"""The steps of a rotation that a person turns back."""
LOOKS = frozenset({Purpose.BEFORE, Purpose.ASK, Purpose.AFTER, Purpose.OURS, Purpose.TEST, Purpose.STILL, Purpose.GONE})
"""What only asks whether the credential works, or is disabled."""


@dataclass(frozen=True, slots=True)
class Planned:
    """One step of a plan. `uses` are the names in it.

    `tied` says whether an `act` step acts on this very credential, `selects` whether a `read` step singles a row out.
    An act that `disables` can be undone; a look that `disables` shows whether the credential is disabled. `pause` is
    how long the step waits, in seconds. `sink` names the sink that a step of a rotation is about.
    """

    name: str
    purpose: Purpose
    given: tuple[str, ...] = ()
    unless: tuple[str, ...] = ()
    uses: tuple[str, ...] = ()
    repeatable: bool = True
    tied: bool = True
    selects: bool = False
    lapses: float | None = None
    disables: bool = False
    pause: float | None = None
    sink: str | None = None

    def runs(self, known: Collection[str]) -> bool:
        """Whether its conditions hold for the names that are known now."""
        return all(name in known for name in self.given) and not any(name in known for name in self.unless)


@dataclass(frozen=True, slots=True)
class Plan:
    """The frozen steps of one job. `tied` are the names that single the credential out.

    `overlap`: in a rotation the old key lives on until it is retired; else it dies as the new one is issued.
    """

    rule: str
    rule_digest: str
    intent: Intent
    steps: tuple[Planned, ...]
    tied: tuple[str, ...]
    samples: int
    spacing: float
    window: float
    overlap: bool = True

    @property
    def hash(self) -> str:
        """SHA-256 of the plan's canonical JSON: two plans with one hash do the same."""
        return hashlib.sha256(json.dumps(self.as_json(), sort_keys=True, separators=(",", ":")).encode()).hexdigest()

    def as_json(self) -> dict[str, Any]:
        """The form in which the ledger keeps it."""
        return asdict(self)

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Plan:
        """Read what `as_json` wrote."""
        steps = tuple(
            Planned(
                name=step["name"],
                purpose=Purpose(step["purpose"]),
                given=tuple(step["given"]),
                unless=tuple(step["unless"]),
                uses=tuple(step["uses"]),
                repeatable=step["repeatable"],
                tied=step["tied"],
                selects=step["selects"],
                lapses=step["lapses"],
                disables=step.get("disables", False),
                pause=step.get("pause"),
                sink=step.get("sink"),
            )
            for step in stored["steps"]
        )
        return cls(
            rule=stored["rule"],
            rule_digest=stored["rule_digest"],
            intent=Intent(stored["intent"]),
            steps=steps,
            tied=tuple(stored["tied"]),
            samples=stored["samples"],
            spacing=stored["spacing"],
            window=stored["window"],
            overlap=stored.get("overlap", True),
        )
