"""Every error that this house raises for a person to read, on top of the other houses' trees.

rules.errors.RevoqError      anything that revoq says to a person; a sentence, never a traceback
├── rules.errors.BadInput
│   └── SecretInSight        a secret was given where others can see it: as an argument, or in a text that is kept
├── DatabaseDown             the ledger's database does not answer
├── NotStarted               the processes of `revoq up` cannot be started, or do not stay up
└── NoCheckout               the demo needs the pretend providers, which are not part of an installation
"""

from __future__ import annotations

from rules.errors import BadInput, RevoqError


class SecretInSight(BadInput):
    """A secret stands where others can see it; the message never repeats it."""


class DatabaseDown(RevoqError):
    """The ledger cannot be reached; nothing was changed."""


class NotStarted(RevoqError):
    """Something keeps the processes from running."""


class NoCheckout(RevoqError):
    """The pretend providers are not there."""
