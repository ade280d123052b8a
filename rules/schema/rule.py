"""One kind of credential: everything that a rule says about it, with the lists that it may show and its limits."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from rules.budget import Limits
from rules.model import Duration, Model, Name
from rules.schema.aws import AWS_NO_SUCH_KEY, AWS_YES, Aws, aws_lists
from rules.schema.detection import Confidence, DependsOn, PatternRequirements
from rules.schema.looks import AnyProbe, ProbeContent, Recognition, Verification
from rules.schema.recorded import Recorded
from rules.schema.revocation import AwsRevocation, Revocation, steps_of
from rules.schema.rotation import Rotation
from rules.schema.select import Select
from rules.schema.steps import Acting, Step, check_list
from rules.schema.variables import Subject, Variable


class Listing(Acting):
    """Ours: what exists for an account, or for the person whom SUBJECT names, read to its end and never acted on.

    It is read by a GET, or by the `list` of AWS.
    A schedule chooses by what the rows say: `name`, `role`, `created` and `used` (when it was last used) each say which
    of the shown fields that is; `made_by` is the one that says which person made a machine's credential. `variables`
    says which of the rule's variables are filled from which of the shown fields, for a job about a row.
    """

    select: Select
    name: str | None = None
    role: str | None = None
    created: str | None = None
    used: str | None = None
    variables: dict[Name, str] = {}
    made_by: str | None = None

    @model_validator(mode="after")
    def _only_reads(self) -> Self:
        gets = self.request is not None and self.request.method.upper() == "GET"
        lists = self.aws is not None and self.aws.action == "list" and self.aws.actor
        if not (gets or lists) or self.select.where:
            what = "a GET, or AWS's action list signed by the connection, and a select without where"
            raise ValueError(f"expected {what}: a listing shows every row and changes nothing")
        check_list(self, self.select)
        fields = [self.name, self.role, self.created, self.used, self.made_by]
        hidden = [field for field in fields if field is not None and field not in self.select.show]
        if hidden:
            raise ValueError(
                f"expected name, role, created, used and made_by to be among show, got {', '.join(hidden)}"
            )
        if hidden := sorted(set(self.variables.values()) - set(self.select.show)):
            raise ValueError(f"variables: expected fields that are among show, got {', '.join(hidden)}")
        return self


class Rule(Model):
    """One kind of credential: how it looks, how to tell that it works, and how to end it.

    With `secret: none` (ours) nobody holds it: it has no pattern, and its variables name it.
    """

    id: str = Field(pattern=r"^[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*$")
    name: str
    pattern: str = ""
    min_entropy: float | int | None = None
    confidence: Confidence | None = None
    examples: list[str] = []
    references: list[str] = []
    visible: bool = True
    depends_on_rule: list[DependsOn] = []
    pattern_requirements: PatternRequirements | None = None
    path: str | None = None
    authoritative: bool = True
    vectorscan_compatible: bool = True
    tls_mode: Literal["strict", "lax", "off"] | None = None
    validation: AnyProbe | None = None
    revocation: Revocation | None = None
    # What follows is ours.
    restoration: Revocation | None = None
    rotation: Rotation | None = None
    listing: Listing | None = None
    aliases: list[str] = []
    about: str = ""
    negative_examples: list[str] = []
    secret: Literal["required", "optional", "none"] = "required"  # noqa: S105 - whether one is handed in
    variables: dict[Name, Variable] = {}
    hosts: dict[Name, list[str]] = {}
    credential: Subject = Subject()
    lifetime: Duration | None = None
    verification: Verification = Verification()
    recognition: Recognition | None = None
    limits: Limits | None = None
    also_kills: list[str] = []
    residual: list[str] = []
    residual_for: Duration | None = None  # no longer than that does any of it live
    leaving: Literal["first", "now", "last"] | None = None  # a subject's own end: when in the order of an offboarding
    cannot: list[str] = []
    unverified: list[str] = []
    recorded: list[Recorded] = []

    @model_validator(mode="after")
    def _found_or_named(self) -> Self:
        if self.secret != "none":  # noqa: S105 - a word of the language
            if not self.pattern:
                raise ValueError("expected the key 'pattern' here; only a rule with secret: none goes without")
            return self
        if self.pattern or self.examples or self.negative_examples:
            raise ValueError("secret: none: there is nothing to find, so take pattern and examples out")
        if not any(variable.identifies for variable in self.variables.values()):
            raise ValueError("secret: none: expected a variable with identifies: true, which names the credential")
        return self

    @property
    def provider(self) -> str:
        """The provider's name: the id up to its first dot."""
        return self.id.partition(".")[0]

    @property
    def steps(self) -> list[Step]:
        """The revocation's steps, whichever shape it has."""
        return steps_of(self.revocation, "revoke")

    @property
    def restoring(self) -> list[Step]:
        """The steps by which a disabled credential is enabled again."""
        return steps_of(self.restoration, "restore")

    @property
    def probe(self) -> ProbeContent | None:
        """How to ask whether the credential works."""
        return self.validation.content if self.validation is not None else None

    @property
    def disabling_look(self) -> ProbeContent | None:
        """How to see that it is disabled: what the rule says, or what AWS lists of a user's own keys."""
        if self.verification.disabled is not None or not isinstance(self.revocation, AwsRevocation):
            return self.verification.disabled
        return ProbeContent(
            aws=Aws(action="status", response_matcher=[AWS_YES, aws_lists("Active")]),
            dead=AWS_NO_SUCH_KEY,
            disabled=[AWS_YES, aws_lists("Inactive")],
        )
