"""A job that follows another about the same credential: a look, a repetition, a restoration; which, others decide.

Nothing is handed in: rule, connection and inputs are those of the job that has ended, and what it needs of the secrets
is what was kept sealed of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from rules.budget import estimate
from rules.errors import RevoqError
from rules.lifecycle import Intent, Verdict
from rules.loader import LoadedRule
from rules.plan import ACTOR, TOKEN, Plan
from rules.planning import plan
from rules.recheck import look_plan
from worker.app import BULK
from worker.envelopes import TOKEN_KIND
from worker.ledger import reads, rechecks
from worker.ledger.rows import Job, NewJob
from worker.runtime import Runtime


def follow(
    runtime: Runtime,
    ended: Job,
    intent: Intent,
    *,
    requester: str,
    cause: str,
    queue: str = BULK,
    parent: str | None = None,
    options: Mapping[str, Any] | None = None,
) -> NewJob:
    """The row of a job that follows `ended`. Raises BadInput and its like where it has no plan any more."""
    loaded = runtime.catalogue.get(ended.rule)
    made = plan(loaded, intent, _given(runtime, ended, loaded))
    return _row(runtime, ended, made, requester, cause, queue, parent or ended.id, ended.inputs, options or {})


def follow_by_look(runtime: Runtime, ended: Job, *, requester: str, cause: str) -> NewJob:
    """The row of a look at what `ended` has ended. Where nothing can ask any more, its job says so, or says why."""
    try:
        loaded = runtime.catalogue.get(ended.rule)
        taken = _taken(runtime, ended)
        made = look_plan(loaded, _given(runtime, ended, loaded) | set(taken), ended.verdict or Verdict.REVOKED)
    except RevoqError:
        # The worker finds out what is lacking and parks, or ends with nothing to ask: nothing stops in silence.
        made, taken = replace(Plan.from_json(ended.plan), intent=Intent.RECHECK, steps=()), {}
    used = {name for step in made.steps for name in step.uses}
    inputs = {**ended.inputs, **{name: value for name, value in taken.items() if name in used}}
    return _row(runtime, ended, made, requester, cause, BULK, ended.id, inputs, {})


def _row(  # noqa: PLR0913, PLR0917 - the parts of one row
    runtime: Runtime,
    ended: Job,
    made: Plan,
    requester: str,
    cause: str,
    queue: str,
    parent: str,
    inputs: Mapping[str, Any],
    options: Mapping[str, Any],
) -> NewJob:
    credential = reads.credential(runtime.database, ended.credential)
    kept = {name: value for name, value in ended.options.items() if name in {"probe", "finding"}}
    return NewJob(
        fingerprint=credential.fingerprint,
        fingerprint_key=credential.fingerprint_key,
        rule=ended.rule,
        connection=ended.connection,
        intent=made.intent,
        rule_digest=made.rule_digest,
        plan=made.as_json(),
        plan_hash=made.hash,
        queue=queue,
        requester=requester,
        account=ended.account,
        cost=estimate(made),
        inputs=inputs,
        options={**kept, "kept": True, **options},
        ticket=ended.ticket,
        owner=ended.owner,
        cause=cause,
        parent=parent,
    )


def _given(runtime: Runtime, ended: Job, loaded: LoadedRule) -> set[str]:
    """The names that the job will know when it begins."""
    sealed = rechecks.kept_secrets(runtime.database, ended.credential)
    names = {TOKEN if row.kind == TOKEN_KIND else row.kind.partition(":")[2] for row in sealed}
    signs = runtime.connections.account(ended.connection, loaded).signs
    return names | set(ended.inputs) | ({ACTOR} if signs else set())


def _taken(runtime: Runtime, ended: Job) -> dict[str, Any]:
    """What the steps of the job took out of answers and is not secret."""
    steps = reads.steps(runtime.database, ended.id)
    return {name: value for step in steps for name, value in (step.taken or {}).items() if value is not None}
