"""How a credential is ended, or enabled again: one action, several steps, or AWS's own way."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from rules.model import Model
from rules.schema.aws import AWS_YES, Aws
from rules.schema.steps import Acting, OutcomeClause, Step


class HttpContent(Acting):
    """One request that revokes."""

    outcomes: list[OutcomeClause] = []
    repeatable: bool | None = None


class HttpRevocation(Model):
    """Kingfisher's one-step revocation."""

    type: Literal["Http"]
    content: HttpContent


class StepsContent(Model):
    """The steps, in order; any number of them."""

    steps: list[Step] = Field(min_length=1)


class MultiStepRevocation(Model):
    """Kingfisher's revocation in steps."""

    type: Literal["HttpMultiStep"]
    content: StepsContent


class AwsContent(Model):
    """Ours: whether the key is deleted, where Kingfisher only deactivates it."""

    delete: bool = False


class AwsRevocation(Model):
    """Kingfisher's revocation of an AWS key, by the key itself: it is deactivated, and can be activated again."""

    type: Literal["AWS"]
    content: AwsContent = AwsContent()

    @property
    def step(self) -> Step:
        """The one call. A deactivated key cannot sign any more, so deleting is a call of its own and no second one."""
        if self.content.delete:
            return Step(name="delete", aws=Aws(action="delete", response_matcher=[AWS_YES]))
        return Step(name="deactivate", aws=Aws(action="deactivate", response_matcher=[AWS_YES]), disables=True)


Revocation = Annotated[HttpRevocation | MultiStepRevocation | AwsRevocation, Field(discriminator="type")]


def steps_of(revocation: Revocation | None, name: str) -> list[Step]:
    """The steps, whichever shape it has; a single one is given the name."""
    match revocation:
        case MultiStepRevocation():
            return revocation.content.steps
        case HttpRevocation(content=content):
            said = {key: getattr(content, key) for key in ("request", "command", "aws", "outcomes", "repeatable")}
            return [Step(name=name, mutating=True, **said)]
        case AwsRevocation():
            return [revocation.step]
        case None:
            return []
