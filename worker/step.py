"""What every kind of step has in common: what it is filled in with, what carries it out, and what it came to.

The kinds themselves are `worker.steps`', one file each.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from rules.lifecycle import Outcome
from rules.plan import CHANGES, LOOKS, Planned
from rules.schema import Acting, Action, Rule
from rules.secret import Secret
from worker.connections import Account
from worker.safe import Safe
from worker.settings import Settings

Values = Mapping[str, str | Secret]


@dataclass(frozen=True, slots=True)
class Choosing:
    """How a row may be singled out: by names that tie it, by a person's pick, by trust in the settings."""

    tied: frozenset[str] = frozenset()
    picked: str | None = None
    trusted: bool = False


@dataclass(frozen=True, slots=True)
class Filling:
    """One planned step with its part of the rule, and what is known by now to fill it in with.

    `was_alive`: the credential was seen to work before, which a probe without a word for dead has to know.
    """

    planned: Planned
    part: Acting
    rule: Rule
    values: Values
    bases: Mapping[str, str]
    choosing: Choosing = Choosing()
    was_alive: bool = False

    @property
    def acts(self) -> bool:
        """Whether it changes something: what is not known of it afterwards must not be guessed."""
        return self.planned.purpose in CHANGES

    @property
    def looks(self) -> bool:
        """Whether it only asks how the credential is."""
        return self.planned.purpose in LOOKS


@dataclass(frozen=True, slots=True)
class Tools:
    """With what a step is carried out; `keep` is called in the midst of a long one, so that the claim outlasts it."""

    account: Account
    safe: Safe
    settings: Settings
    keep: Callable[[], None]


@dataclass(frozen=True, slots=True)
class Result:
    """One outcome with its sentence, what was taken out of the answer, and the evidence that may be kept.

    `taken` holds values that are not secret, `secrets` those that are sealed before anything else is done with them.
    `retry_after` is in seconds. Where several rows fit, `evidence["candidates"]` are `{"id": …, "shown": {…}}`.
    """

    outcome: Outcome
    says: str
    taken: Mapping[str, str] = field(default_factory=dict)
    secrets: Mapping[str, Secret] = field(default_factory=dict)
    evidence: Mapping[str, Any] = field(default_factory=dict)
    retry_after: float | None = None


class Ready(Protocol):
    """A step that is filled in. Nothing has left yet."""

    @property
    def label(self) -> dict[str, str]:
        """What would be done (`method`) to what (`url`), as it may be shown and kept: secrets masked."""

    def perform(self, tools: Tools) -> Result:
        """Do it, and say what it came to. Raises nothing for what a provider or a program does.

        ConnectionUnusable is raised where a connection that has to sign cannot.
        """


class Kind(Protocol):
    """What each file of `worker.steps` is."""

    ACTION: type[Action]

    def ready(self, filling: Filling) -> Ready:
        """Fill a step in; raises the rules' own errors where that cannot be done."""

    def refuse(self, action: Action, settings: Settings) -> str | None:
        """Say why such an action cannot be taken on this installation at all, whatever it is filled in with."""
