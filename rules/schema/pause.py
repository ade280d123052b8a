"""The action that only waits (ours)."""

from __future__ import annotations

from pydantic import model_validator

from rules.model import Duration
from rules.schema.action import Action


class Pause(Action):
    """Ours: a wait, counted from when it was first reached."""

    duration: Duration

    @model_validator(mode="before")
    @classmethod
    def _from_text(cls, value: object) -> object:
        return value if isinstance(value, dict) else {"duration": value}

    @property
    def title(self) -> str:
        """How long."""
        return f"wait for {self.duration:g} seconds"
