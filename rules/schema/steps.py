"""One step of a plan: the action that it takes, how its answer is read, and when it runs."""

from __future__ import annotations

from typing import Literal, Self, get_args

from pydantic import Field, model_validator

from rules.lifecycle import Outcome
from rules.model import Duration, Model, Name
from rules.schema.action import Action
from rules.schema.alike import Alike
from rules.schema.aws import Aws
from rules.schema.command import Command
from rules.schema.extractors import Extraction
from rules.schema.matchers import Matcher
from rules.schema.pause import Pause
from rules.schema.request import Request
from rules.schema.select import Select

Meaning = Literal["ok", "already_gone", "no_row", "denied", "not_ours", "retry", "lost", "broken", "inconclusive"]


class OutcomeClause(Model):
    """Ours: an answer for which all of `when` hold means `is`; the first clause that fits wins.

    `lost`: the answer does not say whether it happened, so that the provider is asked before anything is sent again.
    `not_ours`: the answer names another owner; the job parks, and nothing more is sent. `says` is for the person whom
    that concerns: what the answer comes from, and what to do.
    """

    means: Literal["ok", "already_gone", "no_row", "denied", "not_ours", "retry", "lost", "broken", "inconclusive"] = (
        Field(alias="is")
    )
    when: list[Matcher] = Field(min_length=1)
    says: str = ""

    @property
    def outcome(self) -> Outcome:
        """The outcome that the clause names."""
        return Outcome(self.means)


class Acting(Model):
    """What takes one action, of whichever kind: exactly one of them is said."""

    request: Request | None = None
    command: Command | None = None  # ours
    aws: Aws | None = None  # ours
    alike: Alike | None = None  # ours

    @property
    def actions(self) -> list[Action]:
        """What is said here to be done: exactly one thing, or it is refused."""
        return [action for action in (self.request, self.command, self.aws, self.alike) if action is not None]

    @property
    def action(self) -> Action:
        """The one thing to do."""
        return self.actions[0]

    @model_validator(mode="after")
    def _one_action(self) -> Self:
        if len(self.actions) != 1:
            kinds = [name for name, field in type(self).model_fields.items() if _is_action(field.annotation)]
            raise ValueError(f"expected exactly one of {', '.join(kinds)} here, got {len(self.actions) or 'none'}")
        return self


def check_list(part: Acting, select: Select | None) -> None:
    """Raise ValueError where what is done gives no list, or no pages of one."""
    if select is None:
        return
    if part.request is None and part.command is None and (part.aws is None or part.aws.action != "list"):
        raise ValueError("select: only the answer to a request, a command or AWS's action list is read as a list")
    if select.page is not None and part.request is None:
        raise ValueError("page: only a request goes on to a next page; anything else gives its whole list at once")


def _is_action(annotation: object) -> bool:
    return any(isinstance(kind, type) and issubclass(kind, Action) for kind in get_args(annotation))


class Step(Acting):
    """One step of a plan. `given` and `unless` are names that must, or must not, be known for it to run (ours).

    One that `disables` (ours) can be undone, and is not the credential's end.
    """

    name: str = ""
    pause: Pause | None = None  # ours
    extract: dict[Name, Extraction] = {}
    select: Select | None = None
    given: list[Name] = []
    unless: list[Name] = []
    mutating: bool | None = None
    repeatable: bool | None = None
    lapses: Duration | None = None  # ours: the provider forgets what this step did after so long
    disables: bool = False
    outcomes: list[OutcomeClause] = []

    @property
    def mutates(self) -> bool:
        """Whether it changes something at the provider: said, or told from its action."""
        return self.mutating if self.mutating is not None else self.action.changes

    @property
    def may_repeat(self) -> bool:
        """Whether taking it twice is the same as taking it once: said, or told from its action."""
        return self.repeatable if self.repeatable is not None else self.action.idempotent

    @property
    def actions(self) -> list[Action]:
        """What is said here to be done: exactly one thing, or the step is refused."""
        return [*super().actions, *([self.pause] if self.pause is not None else [])]

    @model_validator(mode="after")
    def _sound(self) -> Self:
        check_list(self, self.select)
        if self.alike is not None and self.extract:
            raise ValueError("extract: what two lists hold is compared, and nothing is taken out of them")
        if self.pause is not None and (self.extract or self.outcomes or self.mutating):
            raise ValueError("a pause has no answer: take extract, outcomes and mutating out")
        if self.disables and not self.mutates:
            raise ValueError("disables: only a step that changes something can disable")
        return self
