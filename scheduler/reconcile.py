"""A restored ledger is reconciled: what it may no longer know is probed, then it says what it has lost, and goes on.

Asked is about every credential of an open job, and about every one whose secret is still sealed. What was submitted
after the backup, and keys that a rotation made since, are not in this ledger at all: only their providers know them.
"""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import exists, func, or_, select

from rules.errors import RevoqError
from rules.lifecycle import OPEN, Intent, State, Verdict
from scheduler.follow import follow
from scheduler.submit import ring_jobs
from worker import restored
from worker.app import URGENT
from worker.errors import SafeError
from worker.ledger import audit, heads, moves, reads
from worker.ledger.rows import EVERYTHING, Job
from worker.ledger.tables import jobs, secrets
from worker.runtime import Runtime

LOOKS = frozenset({Intent.PROBE, Intent.RECHECK})
CAUSE = "the ledger was restored: is it as it says?"
DEAD = frozenset({Verdict.REVOKED, Verdict.ALREADY_REVOKED, Verdict.DISABLED})


@dataclass(frozen=True, slots=True)
class Question:
    """A job whose credential may have changed since the backup, and the probe that asks; or why none can."""

    about: Job
    probe: str | None
    says: str = ""


@dataclass(frozen=True, slots=True)
class Found:
    """What the ledger says of a job, what its credential is now, and what that means."""

    about: Job
    verdict: str | None
    says: str


def ask(runtime: Runtime, *, requester: str) -> list[Question]:
    """Submit a probe about everything that may be stale, and ring; a probe that is open already is joined."""
    questions = [_ask(runtime, job, requester) for job in find_stale(runtime)]
    ring_jobs(runtime, [question.probe for question in questions if question.probe is not None])
    return questions


def find_stale(runtime: Runtime) -> list[Job]:
    """The last job about each credential that is open, or whose secret is still sealed; looks do not count."""
    sealed = exists().where(secrets.c.job == jobs.c.id, secrets.c.ciphertext.is_not(None))
    doubtful = jobs.c.intent.not_in(sorted(LOOKS)) & or_(jobs.c.state.in_(sorted(OPEN)), sealed)
    query = select(func.max(jobs.c.id)).where(doubtful).group_by(jobs.c.credential)
    with runtime.database.read() as conn:
        ids = sorted(conn.scalars(query))
    return [reads.job(runtime.database, job) for job in ids]


def _ask(runtime: Runtime, job: Job, requester: str) -> Question:
    try:
        new = follow(runtime, job, Intent.PROBE, requester=requester, cause=CAUSE, queue=URGENT)
        return Question(job, moves.submit(runtime.database, new).job_id)
    except RevoqError as error:
        return Question(job, None, str(error))


def answer(runtime: Runtime, question: Question) -> Found:
    """What came of a question."""
    if question.probe is None:
        return Found(question.about, None, f"nobody can be asked: {question.says}")
    probe = reads.job(runtime.database, question.probe)
    about = reads.job(runtime.database, question.about.id)
    if probe.state is not State.DONE or probe.verdict is None:
        return Found(about, None, f"{probe.id} is {probe.state}: {probe.says or 'no answer yet'}")
    return Found(about, probe.verdict.value, _means(about, probe.verdict))


def _means(about: Job, found: Verdict) -> str:
    if found is Verdict.DEAD and about.state in OPEN:
        return "it is dead by now: the job will find that, and ask where nothing shows any more that it was ever known"
    if found is Verdict.ALIVE and about.verdict in DEAD:
        return f"it works, and the ledger says {about.verdict}: look at it, and submit it again"
    if found in {Verdict.ALIVE, Verdict.DEAD}:
        return "as the ledger has it" if about.state not in OPEN else "the job goes on where it was"
    return "the answer tells nothing: look at the provider"


def go_on(runtime: Runtime, *, actor: str, why: str) -> int:
    """Sign what was lost and lift the hold; how many jobs are due now. Raises SafeError without the signing keys."""
    db, signers = runtime.database, runtime.signers
    if not signers:
        raise SafeError(
            "a reconciled ledger says in a signed head what it has lost: run this where REVOQ_AUDIT_KEYS is"
        )
    lost = restored.find_lost(runtime.settings, db)
    if lost is not None:
        with db.begin() as conn:
            at = db.now()
            told = {"first_lost": lost[0], "last_lost": lost[1], "why": moves.plain(why)}
            audit.append_global(conn, at=at, event="ledger restored→reconciled", actor=moves.plain(actor), **told)
            heads.sign(conn, signers, at, lost=lost)
    ours = {
        hold.connection for hold in reads.holds(db) if hold.by == restored.OURS and hold.why.startswith(restored.WHY)
    }
    return moves.hold_off(db, EVERYTHING, actor=actor, why=why) if EVERYTHING in ours else 0
