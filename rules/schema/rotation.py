"""How a key is replaced by a new one (ours): what the provider is asked, and what a sink is given; not in which order.

The order is the same for every rule and stands in `rules.decide_rotation`; which sinks there are, the settings say.
"""

from __future__ import annotations

import string
from collections.abc import Iterator, Mapping
from typing import Literal, Self

from pydantic import Field, model_validator

from rules.model import Duration, Model, Name
from rules.schema.action import Action
from rules.schema.looks import ProbeContent
from rules.schema.pause import Pause
from rules.schema.select import Select
from rules.schema.steps import Acting, Step, check_list

JOB = "JOB"
"""The name by which templates know the job's id, to stamp what is made with it."""
EXISTING = "EXISTING"
"""The ids of what existed before, one on a line."""
LAST_USED = "LAST_USED"
"""When the old key was last used, as the provider tells it."""
OLD_LOOK = "old"
TEST_LOOK = "test"


class Existing(Acting):
    """Every row that exists before a key is issued; their ids are kept, so that a new one can be told.

    `room`: how many there may be at the most for another one to be made.
    """

    select: Select
    room: int | None = Field(default=None, ge=0)

    @property
    def step(self) -> Step:
        """The reading of it, as a step of its own."""
        return Step(request=self.request, command=self.command, aws=self.aws, select=self.select)

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if self.select.where or self.action.changes:
            raise ValueError("expected a read and a select without where: every row has to be known")
        check_list(self, self.select)
        return self


class Generate(Action):
    """The new key is made here, for a system that takes one from us: so many characters of this alphabet."""

    length: int = Field(default=48, ge=16, le=1024)
    alphabet: str = Field(default=string.ascii_letters + string.digits, min_length=10)
    prefix: str = ""

    @property
    def title(self) -> str:
        """What is made."""
        return f"make {self.length} random characters"

    @model_validator(mode="after")
    def _distinct(self) -> Self:
        if len(set(self.alphabet)) < len(self.alphabet):
            raise ValueError("alphabet: expected each character once, since a repeated one is drawn more often")
        return self


class Handover(Action):
    """What is asked of a sink. It stands in no file: a plan has one for each sink that the job names."""

    what: Literal["preflight", "vacant", "deliver", "read_back", "reload", "put_back", "seen_back", "tell_back"]
    sink: str

    @property
    def title(self) -> str:
        """What is done to which sink."""
        words = {"deliver": "deliver to", "read_back": "read back from", "reload": "tell the consumer of"}
        words |= {"put_back": "put the old key back into", "tell_back": "tell the consumer of"}
        return f"{words.get(self.what, 'look at')} the sink {self.sink}"


class Mark(Action):
    """Something that only the ledger has to know: nothing is sent for it."""

    @property
    def title(self) -> str:
        """What is written down."""
        return "write down which key is in place"


class Own(Acting):
    """A part of a rotation that no file says: revoq does it by itself."""

    own: Generate | Handover | Mark | Pause

    @property
    def actions(self) -> list[Action]:
        """The one thing."""
        return [self.own]


class Rotation(Model):
    """How a target's key is replaced.

    `overlap`: whether the old key lives on until it is retired; otherwise it dies as the new one is issued.
    `key` is the name of the new secret, `id` that of its id at the provider, `old` that of the old secret.
    `target` reads what is to be rotated, and has to refuse what is not what was asked for. `issue` makes the new key
    (the step that takes `key`) and gives it what the old one may do. `mine` singles out a key that a lost answer left
    behind, by JOB or by not being in EXISTING, and `discard` deletes it. `test` tries the new key on its consumer's
    path. `record` is what a sink is given, as one; `current` says which names its fields give back. `used` takes
    LAST_USED. `retire` ends the old key; `proof` asks whether it is dead, where that is not the rule's own probe.
    `sink_name` is what the target is called in sinks: the same for all its keys.
    """

    about: str = ""
    overlap: bool = True
    key: Name = "NEW_KEY"
    id: Name | None = None
    old: Name = "TOKEN"
    sink_name: str
    target: list[Step] = []
    existing: Existing | None = None
    generate: Generate | None = None
    issue: list[Step] = []
    mine: Step | None = None
    discard: Step | None = None
    test: ProbeContent | None = None
    record: dict[str, str] = Field(min_length=1)
    current: dict[Name, str] = {}
    used: Step | None = None
    retire: list[Step] = []
    proof: ProbeContent | None = None
    grace: Duration = 0.0

    @property
    def makes(self) -> Step | None:
        """The step that makes the new key."""
        return next((step for step in self.issue if self.key in step.extract), None)

    @property
    def left(self) -> Name | None:
        """The name by which `discard` knows the key that it deletes: what `mine` takes, where that is one thing."""
        taken = list(self.mine.extract) if self.mine is not None else []
        return taken[0] if len(taken) == 1 else None

    @property
    def steps(self) -> Mapping[str, Step | Existing]:
        """Every part that is a step, by its name, in the order in which they are taken."""
        return dict(self._steps())

    def _steps(self) -> Iterator[tuple[str, Step | Existing]]:
        for number, step in enumerate(self.target, start=1):
            yield step.name or f"target {number}", step
        if self.existing is not None:
            yield "existing", self.existing
        for number, step in enumerate(self.issue, start=1):
            yield step.name or f"issue {number}", step
        for name, one in (("mine", self.mine), ("discard", self.discard), ("used", self.used)):
            if one is not None:
                yield one.name or name, one
        for number, step in enumerate(self.retire, start=1):
            yield step.name or f"retire {number}", step

    @property
    def looks(self) -> Mapping[str, ProbeContent]:
        """The looks of a rotation alone, by their names."""
        found = {TEST_LOOK: self.test, OLD_LOOK: self.proof}
        return {name: content for name, content in found.items() if content is not None}

    @model_validator(mode="after")
    def _makes_one_key(self) -> Self:
        made = self.makes
        if (made is None) == (self.generate is None):
            raise ValueError(f"expected one step of issue that takes {self.key}, or generate; got both or neither")
        if made is not None and not (made.extract[self.key].secret and made.mutates):
            raise ValueError(f"issue: {self.key} has to be secret, and the step that makes it has to change something")
        if unknown := sorted(set(self.current.values()) - set(self.record)):
            raise ValueError(f"current: {', '.join(unknown)} is no field of record")
        if not self.overlap and self.retire:
            raise ValueError("retire: without overlap the old key dies as the new one is issued")
        return self

    @model_validator(mode="after")
    def _reads_and_changes(self) -> Self:
        for name, step in (("mine", self.mine), ("used", self.used), *(("target", step) for step in self.target)):
            if step is not None and step.mutates:
                raise ValueError(f"{name}: expected a step that only reads")
        if self.discard is not None and not self.discard.mutates:
            raise ValueError("discard: expected a step that changes something")
        if (self.mine is None) != (self.discard is None):
            raise ValueError("expected mine and discard together: what is found has to be deleted")
        if self.mine is not None and (self.mine.select is None or not self.mine.select.where):
            raise ValueError("mine: expected a select with where: it has to find exactly the key that nobody holds")
        if self.used is not None and LAST_USED not in self.used.extract:
            raise ValueError(f"used: expected a step that takes {LAST_USED}")
        return self
