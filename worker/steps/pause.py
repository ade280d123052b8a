"""A step that waits: that it was reached is written down, and the wait counts from there; `rules.decide` waits."""

from __future__ import annotations

from dataclasses import dataclass

from rules.lifecycle import Outcome
from rules.schema import Action, Pause
from worker.settings import Settings
from worker.step import Filling, Result, Tools

ACTION = Pause


def refuse(action: Action, settings: Settings) -> str | None:  # noqa: ARG001 - every kind is asked the same
    """Everybody can wait."""
    return None


def ready(filling: Filling) -> PauseStep:
    """There is nothing to fill in."""
    pause = filling.part.action
    assert isinstance(pause, Pause)  # noqa: S101 - this kind is chosen by it
    return PauseStep(pause)


@dataclass(frozen=True, slots=True)
class PauseStep:
    """A pause that is reached."""

    pause: Pause

    @property
    def label(self) -> dict[str, str]:
        """How long."""
        return {"method": "WAIT", "url": f"{self.pause.duration:g} seconds"}

    def perform(self, tools: Tools) -> Result:  # noqa: ARG002 - every step is given the same
        """Be reached. No claim is held and no thread sleeps for it: a decision waits, from the record of this."""
        return Result(Outcome.OK, f"the rule waits for {self.pause.duration:g} seconds from here")
