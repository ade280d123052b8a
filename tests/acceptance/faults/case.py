"""What a case is: what is hurt, when, and the endings that are true all the same; doing it is the rig's."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.acceptance.faults.rig import Rig
from tests.acceptance.faults.stage import Stage

Hurt = Callable[[Rig, Stage], None]

ENDED = frozenset({"revoked", "rotated"})
EVERY = ("sendgrid", "keyring", "roller", "rotation")


def nothing(_rig: Rig, _stage: Stage) -> None:
    """Nothing more."""


@dataclass(frozen=True)
class Call:
    """The moment of a request: it is on its way to the provider, or handled while the answer is still on its way back.

    `skip` such calls have passed before.
    """

    method: str
    after: bool = False
    path: str = "*"
    skip: int = 0


@dataclass(frozen=True)
class Statement:
    """The moment of a statement to PostgreSQL that begins like this: before it arrives, or after it was done.

    `skip` such statements have passed before.
    """

    begins: str
    after: bool = False
    skip: int = 0


@dataclass(frozen=True)
class Case:
    """One row. `before` is done before the jobs are committed; `hurt` at the moment that `at` names, or at once.

    The request at which it is hurt goes on after `mend`, where it comes `late`, else before it. `may` says how a job
    may end, `waits` that it may go on waiting. `needs` says what not every machine or database has.
    """

    name: str
    holds: str
    hurt: Hurt = nothing
    at: Call | Statement | None = None
    mend: Hurt = nothing
    before: Hurt = nothing
    jobs: tuple[str, ...] = EVERY
    may: frozenset[str] = ENDED
    waits: bool = False
    late: bool = False
    needs: frozenset[str] = frozenset()
    where: str = ""
    more: Mapping[str, Any] = field(default_factory=dict)

    @property
    def allowed(self) -> frozenset[str]:
        """The endings that are true."""
        return self.may | ({"waiting"} if self.waits else set[str]())
