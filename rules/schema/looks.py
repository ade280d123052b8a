"""The looks that change nothing: whether a credential works, whether it is dead, whether it was ever known."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from rules.model import Duration, Model, Name
from rules.schema.aws import AWS_NO_SUCH_KEY, AWS_YES, Aws
from rules.schema.extractors import Extraction
from rules.schema.matchers import Matcher
from rules.schema.request import Request
from rules.schema.steps import Acting, OutcomeClause


class CleanUp(Model):
    """Ours: the request that takes away again what a look left at the provider, such as a session.

    `extract` is what that is; this request alone knows it. Whatever comes of it, what the look said stands.
    """

    extract: dict[Name, Extraction] = Field(min_length=1)
    request: Request


class ProbeContent(Acting):
    """A probe: the request's matchers say alive, `dead` (ours) says dead, anything else is inconclusive.

    An imported one has no word for dead: it counts as dead only what was alive before and is refused now.
    `disabled` (ours): the provider lists it as disabled, so that it does not work and can be enabled again.
    """

    dead: list[Matcher] = []
    disabled: list[Matcher] = []
    extract: dict[Name, Extraction] = {}
    outcomes: list[OutcomeClause] = []
    clean_up: CleanUp | None = None  # ours

    @property
    def can_say_dead(self) -> bool:
        """Whether the rule itself names an answer that means dead."""
        told = any(clause.means == "already_gone" for clause in self.outcomes)
        return bool(self.dead or self.disabled) or told or self.request is None

    @model_validator(mode="after")
    def _leaves_something(self) -> Self:
        if self.clean_up is not None and self.request is None:
            raise ValueError("clean_up: only a look that is a request leaves something to be taken away")
        return self


class Probe(Model):
    """Kingfisher's `validation`, of type Http, which doubles as our probe."""

    type: Literal["Http"]
    content: ProbeContent


class AwsProbe(Model):
    """Kingfisher's `validation` of an AWS key: STS says whose the key is, or that there is no such key."""

    type: Literal["AWS"]

    @property
    def content(self) -> ProbeContent:
        """What is asked, and how the answer is read."""
        return ProbeContent(aws=Aws(action="identity", response_matcher=[AWS_YES]), dead=AWS_NO_SUCH_KEY)


AnyProbe = Annotated[Probe | AwsProbe, Field(discriminator="type")]


class Verification(Model):
    """Ours: when proof needs more than one look. `content` replaces the probe's request where given.

    `samples` dead answers in a row, `spacing` apart; while `window` has not passed since the last mutating request, an
    alive answer means "still settling". `disabled` is the look that shows whether the credential is disabled.
    `recheck` says how long after its end a credential is looked at again, where the settings' own times do not fit.
    """

    samples: int = Field(default=1, ge=1, le=10)
    spacing: Duration = 2.0
    window: Duration = 30.0
    content: ProbeContent | None = None
    disabled: ProbeContent | None = None
    recheck: list[Duration] | None = None


class Recognition(Acting):
    """Ours: a read by id, as another identity, that shows whether this account ever knew the credential."""

    known: list[Matcher] = Field(min_length=1)
