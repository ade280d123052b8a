"""A step that makes a new key here, for a system that takes one from us; the result is sealed before anything else."""

from __future__ import annotations

import secrets
from dataclasses import dataclass

from rules.lifecycle import Outcome
from rules.schema import Action, Generate
from rules.secret import Secret
from worker.settings import Settings
from worker.step import Filling, Result, Tools

ACTION = Generate


def refuse(action: Action, settings: Settings) -> str | None:  # noqa: ARG001 - every kind is asked the same
    """Everybody can draw random characters."""
    return None


def ready(filling: Filling) -> GenerateStep:
    """There is nothing to fill in."""
    generate, rotation = filling.part.action, filling.rule.rotation
    assert isinstance(generate, Generate)  # noqa: S101 - this kind is chosen by it
    assert rotation is not None  # noqa: S101 - only a rotation makes keys
    return GenerateStep(generate, rotation.key)


@dataclass(frozen=True, slots=True)
class GenerateStep:
    """A key that is about to be made."""

    generate: Generate
    key: str

    @property
    def label(self) -> dict[str, str]:
        """How long it will be."""
        return {"method": "GENERATE", "url": f"{self.generate.length} characters"}

    def perform(self, tools: Tools) -> Result:  # noqa: ARG002 - every step is given the same
        """Draw it from the system's random source."""
        drawn = "".join(secrets.choice(self.generate.alphabet) for _ in range(self.generate.length))
        return Result(Outcome.OK, "a new key was made here", secrets={self.key: Secret(self.generate.prefix + drawn)})
