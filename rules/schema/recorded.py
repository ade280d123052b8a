"""Answers of a provider, each with the outcome that it must give; reading them is `rules.recorded`'s."""

from __future__ import annotations

from pydantic import Field, model_validator

from rules.lifecycle import Outcome
from rules.model import Model, Name


class RecordedAnswer(Model):
    """One answer of the provider, as documented or as seen."""

    status: int
    headers: dict[str, str] = {}
    body: str = ""


class Recorded(Model):
    """Ours: an answer to a step (`probe`, `verify`, `recognise` or a step's name) and the outcome that it must give."""

    name: str
    step: str
    answers: list[RecordedAnswer] = Field(min_length=1)
    given: dict[Name, str] = {}
    gives: Outcome
    takes: dict[Name, str] = {}

    @model_validator(mode="before")
    @classmethod
    def _outcome_by_name(cls, value: object) -> object:
        if isinstance(value, dict) and isinstance(value.get("gives"), str):
            try:
                return {**value, "gives": Outcome(value["gives"])}
            except ValueError:
                names = ", ".join(outcome.value for outcome in Outcome)
                raise ValueError(f"gives: expected one of {names}, got {value['gives']!r}") from None
        return value
