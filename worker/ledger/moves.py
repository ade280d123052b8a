"""The moves on the ledger: one verb per transition, each one transaction with its audit row; nobody else sets a state.

A worker's verbs take its `Claim`: every write repeats the fence, and ClaimLost says that somebody else was there first.
A person's verbs take an `actor`. What is allowed stands in `rules.lifecycle.MOVES`; what comes next, in `rules.decide`.

Locks are taken in one order, so that no two moves wait for each other: holds, job, credential, secrets, global chain.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Select,
    Table,
    and_,
    exists,
    func,
    insert,
    or_,
    select,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite

from rules.errors import BadInput, MoveRefused
from rules.lifecycle import MOVES, OPEN, BatchState, Intent, Outcome, Reason, State, StepState, Verdict
from worker.errors import ClaimLost, Held, UnknownJob
from worker.ledger import audit
from worker.ledger.database import Database, Lock, lock
from worker.ledger.rows import EVERYTHING, SECOND, Claim, Head, Hold, Job, NewJob, Ring, SealedSecret, Submitted, job_of
from worker.ledger.tables import accounts, batches, credentials, jobs, secrets, steps

HELD = "held"
"""What the reason of a job says that waits for a hold to be lifted."""
COPIED = (
    "parent",
    "batch",
    "intent",
    "rule",
    "rule_digest",
    "connection",
    "plan",
    "plan_hash",
    "inputs",
    "options",
    "queue",
    "priority",
    "ticket",
    "owner",
    "requester",
    "cause",
)
"""The columns of a job that are as its submission said."""
MATTER = (
    "intent",
    "rule",
    "rule_digest",
    "connection",
    "plan_hash",
    "inputs",
    "options",
    "parent",
    "batch",
    "fingerprint",
)
"""What was asked: told by a chain's first row alone."""
REQUEST = ("ticket", "owner", "cause", "queue", "priority")
"""For what reason it was asked, and how urgently: told by the first row and by every join."""
LEARNED = frozenset({"provider_id", "subject", "expires_at", "alive_at", "dead_at"})
"""What a step may teach about its credential."""


def permit(before: State, after: State) -> None:
    """Refuse a move that the lifecycle does not list."""
    if (before, after) not in MOVES:
        raise MoveRefused(f"a job cannot go from {before} to {after}")


def is_due(at: int) -> ColumnElement[bool]:
    """Whether a worker may claim: due and not held, or under a lease that ran out; and its batch lets it."""
    waits = and_(jobs.c.state.in_([State.QUEUED, State.WAITING]), jobs.c.not_before <= at)
    left = and_(jobs.c.state == State.RUNNING, jobs.c.lease_until <= at)
    closed = exists().where(batches.c.id == jobs.c.batch, batches.c.state.in_([BatchState.LOADING, BatchState.PAUSED]))
    return and_(or_(waits, left), or_(jobs.c.batch.is_(None), ~closed))


# ── submitting ────────────────────────────────────────────────────────────────────────────────────────────────────────


def submit(db: Database, new: NewJob) -> Submitted:
    """Open a job in `queued`, or join the one that is open for the same credential, connection and intent.

    A join that is more urgent makes the open job as urgent, and one that brings secrets gives them to a job whose own
    were shredded; it changes nothing else, and is told on the job's chain.
    """
    new = _cleaned(new)
    with db.begin() as conn:
        at = db.now()
        credential = _credential(db, conn, new, at)
        while True:
            # The partial unique index decides between two that come at once: one inserts, the other finds its row.
            opened = _open(db, conn, new, credential, at)
            if opened is not None:
                return Submitted(opened, joined=False)
            joined = _join(conn, new, credential, at)
            if joined is not None:
                return Submitted(joined, joined=True)
            # The open job ended between the two looks, so its place is free now.


def _credential(db: Database, conn: Connection, new: NewJob, at: int) -> str:
    """The id of the credential's row, inserted where there is none. An old row is not locked: its job is, first."""
    row = {
        "id": db.new_id("cred"),
        "fingerprint": new.fingerprint,
        "fingerprint_key": new.fingerprint_key,
        "rule": new.rule,
        "connection": new.connection,
        "first_seen": at,
    }
    statement = _insert(conn, credentials).values(row).on_conflict_do_nothing().returning(credentials.c.id)
    inserted = conn.scalar(statement)
    if inserted is not None:
        return str(inserted)
    same = [credentials.c[name] == row[name] for name in ("fingerprint", "rule", "connection")]
    return str(conn.execute(select(credentials.c.id).where(*same)).scalar_one())


def _open(db: Database, conn: Connection, new: NewJob, credential: str, at: int) -> str | None:
    """Insert the job, or None where one is open already."""
    job = db.new_id("job")
    first = audit.entry(audit.GENESIS, job=job, at=at, event=f"→{State.QUEUED}", **_request(new), **_matter(new))
    row = {
        **{name: getattr(new, name) for name in COPIED},
        "id": job,
        "credential": credential,
        "state": State.QUEUED,
        "drive": 1,
        "acted": False,
        "fence": 0,
        "not_before": at,
        "attempt": 0,
        "first_seen": at,
        "rings": 0,
        **_head(first),
    }
    if conn.execute(_insert(conn, jobs).values(row).on_conflict_do_nothing()).rowcount == 0:
        return None
    audit.write(conn, first)
    # What is known of the credential already was learned from the provider; a requester's word only fills gaps.
    said = {name: func.coalesce(credentials.c[name], getattr(new, name)) for name in ("provider_id", "subject")}
    if new.provider_id is not None or new.subject is not None:
        conn.execute(update(credentials).where(credentials.c.id == credential).values(said))
    _keep(conn, new.secrets, job=job, credential=credential)
    return job


def _join(conn: Connection, new: NewJob, credential: str, at: int) -> str | None:
    """Add this request to the open job's chain, or None where that job has just ended."""
    same = and_(jobs.c.credential == credential, jobs.c.connection == new.connection, jobs.c.intent == new.intent)
    # The lock waits for a worker that is writing to the chain, and then shows the row as that worker left it.
    row = conn.execute(_locking(select(jobs).where(same, jobs.c.state.in_(OPEN)))).mappings().one_or_none()
    if row is None:
        return None
    job = job_of(row)
    told = audit.entry(_head_of(job), job=job.id, at=at, event="joined", **_request(new))
    more_urgent = {"priority": new.priority, "queue": new.queue, "rung_at": None}
    changes = more_urgent if new.priority < job.priority else {}
    conn.execute(update(jobs).where(jobs.c.id == job.id).values(**changes, **_head(told)))
    audit.write(conn, told)
    if new.secrets and not _has_secrets(conn, job.id):
        _keep(conn, new.secrets, job=job.id, credential=credential)
    return job.id


def _cleaned(new: NewJob) -> NewJob:
    """The same request without characters that a database refuses."""
    texts = ("requester", "ticket", "owner", "cause", "provider_id", "subject")
    cleaned: dict[str, Any] = {name: plain(getattr(new, name)) for name in texts if getattr(new, name) is not None}
    return replace(new, **cleaned)


def _request(new: NewJob) -> dict[str, Any]:
    return {"actor": new.requester, **{name: getattr(new, name) for name in REQUEST}}


def _matter(new: NewJob) -> dict[str, Any]:
    return {name: getattr(new, name) for name in MATTER}


def _keep(conn: Connection, sealed: Sequence[SealedSecret], *, job: str, credential: str) -> None:
    """Store sealed secrets with their job and credential."""
    if sealed:
        rows = [{**asdict(secret), "job": job, "credential": credential} for secret in sealed]
        conn.execute(insert(secrets), rows)


def _has_secrets(conn: Connection, job: str) -> bool:
    return conn.scalar(select(exists().where(secrets.c.job == job, secrets.c.ciphertext.is_not(None)))) is True


# ── a worker's moves ──────────────────────────────────────────────────────────────────────────────────────────────────


def claim(db: Database, job_id: str, *, lease: float, worker: str) -> Claim | None:
    """Take a job that is due, or None: it is not due, its batch is closed, or somebody else has it.

    Steps whose answer was never written down become `lost` here: whoever left them is gone.
    """
    with db.begin() as conn:
        at = db.now()
        # Of two that come at once, the second waits for the row's lock and then finds that it is due no more.
        ready = select(jobs).where(jobs.c.id == job_id, is_due(at))
        row = conn.execute(_locking(ready)).mappings().one_or_none()
        if row is None:
            return None
        job = job_of(row)
        permit(job.state, State.RUNNING)
        last, lost = _lose_intended(conn, job.id, at) if job.fence else (0, ())
        taken_over = job.state is State.RUNNING
        changes: dict[str, Any] = {
            "state": State.RUNNING,
            "fence": job.fence + 1,
            "lease_until": at + _micros(lease),
            "attempt": job.attempt + taken_over,
            "reason": None,
            "says": None,
        }
        told = audit.entry(
            _head_of(job),
            job=job.id,
            at=at,
            event=f"{job.state}→{State.RUNNING}",
            actor=worker,
            fence=job.fence + 1,
            lost=lost or None,
        )
        conn.execute(update(jobs).where(jobs.c.id == job.id).values(**changes, **_head(told)))
        audit.write(conn, told)
    job = replace(job, **changes, **_head(told))
    return Claim(job, worker, lease, job.fence, at + _micros(lease), told.head, last, lost)


def _lose_intended(conn: Connection, job: str, at: int) -> tuple[int, tuple[int, ...]]:
    """The number of the last step, and of those that were intended and have no answer: these are lost from now on."""
    says = "its worker was gone before the answer was written down; nobody knows what the provider did"
    statement = (
        update(steps)
        .where(steps.c.job == job, steps.c.state == StepState.INTENDED)
        .values(state=StepState.LOST, outcome=Outcome.LOST, says=says, ended_at=at)
        .returning(steps.c.number)
    )
    lost = tuple(sorted(conn.scalars(statement)))
    last: int | None = conn.scalar(select(func.max(steps.c.number)).where(steps.c.job == job))
    return last or 0, lost


def intend(
    db: Database,
    claim: Claim,
    *,
    name: str,
    purpose: str,
    mutating: bool,
    request: Mapping[str, Any],
    lease: float | None = None,
) -> int:
    """Write a step down before it is taken, and extend the claim by `lease` seconds (its own length where None).

    Returns the step's number. A mutating step raises Held, and is not written, while a hold is on: once `hold_on` has
    returned, no such step gets past here.
    """
    number = claim.steps + 1
    with db.begin() as conn:
        if mutating:
            lock(conn, Lock.HOLDS, shared=True)
        at = db.now()
        until = at + _micros(claim.lease if lease is None else lease)
        changes = {"lease_until": until, **({"acted": True} if mutating else {})}
        facts = {"step": number, "name": name, "purpose": purpose, "mutating": mutating}
        told = _advance(conn, claim, at, f"step→{StepState.INTENDED}", changes, facts, unless_held=mutating)
        row = {
            "job": claim.job.id,
            "number": number,
            "drive": claim.job.drive,
            "fence": claim.fence,
            "name": name,
            "purpose": purpose,
            "mutating": mutating,
            "state": StepState.INTENDED,
            "request": dict(request),
            "started_at": at,
        }
        conn.execute(insert(steps).values(row))
    claim.head, claim.lease_until, claim.steps = told.head, until, number
    return number


def record(  # noqa: PLR0913 - a step's whole result
    db: Database,
    claim: Claim,
    number: int,
    *,
    outcome: Outcome,
    says: str,
    taken: Mapping[str, Any] | None = None,
    evidence: Mapping[str, Any] | None = None,
    retry_after: float | None = None,
    credential: Mapping[str, Any] | None = None,
    secrets: Sequence[SealedSecret] = (),
    lease: float | None = None,
) -> None:
    """Write down what a step came to, and extend the claim.

    `retry_after` is in seconds. `credential` is what was learned of it: LEARNED names. `secrets` are what the step took
    out of an answer, sealed.
    """
    learned = _learned(credential)
    result = {
        "state": StepState.DONE,
        "outcome": outcome,
        "says": plain(says),
        "taken": _copied(taken),
        "evidence": _copied(evidence),
        "retry_after": None if retry_after is None else _micros(retry_after),
    }
    with db.begin() as conn:
        at = db.now()
        until = at + _micros(claim.lease if lease is None else lease)
        facts = {"step": number, "outcome": outcome, "says": plain(says), "evidence": _digest(evidence), **learned}
        event = f"step {StepState.INTENDED}→{StepState.DONE}"
        told = _advance(conn, claim, at, event, {"lease_until": until}, facts)
        mine = and_(steps.c.job == claim.job.id, steps.c.number == number, steps.c.state == StepState.INTENDED)
        if conn.execute(update(steps).where(mine).values(**result, ended_at=at)).rowcount == 0:
            raise MoveRefused(f"step {number} of {claim.job.id} was not intended, or has its result already")
        if learned:
            conn.execute(update(credentials).where(credentials.c.id == claim.job.credential).values(learned))
        _keep(conn, secrets, job=claim.job.id, credential=claim.job.credential)
    claim.head, claim.lease_until = told.head, until


def _learned(credential: Mapping[str, Any] | None) -> dict[str, Any]:
    learned = dict(credential or {})
    if unknown := learned.keys() - LEARNED:
        raise ValueError(f"a step teaches {sorted(LEARNED)} about its credential, not {sorted(unknown)}")
    return {name: plain(value) if isinstance(value, str) else value for name, value in learned.items()}


def wait(
    db: Database, claim: Claim, until: int, why: str, reason: str | None = None, *, attempt: int | None = None
) -> None:
    """running→waiting: give the claim back until a time. `reason` HELD lets `hold_off` end the wait at once."""
    changes: dict[str, Any] = {"not_before": until, "reason": reason, "says": plain(why)}
    if attempt is not None:
        changes["attempt"] = attempt
    _leave(db, claim, State.WAITING, changes, {"until": until, "reason": reason, "says": plain(why)})


def park(
    db: Database, claim: Claim, reason: Reason, says: str, candidates: Sequence[Mapping[str, Any]] | None = None
) -> None:
    """running→parked: a person is needed."""
    rows = None if candidates is None else [dict(candidate) for candidate in candidates]
    told = {"reason": Reason(reason), "says": plain(says)}
    _leave(db, claim, State.PARKED, {**told, "candidates": rows}, {**told, "candidates": rows})


def finish(db: Database, claim: Claim, verdict: Verdict, says: str, *, shred_by: int | None = None) -> None:
    """running→done. The job's secrets are shredded by `shred_by`, where that is sooner than what they were given."""
    told = {"verdict": Verdict(verdict), "says": plain(says)}
    _leave(db, claim, State.DONE, told, told, shred_by=shred_by)


def expire(db: Database, claim: Claim, says: str, *, shred_by: int | None = None) -> None:
    """running→expired: the credential's own expiry has passed."""
    _leave(db, claim, State.EXPIRED, {"says": plain(says)}, {"says": plain(says)}, shred_by=shred_by)


def give_back(db: Database, claim: Claim, why: str) -> None:
    """running→queued: due at once, for any worker."""
    _leave(db, claim, State.QUEUED, {"says": plain(why)}, {"says": plain(why)})


def extend(db: Database, claim: Claim, lease: float) -> None:
    """Move the claim's end to `lease` seconds from now. Not a move: it leaves no row."""
    with db.begin() as conn:
        until = db.now() + _micros(lease)
        if conn.execute(update(jobs).where(_held_by(claim)).values(lease_until=until)).rowcount == 0:
            raise _lost(claim)
    claim.lease_until = until


def _leave(
    db: Database,
    claim: Claim,
    after: State,
    changes: Mapping[str, Any],
    facts: Mapping[str, Any],
    *,
    shred_by: int | None = None,
) -> None:
    """End the claim by one move out of `running`."""
    permit(State.RUNNING, after)
    with db.begin() as conn:
        at = db.now()
        stamps = {"ended_at": at} if after not in OPEN else {"not_before": at} if after is State.QUEUED else {}
        row = {"state": after, "lease_until": None, **stamps, **changes}
        told = _advance(conn, claim, at, f"{State.RUNNING}→{after}", row, facts)
        _hasten(conn, claim.job.id, shred_by)
    claim.head = told.head


def _advance(
    conn: Connection,
    claim: Claim,
    at: int,
    event: str,
    changes: Mapping[str, Any],
    facts: Mapping[str, Any],
    *,
    unless_held: bool = False,
) -> audit.Entry:
    """Change the claimed row and add to its chain, or raise: ClaimLost, or Held where a hold may speak against it."""
    # At first with the head as our last write left it: nobody else writes to this chain, except who joins the job.
    # Where the count is 0 somebody did, or took the job over, or there is a hold; the lock tells which.
    for find_head in (_remembered_head, _locked_head):
        told = audit.entry(
            find_head(conn, claim), job=claim.job.id, at=at, event=event, actor=claim.worker, fence=claim.fence, **facts
        )
        mine = and_(_held_by(claim), jobs.c.audit_number == told.number - 1)
        guard = and_(mine, ~_hold_on(claim.job.connection)) if unless_held else mine
        if conn.execute(update(jobs).where(guard).values(**changes, **_head(told))).rowcount:
            audit.write(conn, told)
            return told
    raise Held(_why_held(conn, claim.job.connection))


def _remembered_head(_conn: Connection, claim: Claim) -> Head:
    return claim.head


def _locked_head(conn: Connection, claim: Claim) -> Head:
    """The head as it is, or ClaimLost where the fence has moved on or the job is not running any more."""
    row = conn.execute(_locking(select(jobs.c.audit_number, jobs.c.audit_hash).where(_held_by(claim)))).one_or_none()
    if row is None:
        raise _lost(claim)
    return Head(row.audit_number, row.audit_hash)


def _held_by(claim: Claim) -> ColumnElement[bool]:
    """Whether the job is still this claim's: a lease that ran out harms nothing until somebody took the job over."""
    return and_(jobs.c.id == claim.job.id, jobs.c.fence == claim.fence, jobs.c.state == State.RUNNING)


def _lost(claim: Claim) -> ClaimLost:
    return ClaimLost(f"{claim.job.id} is not {claim.worker}'s any more (fence {claim.fence}): nothing was written")


# ── a person's moves ──────────────────────────────────────────────────────────────────────────────────────────────────


def retry(db: Database, job_id: str, *, actor: str, why: str, picked: str | None = None) -> None:
    """parked→queued: drive it again, from the start; `picked` is the candidate's id that a person chose."""
    with db.begin() as conn:
        at = db.now()
        job = _locked(conn, job_id)
        if job.state is not State.PARKED:
            raise MoveRefused(f"{job.id} is {job.state}: only a parked job can be driven again")
        options = {name: value for name, value in job.options.items() if name != "picked"}
        if picked is not None:
            _check_pick(job, picked)
            options["picked"] = picked
        changes = {
            "options": options,
            "drive": job.drive + 1,
            "attempt": 0,
            "not_before": at,
            "reason": None,
            "says": None,
            "candidates": None,
        }
        facts = {"why": plain(why), "picked": picked, "drive": job.drive + 1, "was": job.reason}
        _step_in(conn, job, State.QUEUED, at, actor, changes, facts)


def _check_pick(job: Job, picked: str) -> None:
    ids = [str(candidate.get("id")) for candidate in job.candidates or ()]
    if picked not in ids:
        known = "they are: " + ", ".join(ids) if ids else "there are none"
        raise BadInput(f"{picked!r} is not one of the candidates of {job.id}; {known}")


def cancel(db: Database, job_id: str, *, actor: str, why: str, shred_by: int | None = None) -> None:
    """queued, waiting or parked→cancelled, as long as nothing was changed at the provider."""
    with db.begin() as conn:
        at = db.now()
        job = _locked(conn, job_id)
        if job.acted:
            raise MoveRefused(
                f"{job.id} has sent a request that changes something, so it can no longer be cancelled; "
                f"`revoq jobs show {job.id}` tells what was done"
            )
        if (job.state, State.CANCELLED) not in MOVES:
            hint = "; a hold stops it before it changes anything: revoq hold on" if job.state is State.RUNNING else ""
            raise MoveRefused(f"{job.id} is {job.state} and cannot be cancelled{hint}")
        _step_in(conn, job, State.CANCELLED, at, actor, {"ended_at": at, "reason": None}, {"why": plain(why)})
        _hasten(conn, job.id, shred_by)


def _step_in(
    conn: Connection,
    job: Job,
    after: State,
    at: int,
    actor: str,
    changes: Mapping[str, Any],
    facts: Mapping[str, Any],
) -> None:
    """Move a locked job for a person."""
    permit(job.state, after)
    told = audit.entry(_head_of(job), job=job.id, at=at, event=f"{job.state}→{after}", actor=plain(actor), **facts)
    conn.execute(update(jobs).where(jobs.c.id == job.id).values(state=after, **changes, **_head(told)))
    audit.write(conn, told)


def _locked(conn: Connection, job_id: str) -> Job:
    row = conn.execute(_locking(select(jobs).where(jobs.c.id == job_id))).mappings().one_or_none()
    if row is None:
        raise UnknownJob(f"there is no job {job_id}; `revoq jobs list` shows them")
    return job_of(row)


def hold_on(db: Database, connection: str, *, actor: str, why: str) -> int:
    """Stop every mutating request for a connection, or for all ("*"); how many unfinished jobs that concerns.

    A request that was intended before this may still be under way; none is intended after it has returned.
    """
    with db.begin() as conn:
        lock(conn, Lock.HOLDS)
        at = db.now()
        hold = {"held_at": at, "held_by": plain(actor), "held_why": plain(why)}
        statement = _insert(conn, accounts).values(connection=connection, **hold)
        conn.execute(statement.on_conflict_do_update(index_elements=[accounts.c.connection], set_=hold))
        concerned = [] if connection == EVERYTHING else [jobs.c.connection == connection]
        unfinished = jobs.c.state.in_(OPEN - {State.PARKED})
        count = conn.scalar(select(func.count()).select_from(jobs).where(unfinished, *concerned)) or 0
        audit.append_global(conn, at=at, event="hold off→on", actor=plain(actor), connection=connection, why=plain(why))
    return count


def hold_off(db: Database, connection: str, *, actor: str, why: str) -> int:
    """Lift a hold; how many jobs waited because of it and are due now. Lifting what is not there does nothing."""
    with db.begin() as conn:
        lock(conn, Lock.HOLDS)
        at = db.now()
        held = and_(accounts.c.connection == connection, accounts.c.held_at.is_not(None))
        if conn.execute(update(accounts).where(held).values(held_at=None, held_by=None, held_why=None)).rowcount == 0:
            return 0
        # A job that another hold still stops goes on waiting.
        free = and_(jobs.c.state == State.WAITING, jobs.c.reason == HELD, ~_hold_on(jobs.c.connection))
        count = conn.execute(update(jobs).where(free).values(not_before=at)).rowcount
        audit.append_global(
            conn,
            at=at,
            event="hold on→off",
            actor=plain(actor),
            connection=connection,
            why=plain(why),
            due=count,
        )
    return count


def _hold_on(connection: str | ColumnElement[str]) -> ColumnElement[bool]:
    concerned = or_(accounts.c.connection == connection, accounts.c.connection == EVERYTHING)
    return exists().where(concerned, accounts.c.held_at.is_not(None))


def _why_held(conn: Connection, connection: str) -> str:
    concerned = and_(accounts.c.connection.in_([connection, EVERYTHING]), accounts.c.held_at.is_not(None))
    columns = (accounts.c.connection, accounts.c.held_at, accounts.c.held_by, accounts.c.held_why)
    return Hold(*conn.execute(select(*columns).where(concerned).order_by(accounts.c.held_at).limit(1)).one()).says


# ── bells and shredding ───────────────────────────────────────────────────────────────────────────────────────────────


def ring(db: Database, job_ids: Iterable[str]) -> list[Ring]:
    """Mark those of these jobs that can be claimed now as rung, just before the messages are sent."""
    with db.begin() as conn:
        at = db.now()
        return _mark_rung(conn, at, select(jobs.c.id).where(jobs.c.id.in_(list(job_ids)), is_due(at)))


def ring_due(db: Database, limit: int, ring_after: float) -> list[Ring]:
    """Find jobs that can be claimed and whose bell was lost, or never rung; mark them as rung, the most urgent first.

    A bell counts as lost `ring_after` seconds after it was rung, and one that was rung for an earlier due time does not
    count at all.
    """
    with db.begin() as conn:
        at = db.now()
        became_due = func.coalesce(jobs.c.lease_until, jobs.c.not_before)
        silent = or_(jobs.c.rung_at.is_(None), jobs.c.rung_at < became_due, jobs.c.rung_at <= at - _micros(ring_after))
        found = select(jobs.c.id).where(is_due(at), silent).order_by(jobs.c.priority, jobs.c.first_seen, jobs.c.id)
        return _mark_rung(conn, at, found.limit(limit))


def _mark_rung(conn: Connection, at: int, found: Select[tuple[str]]) -> list[Ring]:
    """Mark what `found` selects in the same statement; a row that somebody else is just moving is left to them."""
    due = found.with_for_update(skip_locked=True, key_share=True).cte("due")
    statement = (
        update(jobs)
        .where(jobs.c.id.in_(select(due.c.id)))
        .values(rung_at=at, rings=jobs.c.rings + 1)
        .returning(
            jobs.c.priority, jobs.c.first_seen, jobs.c.id, jobs.c.rings, jobs.c.queue, jobs.c.rule, jobs.c.intent
        )
    )
    rows = sorted(conn.execute(statement).all(), key=lambda row: (row.priority, row.first_seen, row.id))
    return [Ring(row.id, row.rings, row.queue, row.rule, Intent(row.intent)) for row in rows]


def shred(db: Database, limit: int) -> int:
    """Destroy secrets that are past their date, parked job or not; how many. Their fingerprints stay."""
    with db.begin() as conn:
        at = db.now()
        past = (
            select(secrets.c.id)
            .where(secrets.c.shredded_at.is_(None), secrets.c.shred_by <= at)
            .order_by(secrets.c.shred_by)
            .limit(limit)
            .with_for_update(skip_locked=True)
            .cte("past")
        )
        statement = update(secrets).where(secrets.c.id.in_(select(past.c.id)))
        count = conn.execute(statement.values(ciphertext=None, nonce=None, shredded_at=at)).rowcount
        if count:
            audit.append_global(conn, at=at, event="secrets sealed→shredded", count=count)
    return count


def _hasten(conn: Connection, job: str, shred_by: int | None) -> None:
    """Bring the end of a job's secrets forward; never put it off."""
    if shred_by is not None:
        later = and_(secrets.c.job == job, secrets.c.shred_by > shred_by, secrets.c.shredded_at.is_(None))
        conn.execute(update(secrets).where(later).values(shred_by=shred_by))


# ── pieces ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def plain(text: str) -> str:
    """The text without what PostgreSQL or UTF-8 refuses: a byte in a provider's answer must not stop a move."""
    return text.replace("\0", "\N{REPLACEMENT CHARACTER}").encode("utf-8", "replace").decode()


def _locking(query: Select[Any]) -> Select[Any]:
    """Hold the rows until the end of the transaction; on SQLite the whole transaction is alone already."""
    return query.with_for_update(key_share=True)


def _insert(conn: Connection, table: Table) -> postgresql.Insert | sqlite.Insert:
    """An INSERT that knows ON CONFLICT."""
    return postgresql.insert(table) if conn.dialect.name == "postgresql" else sqlite.insert(table)


def _head(told: audit.Entry) -> dict[str, Any]:
    return {"audit_number": told.number, "audit_hash": told.hash}


def _head_of(job: Job) -> Head:
    return Head(job.audit_number, job.audit_hash)


def _micros(seconds: float) -> int:
    return int(seconds * SECOND)


def _copied(values: Mapping[str, Any] | None) -> dict[str, Any] | None:
    return None if values is None else dict(values)


def _digest(evidence: Mapping[str, Any] | None) -> str | None:
    """What ties a step's evidence to the chain."""
    return None if evidence is None else hashlib.sha256(audit.canonical(evidence)).hexdigest()
