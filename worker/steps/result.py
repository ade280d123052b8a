"""What taking one step came to, whatever its kind; this is what the engine records."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from rules.lifecycle import Outcome
from rules.secret import Secret


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
