"""A step that only the ledger has to know: its record, in one transaction with what it means, is all that there is."""

from __future__ import annotations

from dataclasses import dataclass

from rules.lifecycle import Outcome
from rules.plan import Purpose
from rules.schema import Action, Mark
from worker.settings import Settings
from worker.step import Filling, Result, Tools

ACTION = Mark


def refuse(action: Action, settings: Settings) -> str | None:  # noqa: ARG001 - every kind is asked the same
    """Everybody can write something down."""
    return None


def ready(filling: Filling) -> MarkStep:
    """There is nothing to fill in."""
    back = filling.planned.purpose is Purpose.DEMOTE
    says = "the old key is in its place again" if back else "the new key took the old one's place"
    return MarkStep(filling.planned.name, says)


@dataclass(frozen=True, slots=True)
class MarkStep:
    """Something that is about to be written down."""

    name: str
    says: str

    @property
    def label(self) -> dict[str, str]:
        """What it is."""
        return {"method": "MARK", "url": self.name}

    def perform(self, tools: Tools) -> Result:  # noqa: ARG002 - every step is given the same
        """Be written down."""
        return Result(Outcome.OK, self.says)
