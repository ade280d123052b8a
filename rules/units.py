"""The ledger's unit of time; how a person writes durations is `rules.schema`'s."""

from __future__ import annotations

SECOND = 1_000_000
"""Times and spans of the ledger are microseconds."""
