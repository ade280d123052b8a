"""Every error that this house raises, as one tree; none of their messages ever holds a secret.

RevoqError                   anything that revoq says to a person; a sentence, never a traceback
├── RuleError                a rule file says something that cannot be used: file, line and what to do
│   └── RuleErrors           all mistakes of a folder at once
├── UnknownRule              no rule has this id; the nearest ones are named
├── BadInput                 what was handed in does not fit the rule: secret, variable, connection
├── TemplateError            a template cannot be filled: an undefined name, a value that may not go where it stands
├── ExtractError             a value is not in an answer where the rule says that it is
└── MoveRefused              a move that `lifecycle.MOVES` does not list
"""

from __future__ import annotations

from collections.abc import Sequence


class RevoqError(Exception):
    """A sentence for the person reading it: what was expected, what came, where, what to do next."""


class RuleError(RevoqError):
    """One mistake in a rule file, with the file and the line it stands in."""

    def __init__(self, message: str, file: str = "", line: int = 0) -> None:
        """Keep the parts apart, so that a listing can sort by place."""
        self.message, self.file, self.line = message, file, line
        super().__init__(f"{file}:{line}: {message}" if file else message)


class RuleErrors(RuleError):
    """Every mistake that was found, in the order of files and lines."""

    def __init__(self, mistakes: Sequence[RuleError]) -> None:
        """Sort by place: a person mends a file from the top."""
        self.mistakes = tuple(sorted(mistakes, key=lambda mistake: (mistake.file, mistake.line)))
        super().__init__("\n".join(str(mistake) for mistake in self.mistakes))


class UnknownRule(RevoqError):
    """No rule has this id."""


class BadInput(RevoqError):
    """What was handed in does not fit the rule; nothing was changed."""


class TemplateError(RevoqError):
    """A template cannot be filled."""


class ExtractError(RevoqError):
    """An answer does not hold what the rule takes out of it."""


class MoveRefused(RevoqError):
    """The lifecycle does not know this move."""
