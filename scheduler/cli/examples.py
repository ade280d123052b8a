"""Examples below a verb's --help; what the verb does is its own."""

from __future__ import annotations


def examples(*lines: str) -> str:
    """An epilog that click leaves as it is written."""
    return "\b\nExamples:\n" + "\n".join(f"  {line}" for line in lines)
