"""Rows as plain dicts: the one place that says which keys `--format json` has. Nothing secret is in any row.

Times are ISO 8601 in UTC, durations are seconds, what is not known is null. Keys may be added; none changes.

receipt      job joined rung
job line     id intent rule connection state verdict reason says drive attempt queue priority requester cause ticket
             owner batch parent submitted_at due_at ended_at
job          job line + exit_code means advice credential{…} inputs options steps[…] candidates[{id shown}] secrets[…]
             rechecks[…] sinks[…] to_come[…] keys[…]
credential   id provider_id subject expires_at first_seen_at alive_at dead_at
key          stage since provider_id
step         number drive name purpose mutating state outcome says method url taken evidence retry_after started_at
             ended_at
secret       kind sealed_at shred_by shredded_at
recheck      number kind due_at found job incident ended_at
history line job line + key{…}
dry run      dry_run intent rule connection sinks plan would verdict reason says exit_code means reads[…] requests[…]
             candidates[{id shown}] held joins
read         name purpose outcome says method url taken evidence retry_after
request      step purpose mutating method url headers body signed_by lacking
hold         connection by why since
connection   name provider base_url identity owns protected never_probe proxy
trial        connection ok says id subject tenant
schedule     name intent rule connection when timezone state says last{due state requester says opened_at listed_at
             ended_at targets{…}} next overdue[…] targets[target of a slot]
target of a  target name subject role canary state age job says started_at ended_at
slot
slot         schedule due new
slot's end   schedule due state says targets[target of a slot]
slot dry run dry_run schedule intent rule connection held targets[{target name subject role age canary would why}]
rule         id name provider aliases secret variables[…] revokes probes file line; shown alone also about pattern
             also_kills residual cannot unverified references steps notices sections[{title sentences}]
audit row    chain number at hash + what the row itself says
check        name state says mend
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from rules.lifecycle import OPEN, Ending, Outcome, Reason, State, TargetState, Verdict, ending
from rules.plan import CHANGES, MAKES_KEYS, Plan, Purpose
from worker.ledger.rows import AuditRow, Credential, Hold, Job, JobLine, SealedSecret, SlotRow, Step, TargetRow

if TYPE_CHECKING:
    from rules.guard import Who
    from rules.loader import LoadedRule
    from worker.ledger.rechecks import Recheck
    from worker.rehearsal import Coming, Taken
    from worker.schedules import Schedule
    from worker.settings import Connection

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
SPANS = ((86400, "d"), (3600, "h"), (60, "min"), (1, "s"))
SETTLES = frozenset({Outcome.OK, Outcome.ALREADY_GONE, Outcome.ALIVE})
"""Outcomes after which a step of a rotation is not taken again."""
IN_CASE = frozenset({Purpose.FIND, Purpose.DISCARD, Purpose.ASK})
"""What a rotation does only where an answer was lost."""
SETTLED = frozenset({State.DONE, State.PARKED, State.CANCELLED, State.EXPIRED})
"""States that a job does not leave by itself."""


def what(job: Job | JobLine) -> str:
    """What a job is about, in a few words."""
    return f"{job.intent.value} {job.rule}{f' over {job.connection}' if job.connection else ''}"


def moment(microseconds: int | None) -> str | None:
    """A time of the ledger in ISO 8601."""
    if microseconds is None:
        return None
    told = (EPOCH + timedelta(microseconds=microseconds)).isoformat(timespec="microseconds")
    return told.replace("+00:00", "Z")


def told(microseconds: int | None) -> str | None:
    """The same for a person, to the second."""
    text = moment(microseconds)
    return None if text is None else f"{text[:10]} {text[11:19]} UTC"


def ago(microseconds: int, now: int) -> str:
    """How long ago, in the largest whole unit."""
    seconds = max(now - microseconds, 0) // 1_000_000
    size, unit = next(((size, unit) for size, unit in SPANS if seconds >= size), (1, "s"))
    return f"{seconds // size} {unit}"


# ── schedules ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def schedule_row(
    schedule: Schedule, says: str | None, last: SlotRow | None, counts: Mapping[TargetState, int], following: int | None
) -> dict[str, Any]:
    """One schedule without its targets; `says` is what is wrong with it."""
    return {
        "name": schedule.name,
        "intent": schedule.intent,
        "rule": schedule.rule,
        "connection": schedule.connection,
        "when": schedule.when,
        "timezone": schedule.timezone,
        "state": "unusable" if says is not None else "new" if last is None else last.state.value,
        "says": says if says is not None or last is None else last.says,
        "last": None if last is None else slot_row(last, counts),
        "next": moment(following),
    }


def slot_row(slot: SlotRow, counts: Mapping[TargetState, int]) -> dict[str, Any]:
    """One slot, with how many of its targets stand in each way."""
    return {
        "due": moment(slot.due),
        "state": slot.state.value,
        "requester": slot.requester,
        "says": slot.says,
        "opened_at": moment(slot.opened_at),
        "listed_at": moment(slot.listed_at),
        "ended_at": moment(slot.ended_at),
        "targets": {state.value: counts.get(state, 0) for state in TargetState},
    }


def target_row(row: TargetRow, born: int | None, now: int) -> dict[str, Any]:
    """One target of a slot; its age in seconds where that is known."""
    return {
        "target": row.target,
        "name": row.name,
        "subject": row.subject,
        "role": row.role,
        "canary": row.canary,
        "state": row.state.value,
        "age": None if born is None else max(now - born, 0) // 1_000_000,
        "job": row.job,
        "says": row.says,
        "started_at": moment(row.started_at),
        "ended_at": moment(row.ended_at),
    }


# ── jobs ──────────────────────────────────────────────────────────────────────────────────────────────────────────────


def ending_of(job: Job | JobLine) -> Ending:
    """What the lifecycle says of a job that stands like this; what it waits for is no reason to be parked."""
    parked = job.state is State.PARKED and job.reason is not None
    return ending(job.state, job.verdict, Reason(str(job.reason)) if parked else None)


def advice_for(job: Job | JobLine) -> str:
    """What a person can do now, with this job's own id in it."""
    return re.sub(r"\bID\b", job.id, ending_of(job).advice)


def standing(state: State, verdict: Verdict | None, reason: str | None) -> str:
    """How a job stands, in a word or two."""
    if verdict is not None:
        return verdict.value
    return f"{state.value}: {reason}" if reason else state.value


def job_line(job: Job | JobLine) -> dict[str, Any]:
    """What a listing shows of a job."""
    return {
        "id": job.id,
        "intent": job.intent.value,
        "rule": job.rule,
        "connection": job.connection,
        "state": job.state.value,
        "verdict": job.verdict.value if job.verdict is not None else None,
        "reason": job.reason,
        "says": job.says,
        "drive": job.drive,
        "attempt": job.attempt,
        "queue": job.queue,
        "priority": job.priority,
        "requester": job.requester,
        "cause": job.cause,
        "ticket": job.ticket,
        "owner": job.owner,
        "batch": job.batch,
        "parent": job.parent,
        "submitted_at": moment(job.first_seen),
        "due_at": None if job.state in SETTLED else moment(job.not_before),
        "ended_at": moment(job.ended_at),
    }


def job_whole(
    job: Job,
    credential: Credential,
    steps: Sequence[Step],
    secrets: Iterable[SealedSecret],
    rechecks: Iterable[Recheck],
    keys: Iterable[Credential],
) -> dict[str, Any]:
    """All that may be shown of a job."""
    how = ending_of(job)
    plan = Plan.from_json(job.plan) if job.plan else None
    return {
        **job_line(job),
        "exit_code": how.exit_code,
        "means": how.says,
        "advice": advice_for(job),
        "credential": credential_row(credential),
        "inputs": job.inputs,
        "options": job.options,
        "steps": [step_row(step) for step in steps],
        "candidates": job.candidates or [],
        "secrets": [secret_row(secret) for secret in secrets],
        "rechecks": [recheck_row(recheck) for recheck in rechecks],
        "sinks": list(sinks_of(plan)),
        "to_come": to_come(job, plan, steps),
        "keys": [key_row(key) for key in keys],
    }


def sinks_of(plan: Plan | None) -> dict[str, None]:
    """The sinks that a rotation delivers to, in their order."""
    return {} if plan is None else {step.sink: None for step in plan.steps if step.sink is not None}


def to_come(job: Job, plan: Plan | None, steps: Sequence[Step]) -> list[str]:
    """What an unfinished rotation still has to do, by the names of its steps."""
    if plan is None or job.intent not in MAKES_KEYS or job.state not in OPEN:
        return []
    done = {(step.purpose, step.name) for step in steps if step.outcome in SETTLES}
    reached = max((n for n, step in enumerate(plan.steps) if (step.purpose, step.name) in done), default=-1)
    return [step.name for step in plan.steps[reached + 1 :] if step.purpose not in IN_CASE]


def key_row(key: Credential) -> dict[str, Any]:
    """A key of a rotated target; which one it is, its id at the provider tells."""
    stage = key.stage.value if key.stage is not None else None
    return {"stage": stage, "since": moment(key.staged_at), "provider_id": key.provider_id}


def describe_candidate(candidate: dict[str, object]) -> str:
    """What tells a candidate from the others, beside its id."""
    shown = candidate.get("shown")
    fields = shown if isinstance(shown, dict) else {}
    return ", ".join(f"{name} {value}" for name, value in fields.items() if value != candidate.get("id"))


def credential_row(credential: Credential) -> dict[str, Any]:
    return {
        "id": credential.id,
        "provider_id": credential.provider_id,
        "subject": credential.subject,
        "expires_at": moment(credential.expires_at),
        "first_seen_at": moment(credential.first_seen),
        "alive_at": moment(credential.alive_at),
        "dead_at": moment(credential.dead_at),
    }


def step_row(step: Step) -> dict[str, Any]:
    return {
        "number": step.number,
        "drive": step.drive,
        "name": step.name,
        "purpose": step.purpose,
        "mutating": step.mutating,
        "state": step.state.value,
        "outcome": step.outcome.value if step.outcome is not None else None,
        "says": step.says,
        "method": step.request.get("method"),
        "url": step.request.get("url"),
        "taken": step.taken or {},
        "evidence": step.evidence or {},
        "retry_after": step.retry_after,
        "started_at": moment(step.started_at),
        "ended_at": moment(step.ended_at),
    }


def secret_row(secret: SealedSecret) -> dict[str, Any]:
    """That there is a sealed secret, and until when; its envelope is nobody's to read."""
    return {
        "kind": secret.kind,
        "sealed_at": moment(secret.created_at),
        "shred_by": moment(secret.shred_by),
        "shredded_at": moment(secret.shredded_at),
    }


def recheck_row(recheck: Recheck) -> dict[str, Any]:
    """One look after a job's end, or one repetition of what it did."""
    return {
        "number": recheck.number,
        "kind": recheck.kind.value,
        "due_at": moment(recheck.due),
        "found": recheck.found.value if recheck.found is not None else None,
        "job": recheck.job,
        "incident": recheck.incident,
        "ended_at": moment(recheck.ended_at),
    }


# ── dry runs ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def read_row(taken: Taken) -> dict[str, Any]:
    """A read that a dry run did; of a value that is secret there is only the name."""
    result = taken.result
    return {
        "name": taken.planned.name,
        "purpose": taken.planned.purpose.value,
        "outcome": result.outcome.value,
        "says": result.says,
        "method": taken.label.get("method"),
        "url": taken.label.get("url"),
        "taken": {**result.taken, **dict.fromkeys(result.secrets)},
        "evidence": dict(result.evidence),
        "retry_after": result.retry_after,
    }


def coming_row(coming: Coming, connection: str) -> dict[str, Any]:
    """A request that a job would send, its secrets masked."""
    shown = coming.shown
    return {
        "step": coming.planned.name,
        "purpose": coming.planned.purpose.value,
        "mutating": coming.planned.purpose in CHANGES,
        "method": shown.method if shown is not None else None,
        "url": shown.url if shown is not None else None,
        "headers": dict(shown.headers) if shown is not None else {},
        "body": shown.body if shown is not None else None,
        "signed_by": connection if coming.actor else None,
        "lacking": coming.lacking or None,
    }


# ── everything else ───────────────────────────────────────────────────────────────────────────────────────────────────


def hold_row(hold: Hold) -> dict[str, Any]:
    return {"connection": hold.connection, "by": hold.by, "why": hold.why, "since": moment(hold.at)}


def connection_row(connection: Connection) -> dict[str, Any]:
    """A connection as the settings say it; its secrets are references there, and stay so here."""
    return {
        "name": connection.name,
        "provider": connection.provider,
        "base_url": connection.base_url,
        "identity": dict(connection.identity),
        "owns": dict(connection.owns),
        "protected": connection.protected.model_dump(),
        "never_probe": connection.never_probe,
        "proxy": connection.proxy,
    }


def trial_row(connection: str, who: Who | None, says: str) -> dict[str, Any]:
    """What came of trying a connection; without `who` it failed."""
    found = {"id": who.id, "subject": who.subject, "tenant": who.tenant} if who is not None else {}
    return {"connection": connection, "ok": who is not None, "says": says, **found}


def rule_row(loaded: LoadedRule) -> dict[str, Any]:
    rule = loaded.rule
    return {
        "id": rule.id,
        "name": rule.name,
        "provider": rule.provider,
        "aliases": list(rule.aliases),
        "secret": rule.secret,
        "variables": [
            {"name": name, "about": variable.about, "required": variable.required, "secret": variable.secret}
            for name, variable in rule.variables.items()
        ]
        + [
            {"name": depends.variable, "about": f"what {depends.rule_id} finds", "required": True, "secret": True}
            for depends in rule.depends_on_rule
        ],
        "revokes": rule.revocation is not None,
        "probes": rule.validation is not None,
        "file": loaded.file,
        "line": loaded.line,
    }


def audit_row(row: AuditRow) -> dict[str, Any]:
    """A row of the trail with what it says; our own keys win, since they are what the hash is about."""
    try:
        facts = row.facts
    except ValueError:
        facts = {"event": None, "unreadable": row.row}
    return {**facts, "chain": row.job, "number": row.number, "at": moment(row.at), "hash": row.hash}
