"""What a rule file may say, as frozen models; reading YAML into them, with lines, is `loader`'s.

The shape is that of Kingfisher 1.x rules (`docs/RULES.md` of its repository); what is ours beyond it is marked "ours".
Durations are texts such as `90s`, `15m`, `24h` or `7d` and are kept in seconds.
"""

from __future__ import annotations

import re
from functools import cached_property
from typing import Annotated, Literal, Self, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, Discriminator, Field, Tag, model_validator

from rules.lifecycle import Outcome

UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
MUTATING_METHODS = frozenset({"POST", "PUT", "PATCH", "DELETE"})
METHODS = MUTATING_METHODS | {"GET", "HEAD"}
REPEATABLE_METHODS = frozenset({"GET", "HEAD", "PUT", "DELETE"})
UNSAFE_ENVIRONMENT = re.compile(
    r"(PATH|IFS|ENV|BASH_.*|LD_.*|DYLD_.*|GCONV_PATH|LOCPATH|NODE_.*|NPM_CONFIG_(NODE|SCRIPT).*|PYTHON.*|PERL.*|RUBY.*"
    r"|JAVA_TOOL_OPTIONS|JDK_JAVA_OPTIONS|_JAVA_OPTIONS|GIT_.*|EDITOR|VISUAL|PAGER|SHELL)$",
    re.IGNORECASE,
)
"""Variables by which a program is made to load or start other code than its own."""


def parse_duration(value: object) -> float:
    """Seconds out of `90s`, `15m`, `24h`, `7d`; anything else is refused, a bare number too: nobody knows its unit."""
    if isinstance(value, int | float) and not isinstance(value, bool) and value == 0:
        return 0.0
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([smhd])", value) if isinstance(value, str) else None
    if found is None:
        raise ValueError(f"expected a duration such as 90s, 15m, 24h or 7d, got {value!r}")
    return float(found[1]) * UNITS[found[2]]


def read_confidence(value: object) -> object:
    """Kingfisher reads `High` and `high` alike."""
    return value.lower() if isinstance(value, str) else value


Duration = Annotated[float, BeforeValidator(parse_duration)]
Confidence = Annotated[Literal["low", "medium", "high"], BeforeValidator(read_confidence)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]


class Model(BaseModel):
    """Frozen, strict, and closed: an unknown key is a mistake, not a comment."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, ignored_types=(cached_property,))


# ── matchers ──────────────────────────────────────────────────────────────────────────────────────────────────────


class Deciding(Model):
    """What every matcher may add: Kingfisher's wish to keep the answer, which may stand on any of them."""

    report_response: bool | None = None


class StatusMatch(Deciding):
    """Holds when the status is one of `status`; with `negative`, when it is none of them."""

    type: Literal["StatusMatch"]
    status: list[int] = Field(min_length=1)
    match_all_status: bool = False
    negative: bool = False


class WordMatch(Deciding):
    """Holds when any word (all with `match_all_words`) is in the body; `negative` turns it round."""

    type: Literal["WordMatch"]
    words: list[str] = Field(min_length=1)
    match_all_words: bool = False
    negative: bool = False


class HeaderMatch(Deciding):
    """Holds when the header's value contains any of `expected` (all with `match_all_values`), in any case."""

    type: Literal["HeaderMatch"]
    header: str
    expected: list[str] = Field(min_length=1)
    match_all_values: bool = False
    negative: bool = False  # ours


class JsonValid(Deciding):
    """Holds when the body is JSON."""

    type: Literal["JsonValid"]


class XmlValid(Deciding):
    """Holds when the body is well-formed XML."""

    type: Literal["XmlValid"]


class JsonMatch(Model):
    """Ours. Holds when the one value at `path` fits; a path that finds nothing holds only for `exists: false`.

    `equals` compares with a template's text or with a YAML number or boolean, whose JSON types must agree.
    """

    type: Literal["JsonMatch"]
    path: str
    equals: str | int | bool | None = None
    is_null: bool | None = None
    exists: bool | None = None
    negative: bool = False

    @model_validator(mode="after")
    def _one_condition(self) -> Self:
        if [self.equals, self.is_null, self.exists].count(None) != 2:
            raise ValueError("expected exactly one of equals, is_null, exists")
        return self


class ReportResponse(Model):
    """Kingfisher's wish to keep the answer. Always holds; revoq keeps a keyed digest and never a body."""

    report_response: bool
    type: Literal["ReportResponse"] | None = None


def _matcher_kind(value: object) -> str:
    if isinstance(value, dict):
        return str(value.get("type") or ("ReportResponse" if "report_response" in value else "missing"))
    return str(getattr(value, "type", None) or "ReportResponse")


Matcher = Annotated[
    Annotated[StatusMatch, Tag("StatusMatch")]
    | Annotated[WordMatch, Tag("WordMatch")]
    | Annotated[HeaderMatch, Tag("HeaderMatch")]
    | Annotated[JsonValid, Tag("JsonValid")]
    | Annotated[XmlValid, Tag("XmlValid")]
    | Annotated[JsonMatch, Tag("JsonMatch")]
    | Annotated[ReportResponse, Tag("ReportResponse")],
    Discriminator(_matcher_kind),
]


# ── extractors ────────────────────────────────────────────────────────────────────────────────────────────────────


class Extractor(Model):
    """What every extractor may add (ours): whether the value is secret, and whether it may be missing."""

    secret: bool = False
    optional: bool = False


class JsonPath(Extractor):
    """The one value at a JSONPath; several values are an error, never the first."""

    type: Literal["JsonPath"]
    path: str


class Regex(Extractor):
    """The first group (or the whole match) of the one place in the body where the pattern fits."""

    type: Literal["Regex"]
    pattern: str


class Header(Extractor):
    """The value of a header."""

    type: Literal["Header"]
    name: str


class Body(Extractor):
    """The whole body."""

    type: Literal["Body"]


class StatusCode(Extractor):
    """The status, in digits."""

    type: Literal["StatusCode"]


Extraction = Annotated[JsonPath | Regex | Header | Body | StatusCode, Field(discriminator="type")]


# ── select (ours) ─────────────────────────────────────────────────────────────────────────────────────────────────


class Condition(Model):
    """One condition on a row's field (a JSONPath inside the row); the values are templates."""

    field: str
    equals: str | None = None
    prefix: str | None = None
    suffix: str | None = None
    is_null: bool | None = None
    before: str | None = None
    after: str | None = None

    @model_validator(mode="after")
    def _something(self) -> Self:
        if not self.values and self.is_null is None:
            raise ValueError("expected at least one of equals, prefix, suffix, is_null, before, after")
        return self

    @property
    def values(self) -> list[str]:
        """The templates of this condition."""
        return [v for v in (self.equals, self.prefix, self.suffix, self.before, self.after) if v is not None]


class Paging(Model):
    """How a list goes on after its first page.

    `offset`: `parameter` grows by `size` · `page`: `parameter` grows by one from `first` · `cursor`: `parameter` takes
    the value at `next` · `link`: the address at `next` (or of the Link header with rel=next) on the same host.
    `total` names where the answer says how many rows there are; a list that ends with fewer is cut off.
    """

    kind: Literal["offset", "page", "cursor", "link"]
    parameter: str | None = None
    size_parameter: str | None = None
    size: int = Field(default=100, ge=1, le=10_000)
    first: int = 0
    next: str | None = None
    total: str | None = None
    most: int = Field(default=1000, ge=1)  # pages after which the list counts as unreadable

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if self.kind != "link" and self.parameter is None:
            raise ValueError(f"paging by {self.kind} needs a parameter")
        if self.kind == "cursor" and self.next is None:
            raise ValueError("paging by cursor needs next: the path of the cursor in the answer")
        return self


class Select(Model):
    """Exactly one row of a list, by conditions that must all hold; `show` is what tells candidates apart."""

    rows: str
    where: list[Condition] = []
    page: Paging | None = None
    id: str
    show: list[str] = []


# ── requests and steps ────────────────────────────────────────────────────────────────────────────────────────────


class Digest(Model):
    """HTTP Digest credentials, as templates (RFC 7616)."""

    username: str
    password: str


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


class Part(Model):
    """One part of a multipart body. One of type `file` is named like itself; nothing is read from disk."""

    name: str = Field(min_length=1)
    type: Literal["text", "file"] = "text"
    content: str
    content_type: str | None = None


class Multipart(Model):
    """A body in parts (RFC 7578)."""

    parts: list[Part] = Field(min_length=1)


class Request(Action):
    """One HTTP request; every value is a Liquid template."""

    method: str = "GET"
    url: str
    headers: dict[str, str] = {}
    body: str | None = None
    form: dict[str, str] | None = None  # ours: a form-encoded body
    digest: Digest | str | None = None  # Kingfisher's files write it as one text, user:password
    multipart: Multipart | None = None
    response_is_html: bool = False

    @property
    def templates(self) -> list[str]:
        """URL, body, headers, form, parts and digest."""
        texts = [self.url, self.body or "", *self.headers.values(), *(self.form or {}).values()]
        texts += [part.content for part in self.multipart.parts] if self.multipart is not None else []
        if isinstance(self.digest, str):
            return [*texts, self.digest]
        return texts + ([self.digest.username, self.digest.password] if self.digest is not None else [])

    @property
    def changes(self) -> bool:
        """Told from the method."""
        return self.method.upper() in MUTATING_METHODS

    @property
    def idempotent(self) -> bool:
        """Told from the method."""
        return self.method.upper() in REPEATABLE_METHODS

    @property
    def title(self) -> str:
        """Method and URL."""
        return f"{self.method.upper()} {self.url}"

    @model_validator(mode="after")
    def _known_method(self) -> Self:
        if self.method.upper() not in METHODS:
            raise ValueError(f"expected GET, HEAD, POST, PUT, PATCH or DELETE, got {self.method!r}")
        if [self.body, self.form, self.multipart].count(None) < 2:
            raise ValueError("expected one of body, form and multipart")
        return self


ExitCode = Annotated[int, Field(ge=0, le=255)]


class Command(Action):
    """Ours: a program, by its absolute path and an argument list; never a shell.

    Each argument is a template that holds no secret, since everybody on a machine can read arguments: a secret goes by
    `env` or `stdin`. The exit code is read as the answer's status, and what it printed as its body.
    """

    run: list[str] = Field(min_length=1)
    env: dict[Name, str] = {}
    stdin: str | None = None
    ok: list[ExitCode] = Field(default=[0], min_length=1)
    already_gone: list[ExitCode] = []
    retry: list[ExitCode] = []

    @property
    def templates(self) -> list[str]:
        """Arguments, environment and input."""
        return [*self.run, *self.env.values(), self.stdin or ""]

    @property
    def changes(self) -> bool:
        """A program may do anything; `mutating: false` on the step says that it only looks."""
        return True

    @property
    def idempotent(self) -> bool:
        """Nobody knows; `repeatable` on the step says so."""
        return False

    @property
    def title(self) -> str:
        """The arguments."""
        return " ".join(self.run)

    @model_validator(mode="after")
    def _sound(self) -> Self:
        if not self.run[0].startswith("/") or "{" in self.run[0]:
            raise ValueError(f"run: expected the program's absolute path as the first word, got {self.run[0]!r}")
        twice = set(self.ok) & set(self.already_gone) | set(self.retry) & {*self.ok, *self.already_gone}
        if twice:
            raise ValueError(f"the exit code {min(twice)} cannot mean two things")
        unsafe = sorted(name for name in self.env if UNSAFE_ENVIRONMENT.match(name))
        if unsafe:
            raise ValueError(f"env: {', '.join(unsafe)} would change which code runs; it is never passed on")
        return self


class Pause(Action):
    """Ours: a wait, counted from when it was first reached."""

    duration: Duration

    @model_validator(mode="before")
    @classmethod
    def _from_text(cls, value: object) -> object:
        return value if isinstance(value, dict) else {"duration": value}

    @property
    def title(self) -> str:
        """How long."""
        return f"wait for {self.duration:g} seconds"


class Aws(Action):
    """Ours: one call to AWS about one access key. It is signed by the connection, or by the key itself.

    `identity` asks STS who the key is, `owner` whose it is, `status` whether it is listed as Active or Inactive;
    `deactivate`, `activate` and `delete` change it. `user` is left out where a key acts on itself.
    """

    action: Literal["identity", "owner", "status", "deactivate", "activate", "delete"]
    key: str = "{{ AKID }}"
    secret: str = "{{ TOKEN }}"  # noqa: S105 - a template
    session: str | None = None
    user: str | None = None
    region: str = "us-east-1"

    @property
    def templates(self) -> list[str]:
        """The key's id, the owner and the region; the secret where the key itself signs."""
        own = [] if self.actor else [self.secret, self.session or ""]
        return [self.key, self.user or "", self.region, *own]

    @property
    def changes(self) -> bool:
        """Told from the action."""
        return self.action in {"deactivate", "activate", "delete"}

    @property
    def title(self) -> str:
        """The action and whose key it is about."""
        return f"AWS {self.action} {self.key}"


AWS_YES = StatusMatch(type="StatusMatch", status=[200])
AWS_NO_SUCH_KEY: list[Matcher] = [
    StatusMatch(type="StatusMatch", status=[403]),
    JsonMatch(type="JsonMatch", path="$.Error.Code", equals="InvalidClientTokenId"),
]
"""What AWS says of a key that does not exist, or is inactive; also in another partition, so it is no proof at first."""


class OutcomeClause(Model):
    """Ours: an answer for which all of `when` hold means `is`; the first clause that fits wins."""

    means: Literal["ok", "already_gone", "denied", "retry", "broken", "inconclusive"] = Field(alias="is")
    when: list[Matcher] = Field(min_length=1)

    @property
    def outcome(self) -> Outcome:
        """The outcome that the clause names."""
        return Outcome(self.means)


class Acting(Model):
    """What takes one action, of whichever kind: exactly one of them is said."""

    request: Request | None = None
    command: Command | None = None  # ours
    aws: Aws | None = None  # ours

    @property
    def actions(self) -> list[Action]:
        """What is said here to be done: exactly one thing, or it is refused."""
        return [action for action in (self.request, self.command, self.aws) if action is not None]

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
        if self.select is not None and self.request is None:
            raise ValueError("select: only the answer to a request is read as a list")
        if self.pause is not None and (self.extract or self.outcomes or self.mutating):
            raise ValueError("a pause has no answer: take extract, outcomes and mutating out")
        if self.disables and not self.mutates:
            raise ValueError("disables: only a step that changes something can disable")
        return self


class ProbeContent(Acting):
    """A probe: the request's matchers say alive, `dead` (ours) says dead, anything else is inconclusive.

    An imported one has no word for dead: it counts as dead only what was alive before and is refused now.
    `disabled` (ours): the provider lists it as disabled, so that it does not work and can be enabled again.
    """

    dead: list[Matcher] = []
    disabled: list[Matcher] = []
    extract: dict[Name, Extraction] = {}
    outcomes: list[OutcomeClause] = []

    @property
    def can_say_dead(self) -> bool:
        """Whether the rule itself names an answer that means dead."""
        told = any(clause.means == "already_gone" for clause in self.outcomes)
        return bool(self.dead or self.disabled) or told or self.request is None


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
    """

    samples: int = Field(default=1, ge=1, le=10)
    spacing: Duration = 2.0
    window: Duration = 30.0
    content: ProbeContent | None = None
    disabled: ProbeContent | None = None


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


class Recognition(Acting):
    """Ours: a read by id, as another identity, that shows whether this account ever knew the credential."""

    known: list[Matcher] = Field(min_length=1)


# ── rules and files ───────────────────────────────────────────────────────────────────────────────────────────────


class DependsOn(Model):
    """A value that another rule finds; it becomes a variable, a required one unless it is optional.

    `within` and `verify_candidates` say how a scanner pairs the two; here a person or a report has paired them.
    """

    rule_id: str
    variable: Name
    optional: bool = False
    within: str | None = None
    verify_candidates: bool = False


class ChecksumActual(Model):
    """Where a token's own checksum stands."""

    template: str
    requires_capture: str | None = None


class Checksum(Model):
    """How a token's own checksum is told from the rest of it."""

    actual: ChecksumActual
    expected: str
    skip_if_missing: bool = False


class PatternRequirements(Model):
    """What Kingfisher demands of a match beside its pattern; read, and left to the scanner."""

    min_digits: int | None = None
    min_uppercase: int | None = None
    min_lowercase: int | None = None
    min_special_chars: int | None = None
    special_chars: str | None = None
    ignore_if_contains: list[str] | None = None
    checksum: Checksum | None = None


class Variable(Model):
    """Ours: a value that the requester gives with `--var`. `pattern` must match it whole.

    One that `identifies` names the credential itself, so that a row found by it is tied to the credential.
    """

    about: str
    required: bool = False
    secret: bool = False
    identifies: bool = False
    pattern: str | None = None


class Subject(Model):
    """Ours: the names that hold what identifies the credential, once they are known."""

    id: Name | None = None
    subject: Name | None = None
    tenant: Name | None = None


class Listing(Model):
    """Ours: what exists for an account, or for the person whom SUBJECT names, read to its end and never acted on.

    A schedule chooses by what the rows say: `name`, `role`, `created` and `used` (when it was last used) each say which
    of the shown fields that is.
    """

    request: Request
    select: Select
    name: str | None = None
    role: str | None = None
    created: str | None = None
    used: str | None = None

    @model_validator(mode="after")
    def _only_reads(self) -> Self:
        if self.request.method.upper() != "GET" or self.select.where:
            raise ValueError("expected a GET and a select without where: a listing shows every row and changes nothing")
        fields = [self.name, self.role, self.created, self.used]
        hidden = [field for field in fields if field is not None and field not in self.select.show]
        if hidden:
            raise ValueError(f"expected name, role, created and used to be among show, got {', '.join(hidden)}")
        return self


class Limits(Model):
    """Ours: what the provider allows; `requests` in each `per`."""

    requests: int = Field(ge=1)
    per: Duration
    source: str = ""


class RecordedAnswer(Model):
    """One answer of the provider, as documented or as seen."""

    status: int
    headers: dict[str, str] = {}
    body: str = ""


class Recorded(Model):
    """Ours: an answer to a step (`probe`, `verify`, `recognise` or a step's name) and the outcome that it must give."""

    name: str
    step: str
    answers: list[RecordedAnswer] = Field(min_length=1)
    given: dict[Name, str] = {}
    gives: Outcome
    takes: dict[Name, str] = {}

    @model_validator(mode="before")
    @classmethod
    def _outcome_by_name(cls, value: object) -> object:
        if isinstance(value, dict) and isinstance(value.get("gives"), str):
            try:
                return {**value, "gives": Outcome(value["gives"])}
            except ValueError:
                names = ", ".join(outcome.value for outcome in Outcome)
                raise ValueError(f"gives: expected one of {names}, got {value['gives']!r}") from None
        return value


class Rule(Model):
    """One kind of credential: how it looks, how to tell that it works, and how to end it."""

    id: str = Field(pattern=r"^[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*$")
    name: str
    pattern: str
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
    listing: Listing | None = None
    aliases: list[str] = []
    about: str = ""
    negative_examples: list[str] = []
    secret: Literal["required", "optional"] = "required"  # noqa: S105 - whether one is handed in
    variables: dict[Name, Variable] = {}
    hosts: dict[Name, list[str]] = {}
    credential: Subject = Subject()
    verification: Verification = Verification()
    recognition: Recognition | None = None
    limits: Limits | None = None
    also_kills: list[str] = []
    residual: list[str] = []
    cannot: list[str] = []
    unverified: list[str] = []
    recorded: list[Recorded] = []

    @property
    def provider(self) -> str:
        """The provider's name: the id up to its first dot."""
        return self.id.partition(".")[0]

    @property
    def steps(self) -> list[Step]:
        """The revocation's steps, whichever shape it has."""
        return _steps_of(self.revocation, "revoke")

    @property
    def restoring(self) -> list[Step]:
        """The steps by which a disabled credential is enabled again."""
        return _steps_of(self.restoration, "restore")

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
            aws=Aws(action="status", response_matcher=[AWS_YES, _listed_as("Active")]),
            dead=AWS_NO_SUCH_KEY,
            disabled=[AWS_YES, _listed_as("Inactive")],
        )


def _listed_as(status: str) -> JsonMatch:
    return JsonMatch(type="JsonMatch", path="$.Status", equals=status)


def _steps_of(revocation: Revocation | None, name: str) -> list[Step]:
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


class SignIn(Model):
    """How an identity is turned into a session; `SESSION` must be among what is extracted."""

    request: Request
    extract: dict[Name, Extraction]


class WhoAmI(Model):
    """The read by which a connection learns who it is, so that it never acts on itself."""

    request: Request
    extract: dict[Name, Extraction]


class Identity(Model):
    """How a connection's `identity` signs calls. Its fields are names in upper case, in these templates only.

    An optional field that is not set is an empty text. `own` names what sign-in or `whoami` tell about ourselves.
    """

    needs: list[str] = []
    optional: list[str] = []
    secrets: list[str] = []
    sign: dict[str, str]
    sign_in: SignIn | None = None
    sign_out: Request | None = None
    whoami: WhoAmI | None = None
    own: Subject = Subject()


class Provider(Model):
    """What the rules of one provider share: base URLs, and how a connection to it signs."""

    name: str = Field(pattern=r"^[a-z0-9_]+$")
    title: str
    hosts: dict[Name, list[str]] = {}
    identity: Identity | None = None
    references: list[str] = []


class RuleFile(Model):
    """One file: the provider (ours) and its rules."""

    provider: Provider | None = None
    rules: list[Rule] = Field(min_length=1)
