"""Bringing back what was only disabled: who may, and what that job is; that it works again is proved by a worker."""

from __future__ import annotations

from rules.errors import MoveRefused
from rules.lifecycle import OPEN, Intent, State, Verdict
from rules.recheck import told_leak
from scheduler.follow import follow
from scheduler.submit import Receipt, ring_jobs
from worker.app import URGENT
from worker.ledger import reads, rechecks
from worker.ledger.rows import Job, Submitted
from worker.runtime import Runtime


def restore(runtime: Runtime, job_id: str, *, requester: str, why: str, although_leaked: bool = False) -> Receipt:
    """Order the restoration, and ring."""
    submitted = reopen(runtime, job_id, requester=requester, why=why, although_leaked=although_leaked)
    rung = submitted.joined or ring_jobs(runtime, [submitted.job_id])
    return Receipt(submitted.job_id, joined=submitted.joined, rung=rung)


def reopen(runtime: Runtime, job_id: str, *, requester: str, why: str, although_leaked: bool = False) -> Submitted:
    """Order the restoration of the credential that a job has disabled; it reopens the exposure, and both trails say so.

    Raises MoveRefused or BadInput with nothing written.
    """
    ended = reads.job(runtime.database, job_id)
    _check(runtime, ended)
    leak = find_leak(runtime, ended)
    if leak is not None and not although_leaked:
        raise MoveRefused(
            f"{ended.id} was asked for because of a leak ({leak}): whoever has the credential could use it again; "
            "replace it instead, or say --although-leaked with the reason why it must work once more"
        )
    options = {"although_leaked": leak} if leak is not None else {}
    new = follow(runtime, ended, Intent.RESTORE, requester=requester, cause=why, queue=URGENT, options=options)
    return rechecks.reopen(runtime.database, ended, new, why)


def find_leak(runtime: Runtime, ended: Job) -> str | None:
    """What says that the credential got about: the words or the finding of any job that was about it."""
    lines = reads.jobs_of_credential(runtime.database, ended.credential)
    finding = any(job.options.get("finding") for job in lines)
    return told_leak([job.cause for job in lines if job.intent is Intent.REVOKE], finding=finding)


def _check(runtime: Runtime, ended: Job) -> None:
    if ended.intent is not Intent.REVOKE or ended.state is not State.DONE:
        raise MoveRefused(f"{ended.id} is no revocation that has ended: there is nothing to restore")
    if ended.verdict is not Verdict.DISABLED:
        raise MoveRefused(f"{ended.id} ended as {ended.verdict}: only what was disabled can be enabled again")
    others = [job for job in reads.jobs_of_credential(runtime.database, ended.credential) if job.id > ended.id]
    gone = next((job.id for job in others if job.verdict is Verdict.REVOKED), None)
    if gone is not None:
        raise MoveRefused(f"{gone} has revoked the same credential since, for good: there is nothing to restore")
    against = next((job for job in others if job.intent is Intent.REVOKE and job.state in OPEN), None)
    if against is not None:
        raise MoveRefused(f"{against.id} is {against.state} and revokes the same credential: let it end, or cancel it")
