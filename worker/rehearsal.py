"""A dry run: the reads of the real plan, decided as a job's are, up to the first request that would change something.

Nothing is written down and nothing changes. The ledger is only asked what it knows of the credential already, since a
job would be told that too.
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from secrets import token_bytes
from typing import Any

from rules.decide import decide
from rules.decision import Decision, Do, Wait
from rules.errors import RevoqError
from rules.lifecycle import Outcome
from rules.loader import LoadedRule
from rules.parts import part_of
from rules.plan import CHANGES, Plan, Planned, Purpose
from rules.request import Shown, show
from rules.schema import Step
from rules.schema.rotation import JOB
from rules.secret import Secret
from rules.units import SECOND
from worker.dossier import Dossier, NotReady, Terms, unformed
from worker.errors import ConnectionUnusable, ExchangeError
from worker.ledger import reads
from worker.runtime import Runtime
from worker.step import Result

NO_JOB = "job_of-a-dry-run"
"""What stands for the id of a job that there is not."""
PATIENCE = 20.0
"""Seconds that a dry run waits in all, where a job would wait and look again."""
CARRIES_OUT = frozenset(
    {
        Purpose.READ,
        Purpose.PAUSE,
        Purpose.ACT,
        Purpose.ISSUE,
        Purpose.GRANT,
        Purpose.TEST,
        Purpose.DELIVER,
        Purpose.READ_BACK,
        Purpose.RELOAD,
        Purpose.USED,
    }
)
"""What a job does in the order of its plan, whatever comes of the steps before."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Script:
    """What is rehearsed: the same as a submission would seal and commit."""

    loaded: LoadedRule
    plan: Plan
    connection: str
    fingerprint: str
    inputs: Mapping[str, str]
    secrets: Mapping[str, Secret]
    terms: Terms


@dataclass(frozen=True, slots=True)
class Taken:
    """One read that was done, and what it came to."""

    planned: Planned
    label: Mapping[str, str]
    result: Result


@dataclass(frozen=True, slots=True)
class Coming:
    """One request that a job would send next; without `shown`, `lacking` says why it cannot be filled in yet."""

    planned: Planned
    actor: bool
    shown: Shown | None = None
    lacking: str = ""


@dataclass(slots=True)
class Rehearsal:
    """How far it came, and what a job would do from here. `joins` is the open job that a submission would join."""

    decision: Decision
    taken: list[Taken] = field(default_factory=list)
    coming: list[Coming] = field(default_factory=list)
    candidates: Sequence[Mapping[str, Any]] = ()
    held: str | None = None
    joins: str | None = None

    @property
    def acts(self) -> bool:
        """Whether a job would now send something that changes something."""
        return isinstance(self.decision, Do)


def rehearse(runtime: Runtime, script: Script) -> Rehearsal:
    """Do what a job would do, up to the first request that changes something."""
    dossier = Dossier(runtime, script.plan, script.connection, script.terms)
    taken: list[Taken] = []
    try:
        joins = _remember(dossier, script)
        decision = _rehearse(dossier, script, taken)
        coming = list(_look_ahead(dossier, decision.step)) if isinstance(decision, Do) else []
        candidates = dossier.candidates or ()
        return Rehearsal(
            decision, taken, coming, candidates, reads.hold_for(runtime.database, script.connection), joins
        )
    finally:
        dossier.forget()


def _remember(dossier: Dossier, script: Script) -> str | None:
    """Take in when this very credential expires; the open job that a submission would join."""
    database = dossier.runtime.database
    credential = reads.find_credential(database, script.fingerprint, script.loaded.rule.id, script.connection)
    if credential is None:
        return None
    dossier.expires_at = credential.expires_at
    return reads.open_job(database, credential.id, script.plan.intent)


def _rehearse(dossier: Dossier, script: Script, taken: list[Taken]) -> Decision:
    """Decide and read, until something would be changed, or a job would end, park or wait for long."""
    now = dossier.runtime.database.now
    try:
        dossier.begin(script.loaded, {**script.inputs, JOB: NO_JOB}, script.secrets)
        dossier.known = _was_known(dossier, script)
    except NotReady as error:
        return error.decision
    except ExchangeError as error:
        return Wait(now(), f"asking who we are: {error.says}")
    patience = time.monotonic() + PATIENCE
    while True:
        decision = decide(dossier.plan, dossier.records, dossier.facts(random.random()), now())  # noqa: S311 - jitter
        if isinstance(decision, Do) and decision.step.purpose not in CHANGES:
            parked = _take(dossier, decision.step, taken)
            if parked is not None:
                return parked
        elif isinstance(decision, Wait) and time.monotonic() + (decision.until - now()) / SECOND <= patience:
            time.sleep(max(decision.until - now(), 0) / SECOND)
        else:
            return decision


def _was_known(dossier: Dossier, script: Script) -> bool:
    """Whether the ledger saw it alive at the very addresses that are asked now."""
    database, rule = dossier.runtime.database, script.loaded.rule.id
    credential = reads.find_credential(database, script.fingerprint, rule, script.connection)
    return credential is not None and credential.was_alive_at(dossier.where)


def _take(dossier: Dossier, planned: Planned, taken: list[Taken]) -> Decision | None:
    """Take one read as a job would, and keep what it came to; a decision where it cannot even be formed."""
    label: Mapping[str, str] = {}
    parked: Decision | None = None
    try:
        step = dossier.ready(planned)
        label = step.label
        result = dossier.perform(step, _keep_nothing)
    except ConnectionUnusable as error:
        result = Result(Outcome.DENIED, str(error))
    except RevoqError as error:
        result, parked = unformed(planned, str(error))
    # A pause of the rule is over at once: nothing has been changed that would have to settle.
    over = int((planned.pause or 0.0) * SECOND)
    dossier.learn(planned, result, dossier.runtime.database.now() - over)
    taken.append(Taken(planned, label, result))
    return parked


def _keep_nothing() -> None:
    """There is no claim that would have to outlast a long list."""


# ── what a job would do next ──────────────────────────────────────────────────────────────────────────────────────


def _look_ahead(dossier: Dossier, first: Planned) -> Iterator[Coming]:
    """Every request from the first that changes something on, and the one that would prove the end."""
    facts = dossier.facts(0.0)
    known = set(facts.given).union(*(record.taken for record in dossier.records))
    steps = dossier.plan.steps
    ahead = list(_ahead(dossier, steps[steps.index(first) :], known))
    yield from (_coming(dossier, planned) for planned in ahead)
    proof = _proof([step for step in steps if step.purpose is Purpose.AFTER and step.runs(known)], ahead)
    if proof is not None and facts.probe:
        yield _coming(dossier, proof)


def _proof(looks: Sequence[Planned], ahead: Sequence[Planned]) -> Planned | None:
    """The look that `decide` would choose: for "disabled" the one that shows it, else whether it works at all."""
    ends_disabled = any(step.disables for step in [each for each in ahead if each.purpose is Purpose.ACT][-1:])
    showing = [step for step in looks if step.disables] if ends_disabled else []
    return next(iter([*showing, *(step for step in looks if not step.disables)]), None)


def _ahead(dossier: Dossier, steps: Sequence[Planned], known: set[str]) -> Iterator[Planned]:
    """The steps that may still run: what the one before them takes out of its answer may be what they wait for."""
    possible = set(known)
    for planned in steps:
        may_run = set(planned.given) <= possible and not set(planned.unless) & known
        if planned.purpose in CARRIES_OUT and may_run and planned.pause != 0:
            yield planned
            part = part_of(planned, dossier.rule)
            possible |= set(part.extract) if isinstance(part, Step) else set()


def _coming(dossier: Dossier, planned: Planned) -> Coming:
    """One step as a person may see it, or what it still lacks."""
    content = part_of(planned, dossier.rule)
    try:
        label = dossier.ready(planned).label
        shown = Shown(label.get("method", ""), label.get("url", ""), {}, None)
        if content.request is not None:
            shown = show(content.request, dossier.values, dossier.bases, now=datetime.now(UTC), random=token_bytes)
    except RevoqError as error:
        unknown = sorted(set(planned.uses) - dossier.values.keys() - dossier.bases.keys())
        lacking = f"it needs {', '.join(unknown)}, which a step before it brings" if unknown else str(error)
        return Coming(planned, content.action.actor, lacking=lacking)
    return Coming(planned, content.action.actor, shown)
