"""What every kind of action has in common; each kind has a file of its own."""

from __future__ import annotations

from rules.model import Model
from rules.schema.matchers import Matcher


class Action(Model):
    """What a step does; each kind of step has an action of its own, and `worker.steps` a file that carries it out.

    Whatever the kind, what comes back is read as an answer: a status, headers, a body.
    """

    actor: bool = False  # ours: signed with the connection's identity
    response_matcher: list[Matcher] = []

    @property
    def templates(self) -> list[str]:
        """Every template that has to be filled in before the action can be taken."""
        return []

    @property
    def brings(self) -> frozenset[str]:
        """Names that its templates may use and that nobody has to know before: it finds their values by itself."""
        return frozenset()

    @property
    def changes(self) -> bool:
        """Whether it changes something at the provider, as far as can be told from the action alone."""
        return False

    @property
    def idempotent(self) -> bool:
        """Whether taking it twice is the same as taking it once, as far as can be told from the action alone."""
        return True

    @property
    def title(self) -> str:
        """The action in a line, in the rule's own words."""
        return ""
