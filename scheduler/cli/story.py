"""One job told as a story: what was asked and by whom, what was found step by step, how it ended, what to do next."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from rules.lifecycle import Reason, State
from rules.plan import MAKES_KEYS, Plan
from rules.recheck import Found, Kind
from scheduler.cli.present import (
    advice_for,
    describe_candidate,
    ending_of,
    job_whole,
    sinks_of,
    standing,
    to_come,
    told,
    what,
)
from worker.ledger import reads, rechecks
from worker.ledger.database import Database
from worker.ledger.rechecks import Recheck
from worker.ledger.rows import Credential, Job, Step

Line = tuple[int, str]
"""An indentation and a paragraph."""
FOUND = {
    Found.DEAD: "still dead",
    Found.CAME_BACK: "it worked again",
    Found.UNPROVABLE: "nothing could be asked",
    Found.EXPIRED: "it has expired",
    Found.REPEATED: "done",
    Found.LEFT: "left to a person",
    Found.STOPPED: "not needed any more",
}
KEYS_SHOWN = 5
"""Keys of a target that are shown, the last ones."""
DIGEST_SHOWN = 32
"""Characters of a digest that a person sees; JSON has all of it."""


def gather(db: Database, job: Job) -> dict[str, Any]:
    """All that the ledger may show of a job."""
    steps, secrets = reads.steps(db, job.id), reads.secrets_of(db, job.id)
    looks, keys = rechecks.of_job(db, job.id), keys_of(db, job)
    return job_whole(job, reads.credential(db, job.credential), steps, secrets, looks, keys)


def keys_of(db: Database, job: Job) -> list[Credential]:
    """The last keys of a rotated target."""
    return reads.keys_of(db, job.credential, KEYS_SHOWN) if job.intent in MAKES_KEYS else []


def tell(db: Database, job: Job) -> Iterator[Line]:
    """The whole story."""
    steps = reads.steps(db, job.id)
    yield 0, f"{job.id}: {what(job)}"
    yield from _asked(job)
    yield from _credential(job, reads.credential(db, job.credential))
    yield from _rotation(job, steps, keys_of(db, job))
    yield 0, ""
    yield from _steps(steps)
    yield from headline(job, steps)
    yield from looks(rechecks.of_job(db, job.id))


def headline(job: Job, steps: Sequence[Step]) -> Iterator[Line]:
    """How the job stands, what that means, and what can be done."""
    how = ending_of(job)
    yield 0, f"{job.id} {standing(job.state, job.verdict, job.reason)}: {how.says}"
    if job.says:
        yield 2, f"What came: {job.says}"
    elif job.state is State.RUNNING and steps and steps[-1].says:
        yield 2, f"So far: {steps[-1].says}"
    if job.state is State.WAITING:
        yield 2, f"Looks again on {told(job.not_before)}"
    candidates = (job.candidates or []) if job.reason == Reason.NEEDS_SELECTION else []
    if candidates:
        yield 2, f"Candidates ({len(candidates)}):"
        for candidate in candidates:
            yield 4, f"{candidate.get('id')}: {describe_candidate(candidate)}"
        yield 2, "Pick one, and the job goes on with it:"
        yield 4, f"revoq jobs select {job.id} CANDIDATE"
    elif how.advice:
        yield from _advice(f"What to do: {advice_for(job)}")
    if job.state is State.PARKED and not any(step.mutating for step in steps):
        yield 2, "Nothing was changed. To give it up:"
        yield 4, f"revoq jobs cancel {job.id} --reason TEXT"


def looks(found: Sequence[Recheck]) -> Iterator[Line]:
    """When what a job ended is looked at again, or revoked again, and what came of it."""
    if not found:
        return
    yield 2, "Looked at again:"
    for recheck in found:
        verb = "revoked again" if recheck.kind is Kind.AGAIN else "a look"
        came = FOUND[recheck.found] if recheck.found is not None else "not yet"
        job = f" · {recheck.job}" if recheck.job is not None else ""
        yield 4, f"{told(recheck.due)} · {verb}: {came}{job}"


def _advice(text: str) -> Iterator[Line]:
    """A command that ends the advice stands on a line of its own, so that it can be copied."""
    words, then, command = text.partition("then: revoq ")
    yield 2, words + then.removesuffix(" revoq ")
    if then:
        yield 4, f"revoq {command}"


def _asked(job: Job) -> Iterator[Line]:
    said = [f"Asked by {job.requester} on {told(job.first_seen)}"]
    for word, text in (("because", job.cause), ("ticket", job.ticket), ("owner", job.owner)):
        if text:
            said.append(f"{word} {text}")
    yield 2, ", ".join(said)
    if job.parent is not None:
        yield 2, f"It follows {job.parent}"
    if job.inputs:
        yield 2, "Given: " + ", ".join(f"{name}={value}" for name, value in job.inputs.items())
    if not job.options.get("probe", True):
        yield 2, "It must not be tried: --no-probe"
    if job.options.get("picked") is not None:
        yield 2, f"Picked by a person: {job.options['picked']}"
    if job.options.get("forced") is not None:
        yield 2, f"A person has said that it goes on although it was parked as {job.options['forced']}"


def _credential(job: Job, credential: Credential) -> Iterator[Line]:
    facts = [
        ("id", credential.provider_id),
        ("of", credential.subject),
        ("expires", told(credential.expires_at)),
        ("last seen alive", told(credential.alive_at)),
        ("seen dead", told(credential.dead_at)),
    ]
    known = [f"{name} {value}" for name, value in facts if value is not None]
    if known:
        yield 2, f"The {'target' if job.intent in MAKES_KEYS else 'credential'}: " + ", ".join(known)


def _rotation(job: Job, steps: Sequence[Step], keys: Sequence[Credential]) -> Iterator[Line]:
    """Where the new key goes, which keys there are and how far each is, and what is still to be done."""
    plan = Plan.from_json(job.plan) if job.intent in MAKES_KEYS else None
    if sinks := ", ".join(sinks_of(plan)):
        yield 2, f"Sinks: {sinks}"
    for key in keys:
        yield 2, describe_key(key)
    if still := ", ".join(to_come(job, plan, steps)):
        yield 2, f"Still to come: {still}"


def describe_key(key: Credential) -> str:
    """One key of a target: how far it is and since when, and which one it is where the provider tells."""
    stage = key.stage.name if key.stage is not None else ""
    which = f"{key.provider_id} " if key.provider_id is not None else ""
    return f"Key {which}is {stage} since {told(key.staged_at)}"


def _steps(steps: Sequence[Step]) -> Iterator[Line]:
    drive = 1
    for step in steps:
        if step.drive != drive:
            drive = step.drive
            yield 0, f"Driven again, for the {drive - 1}. time"
        yield from _step(step)
    if steps:
        yield 0, ""


def _step(step: Step) -> Iterator[Line]:
    outcome = step.outcome.value if step.outcome is not None else "no answer yet"
    yield 0, f"{step.number:2} {step.purpose} · {step.name}: {outcome} · {told(step.ended_at or step.started_at)}"
    asked = f"{step.request.get('method')} {step.request.get('url')}"
    if step.request and asked not in (step.says or ""):
        yield 5, asked
    if step.says:
        yield 5, step.says
    yield from _evidence(step.evidence or {})


def _evidence(evidence: dict[str, Any]) -> Iterator[Line]:
    told = [f"status {evidence['status']}"] if "status" in evidence else []
    headers = evidence.get("headers")
    told += [f"{name} {value}" for name, value in headers.items()] if isinstance(headers, dict) else []
    if isinstance(evidence.get("digest"), str):
        told.append(f"digest {evidence['digest'][:DIGEST_SHOWN]}…")
    if told:
        yield 5, "Evidence: " + ", ".join(told)
