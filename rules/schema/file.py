"""One file of the language: a provider and its rules."""

from __future__ import annotations

from pydantic import Field

from rules.model import Model
from rules.schema.provider import Provider
from rules.schema.rule import Rule


class RuleFile(Model):
    """One file: the provider (ours) and its rules."""

    provider: Provider | None = None
    rules: list[Rule] = Field(min_length=1)
