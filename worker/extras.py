"""The libraries that are installed only where somebody asks for them; who uses one, and for what, is not told here."""

from __future__ import annotations

from importlib.util import find_spec

EXTRAS = {"boto3": "aws", "hvac": "vault"}
"""Which extra of ours brings each of them."""


def find_missing(library: str) -> str | None:
    """What to say where it is not installed, without loading it; None where it is."""
    return None if find_spec(library) else ask_for(library)


def ask_for(library: str) -> str:
    """What to say to whoever needs it and has not got it."""
    return f"it needs {library}, which is not installed: pip install 'revoq[{EXTRAS[library]}]'"
