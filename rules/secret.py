"""A value that must never be shown: it prints as dots and compares in constant time; sealing is `worker.safe`'s."""

from __future__ import annotations

import hashlib
import hmac
from typing import NoReturn, final

MASK = "••••"


@final
class Secret:
    """A secret in memory. `reveal()` is the only way to its text, and is easy to search for in the code."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        """Keep the text as it is; use `normalised` for what a person or a file handed in."""
        self._text = text

    @classmethod
    def normalised(cls, text: str) -> Secret:
        """Make a secret of what was piped or typed in: one trailing line break is not part of it."""
        return cls(text.removesuffix("\n").removesuffix("\r"))

    def reveal(self) -> str:
        """Give the text away; whoever calls this answers for where it goes."""
        return self._text

    def fingerprint(self, key: bytes) -> str:
        """HMAC-SHA-256 under `key`, in 64 hex digits: tells whether two secrets are one without keeping either."""
        return hmac.new(key, self._text.encode("utf-8", "surrogatepass"), hashlib.sha256).hexdigest()

    def __repr__(self) -> str:
        """Dots, whatever the length."""
        return MASK

    __str__ = __repr__

    def __format__(self, spec: str) -> str:
        """Dots here too: an f-string is how secrets escape."""
        return MASK

    def __eq__(self, other: object) -> bool:
        """Compare in constant time."""
        if not isinstance(other, Secret):
            return NotImplemented
        return hmac.compare_digest(
            self._text.encode("utf-8", "surrogatepass"), other._text.encode("utf-8", "surrogatepass")
        )

    def __hash__(self) -> int:
        """Refuse: a hash of the text in a set or a key tells something about it."""
        raise TypeError("a Secret cannot be a key; use its fingerprint")

    def __bool__(self) -> bool:
        """Tell whether there is anything at all."""
        return bool(self._text)

    def __reduce__(self) -> NoReturn:
        """Refuse to be pickled, copied to a queue or cached."""
        raise TypeError("a Secret cannot be pickled; seal it with worker.safe instead")
