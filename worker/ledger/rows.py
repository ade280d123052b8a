"""The ledger's rows as Python sees them: what goes into the moves, what comes out of them; no SQL."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from sqlalchemy import RowMapping

from rules.lifecycle import Intent, Outcome, SlotState, Stage, State, StepState, TargetState, Verdict
from rules.units import SECOND

URGENT = "urgent"
"""The queue of incidents."""
EVERYTHING = "*"
"""The connection whose hold stops every connection."""
Row = RowMapping | dict[str, Any]


@dataclass(frozen=True, slots=True)
class SealedSecret:
    """One sealed secret as `worker.safe` made it; which job and credential it belongs to is the ledger's to fill in."""

    id: str
    kind: str
    fingerprint: str
    fingerprint_key: str
    version: int
    algorithm: str
    key_id: str
    nonce: bytes | None
    ciphertext: bytes | None
    created_at: int
    shred_by: int
    shredded_at: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class NewJob:
    """Everything that `submit` needs: the credential, what is to happen to it, and who wants that and why.

    `priority`: the smaller, the more urgent. `account` is whose budget it spends: where it is empty, the connection.
    """

    fingerprint: str
    fingerprint_key: str
    rule: str
    connection: str
    intent: Intent
    rule_digest: str
    plan: Mapping[str, Any]
    plan_hash: str
    queue: str
    requester: str
    account: str = ""
    cost: int = 1
    priority: int = 5
    inputs: Mapping[str, Any] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    provider_id: str | None = None
    subject: str | None = None
    ticket: str | None = None
    owner: str | None = None
    cause: str | None = None
    parent: str | None = None
    batch: str | None = None
    secrets: Sequence[SealedSecret] = ()


@dataclass(frozen=True, slots=True)
class Staged:
    """A key of a rotated target that comes to a stage; a key is told by its fingerprint, like any credential."""

    fingerprint: str
    fingerprint_key: str
    stage: Stage
    provider_id: str | None = None
    subject: str | None = None


class Submitted(NamedTuple):
    """What a submission came to: a job of its own, or one that was open already."""

    job_id: str
    joined: bool


@dataclass(frozen=True, slots=True)
class Job:
    """A row of `jobs`, whole."""

    id: str
    parent: str | None
    batch: str | None
    credential: str
    intent: Intent
    rule: str
    rule_digest: str
    connection: str
    plan: dict[str, Any]
    plan_hash: str
    inputs: dict[str, Any]
    options: dict[str, Any]
    account: str
    cost: int
    queue: str
    priority: int
    state: State
    verdict: Verdict | None
    reason: str | None
    says: str | None
    candidates: list[dict[str, Any]] | None
    drive: int
    acted: bool
    fence: int
    lease_until: int | None
    not_before: int
    attempt: int
    first_seen: int
    rung_at: int | None
    rings: int
    ended_at: int | None
    ticket: str | None
    owner: str | None
    requester: str
    cause: str | None
    audit_number: int
    audit_hash: str


class Head(NamedTuple):
    """The last link of one chain of audit rows."""

    number: int
    hash: str


@dataclass(frozen=True, slots=True)
class Noted:
    """What a step came to, on its way to the ledger: the step's columns, the facts of its audit row, what it brought.

    `learned` are columns of the credential; of `secrets` and `staged` see `moves.record`.
    """

    at: int
    row: Mapping[str, Any]
    facts: Mapping[str, Any]
    learned: Mapping[str, Any]
    secrets: Sequence[SealedSecret] = ()
    staged: Sequence[Staged] = ()


@dataclass(slots=True)
class Claim:
    """A worker's hold on one job, until `lease_until`; every write under it repeats the fence.

    `job` is the row as it was claimed, and `found` what belonged to it then. `lease_until`, `head` and `steps` (the
    number of the last step) move on with each write, so that a checkpoint need not read before it writes. A claim
    belongs to one thread.
    """

    job: Job
    found: Surroundings
    worker: str
    lease: float
    fence: int
    lease_until: int
    head: Head
    steps: int
    lost: tuple[int, ...] = ()  # steps that the worker before left without an answer
    troubled: bool = False  # its account has failed lately: the next success is worth telling
    trial: bool = False  # its account was left alone, and is tried again with this job
    noted: Noted | None = None  # what the last step came to, where that goes with the next write


class Ring(NamedTuple):
    """One bell to ring: the message's task id is `<job_id>.<number>`; rule, intent and batch are its label."""

    job_id: str
    number: int
    queue: str
    rule: str
    intent: Intent
    batch: str | None = None

    @property
    def label(self) -> str:
        """What a person sees of it: never an input, and never a batch's name, which may be somebody's."""
        return " ".join(filter(None, (self.rule, self.intent.value, self.batch)))


LOST: Mapping[str, Any] = {
    "state": StepState.LOST,
    "outcome": Outcome.LOST,
    "says": "its worker was gone before the answer was written down; nobody knows what the provider did",
}
"""What a step comes to whose answer was never written down."""


@dataclass(frozen=True, slots=True)
class Step:
    """A row of `steps`. `retry_after` is in seconds, as it was recorded."""

    job: str
    number: int
    drive: int
    fence: int
    name: str
    purpose: str
    mutating: bool
    state: StepState
    outcome: Outcome | None
    says: str | None
    request: dict[str, Any]
    taken: dict[str, Any] | None
    evidence: dict[str, Any] | None
    retry_after: float | None
    started_at: int
    ended_at: int | None

    def lose(self, at: int) -> Step:
        """The same when its worker is gone."""
        return replace(self, **LOST, ended_at=at)


@dataclass(frozen=True, slots=True)
class JobLine:
    """What a listing shows of a job."""

    id: str
    intent: Intent
    rule: str
    connection: str
    state: State
    verdict: Verdict | None
    reason: str | None
    says: str | None
    credential: str
    batch: str | None
    parent: str | None
    queue: str
    priority: int
    drive: int
    acted: bool
    attempt: int
    not_before: int
    first_seen: int
    ended_at: int | None
    ticket: str | None
    owner: str | None
    requester: str
    cause: str | None


@dataclass(frozen=True, slots=True)
class Credential:
    """A row of `credentials`."""

    id: str
    fingerprint: str
    fingerprint_key: str
    rule: str
    connection: str
    provider_id: str | None
    subject: str | None
    expires_at: int | None
    first_seen: int
    alive_at: int | None
    alive_where: str | None
    dead_at: int | None
    stage: Stage | None
    staged_at: int | None
    target: str | None

    def was_alive_at(self, where: str) -> bool:
        """Whether it was ever seen alive at these base URLs: evidence that this account knew it."""
        return self.alive_at is not None and self.alive_where == where


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What belongs to a job and is not in its row; of secrets the newest of each kind."""

    credential: Credential
    secrets: list[SealedSecret]
    steps: list[Step]


@dataclass(frozen=True, slots=True)
class Count:
    """How many jobs stand in one way."""

    state: State
    verdict: Verdict | None
    reason: str | None
    count: int


@dataclass(frozen=True, slots=True)
class AuditRow:
    """A row of the trail. `row` is the text that was hashed, byte for byte; `facts` is what it says."""

    job: str
    number: int
    at: int
    row: str
    hash: str

    @property
    def facts(self) -> dict[str, Any]:
        """What the row says."""
        facts: dict[str, Any] = json.loads(self.row)
        return facts


@dataclass(frozen=True, slots=True)
class Hold:
    """One hold that is on; the connection "*" is everything."""

    connection: str
    at: int
    by: str
    why: str

    @property
    def says(self) -> str:
        """The sentence that a job shows while it waits."""
        return f"{'everything' if self.connection == EVERYTHING else self.connection} is held by {self.by}: {self.why}"


@dataclass(frozen=True, slots=True)
class Vitals:
    """How the ledger is doing at `now`: jobs that are due, bells, seals, and secrets that should be gone."""

    now: int
    due: int
    oldest_due: int | None
    last_ring: int | None
    last_seal: int | None
    unsealed: int
    unshredded: int


class SlotKey(NamedTuple):
    """What one slot is known by; `due` in microseconds."""

    schedule: str
    due: int


@dataclass(frozen=True, slots=True, kw_only=True)
class NewSlot:
    """A slot that is to be opened; what it is for stays as it was then, whatever the settings say later."""

    due: int
    closes: int
    intent: Intent
    rule: str
    connection: str
    requester: str


@dataclass(frozen=True, slots=True)
class SlotRow:
    """A row of `slots`."""

    schedule: str
    due: int
    closes: int
    state: SlotState
    intent: Intent
    rule: str
    connection: str
    requester: str
    look_at: int
    says: str | None
    opened_at: int
    listed_at: int | None
    ended_at: int | None

    @property
    def key(self) -> SlotKey:
        """What it is known by."""
        return SlotKey(self.schedule, self.due)


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetRow:
    """A row of `slot_targets`, without its slot."""

    target: str
    number: int
    id: str
    subject: str | None
    name: str
    role: str | None
    canary: bool
    state: TargetState
    born: int | None
    used: int | None
    not_before: int
    variables: Mapping[str, str] = field(default_factory=dict)
    job: str | None = None
    says: str | None = None
    started_at: int | None = None
    ended_at: int | None = None


# ── from the database's words ─────────────────────────────────────────────────────────────────────────────────────────


def credential_of(row: Row) -> Credential:
    """A row of `credentials`, its stage spelled."""
    return Credential(**{**row, "stage": None if row["stage"] is None else Stage(row["stage"])})


def credential_row(identifier: str, key: NewJob | Staged, rule: str, connection: str, at: int) -> dict[str, Any]:
    """A row of `credentials` for one that was never seen before, told by its fingerprint."""
    return {
        "id": identifier,
        "fingerprint": key.fingerprint,
        "fingerprint_key": key.fingerprint_key,
        "rule": rule,
        "connection": connection,
        "first_seen": at,
    }


def job_of(row: Row) -> Job:
    """A row of `jobs` with its words as what they are."""
    return Job(**_with_words(row))


def line_of(row: RowMapping) -> JobLine:
    """Some columns of `jobs`, likewise."""
    return JobLine(**_with_words(row))


def _with_words(row: Row) -> dict[str, Any]:
    values: dict[str, Any] = {str(name): value for name, value in row.items()}
    values["intent"], values["state"] = Intent(values["intent"]), State(values["state"])
    if values["verdict"] is not None:
        values["verdict"] = Verdict(values["verdict"])
    return values


def step_of(row: RowMapping) -> Step:
    """A row of `steps`, likewise."""
    values: dict[str, Any] = {str(name): value for name, value in row.items()}
    values["state"] = StepState(values["state"])
    if values["outcome"] is not None:
        values["outcome"] = Outcome(values["outcome"])
    if values["retry_after"] is not None:
        values["retry_after"] /= SECOND
    return Step(**values)


def slot_of(row: RowMapping) -> SlotRow:
    """A row of `slots`, likewise."""
    values: dict[str, Any] = {str(name): value for name, value in row.items()}
    values["state"], values["intent"] = SlotState(values["state"]), Intent(values["intent"])
    return SlotRow(**values)


def target_of(row: RowMapping) -> TargetRow:
    """A row of `slot_targets`, likewise."""
    values: dict[str, Any] = {str(name): value for name, value in row.items() if name not in {"schedule", "due"}}
    values["state"] = TargetState(values["state"])
    return TargetRow(**values)


def audit_row_of(row: RowMapping) -> AuditRow:
    """A row of `audit`, its bytes as text; one that was edited may hold what is no text."""
    return AuditRow(row["job"], row["number"], row["at"], row["row"].decode("utf-8", "replace"), row["hash"])
