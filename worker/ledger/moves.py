"""The moves on the ledger: one verb per transition, each one transaction with its audit row; nobody else sets a state.

A worker's verbs take its `Claim`: every write repeats the fence, and ClaimLost says that somebody else was there first.
A person's verbs take an `actor`. What is allowed stands in `rules.lifecycle.MOVES`; what comes next, in `rules.decide`.

Locks are taken in one order, so that no two moves wait for each other: schedule, bells, holds, repetitions, account,
job, credential, secrets, rechecks, global chain, counters.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

from sqlalchemy import ColumnElement, Connection, and_, func, select, update

from rules.errors import BadInput, MoveRefused
from rules.lifecycle import FORCIBLE, MOVES, OPEN, Outcome, Reason, State, StepState, Verdict
from rules.plan import Purpose
from rules.units import SECOND
from worker.errors import ClaimLost, Held, UnknownJob
from worker.ledger import audit, counters, reads, stages
from worker.ledger import statements as sql
from worker.ledger.accounts import LimitsOf, unlimited
from worker.ledger.bells import is_silent, ring_fairly
from worker.ledger.counters import Counter
from worker.ledger.database import Database, Lock, lock
from worker.ledger.notices import note_parked
from worker.ledger.rows import (
    EVERYTHING,
    LOST,
    Claim,
    Head,
    Hold,
    Job,
    NewJob,
    Noted,
    Ring,
    SealedSecret,
    Staged,
    Submitted,
    credential_row,
    job_of,
)
from worker.ledger.tables import accounts, credentials, jobs, secrets, steps
from worker.ledger.tables import joined as counted_beside
from worker.ledger.together import Write, change

BACK = "goes_back"
"""The option of a rotation that a person turned round."""
INCIDENT_SHARE = 0.2
"""The part of every budget that bulk leaves to incidents, where the settings say nothing else."""
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
    "cost",
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
ENDED_STEP = f"step {StepState.INTENDED}→{StepState.DONE}"
_ADVANCES = {
    (False, False): sql.ADVANCE,
    (False, True): sql.ADVANCE_STEP,
    (True, False): sql.ADVANCE_UNLESS_HELD,
    (True, True): sql.ADVANCE_STEP_UNLESS_HELD,
}
"""How a claimed row is changed; by whether a hold speaks against it, and whether a step's end is written as well."""
LEARNED = frozenset({"provider_id", "subject", "expires_at", "alive_at", "alive_where", "dead_at"})
"""What a step may teach about its credential."""

Event = tuple[int, str, Mapping[str, Any]]
"""One row of a job's chain: the moment, what happened, and what is told of it."""
Also = Callable[[Connection, int], None]
"""What else is written in the transaction that ends a claim, its credential being locked; it is given the moment."""


def permit(before: State, after: State) -> None:
    """Refuse a move that the lifecycle does not list."""
    if (before, after) not in MOVES:
        raise MoveRefused(f"a job cannot go from {before} to {after}")


# ── submitting ────────────────────────────────────────────────────────────────────────────────────────────────────────


def submit(db: Database, new: NewJob) -> Submitted:
    """Open a job in `queued`, or join the one that is open for the same credential, connection and intent.

    A join that is more urgent makes the open job as urgent, and one that brings secrets gives them to a job whose own
    were shredded; it changes nothing else, and is told on the job's chain.
    """
    with db.begin() as conn:
        return submit_within(db, conn, new)


def submit_and_ring(
    db: Database, new: NewJob, limits: LimitsOf = unlimited, share: float = INCIDENT_SHARE
) -> tuple[Submitted, list[Ring]]:
    """The same, and what `ring` would mark: a new job and its bell are one commit.

    An open job that was joined is rung where nobody has rung it yet, or where this made it more urgent.
    """
    with db.begin() as conn:
        submitted = submit_within(db, conn, new)
        silent = and_(jobs.c.id == submitted.job_id, jobs.c.rung_at.is_(None))
        if not submitted.joined:
            # Its row is locked before its account's, against the order; but nobody else can be waiting for a new row.
            return submitted, _ring_now(db, conn, silent, 1, limits, share)
    with db.begin() as conn:
        return submitted, _ring_now(db, conn, silent, 1, limits, share)


def submit_within(db: Database, conn: Connection, new: NewJob) -> Submitted:
    """The same inside a transaction that does more; of all its locks, those of the job come last."""
    new = cleaned(new)
    at = db.now()
    credential = _credential(db, conn, new, at)
    while True:
        # The partial unique index decides between two that come at once: one inserts, the other finds its row.
        opened = _open(db, conn, new, credential, at)
        if opened is not None:
            return Submitted(opened, joined=False)
        joined = join(conn, new, credential, at)
        if joined is not None:
            return Submitted(joined, joined=True)
        # The open job ended between the two looks, so its place is free now.


def _credential(db: Database, conn: Connection, new: NewJob, at: int) -> str:
    """The id of the credential's row, inserted where there is none. An old row is not locked: its job is, first."""
    row = credential_row(db.new_id("cred"), new, new.rule, new.connection, at)
    inserted = conn.scalar(sql.insert_unless_there(conn.dialect.name, credentials), row)
    if inserted is not None:
        return str(inserted)
    same = {"its_fingerprint": new.fingerprint, "its_rule": new.rule, "my_connection": new.connection}
    return str(conn.execute(sql.FIND_CREDENTIAL, same).scalar_one())


def _open(db: Database, conn: Connection, new: NewJob, credential: str, at: int) -> str | None:
    """Insert the job, or None where one is open already."""
    first, row = opening(db, new, credential, at)
    if conn.scalar(sql.insert_unless_there(conn.dialect.name, jobs), row) is None:
        return None
    audit.write(conn, first)
    if new.provider_id is not None or new.subject is not None:
        conn.execute(sql.FILL_GAPS, word_of(new, credential))
    _keep(conn, new.secrets, job=first.job, credential=credential)
    return first.job


def opening(db: Database, new: NewJob, credential: str, at: int) -> tuple[audit.Entry, dict[str, Any]]:
    """The first row of a new job's chain, and the job's own."""
    job = db.new_id("job")
    first = audit.entry(audit.GENESIS, job=job, at=at, event=f"→{State.QUEUED}", **_request(new), **_matter(new))
    row = {
        **{name: getattr(new, name) for name in COPIED},
        "account": new.account or new.connection,
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
    return first, row


def word_of(new: NewJob, credential: str) -> dict[str, Any]:
    """What the requester says of the credential: it fills gaps, since what is known was learned from the provider."""
    return {"this": credential, "its_provider_id": new.provider_id, "its_subject": new.subject}


def join(conn: Connection, new: NewJob, credential: str, at: int) -> str | None:
    """Add this request to the open job's chain, or None where that job has just ended.

    A more urgent one takes the job out of its batch's gate: a batch that is loading or paused holds up no incident.
    """
    same = {"this": credential, "my_connection": new.connection, "my_intent": new.intent}
    # The lock waits for a worker that is writing to the chain, and then shows the row as that worker left it.
    row = conn.execute(sql.LOCK_OPEN_JOB, same).mappings().one_or_none()
    if row is None:
        return None
    job = job_of(row)
    told = audit.entry(_head_of(job), job=job.id, at=at, event="joined", **_request(new))
    more_urgent = {"priority": new.priority, "queue": new.queue, "rung_at": None}
    changes = more_urgent if new.priority < job.priority else {}
    if changes and job.batch is not None:
        leave_gate(conn, job.batch, job.id)
        changes = {**changes, "batch": None}
    conn.execute(sql.CHANGE_JOB, {"this": job.id, **changes, **_head(told)})
    audit.write(conn, told)
    if new.secrets and not _has_secrets(conn, job.id):
        _keep(conn, new.secrets, job=job.id, credential=credential)
    return job.id


def leave_gate(conn: Connection, batch: str, job_id: str) -> None:
    """Note that a batch counts a job which it does not hold back; the caller changes the job's own row."""
    conn.execute(sql.insert_missing(conn.dialect.name, counted_beside), {"batch": batch, "job": job_id})


def cleaned(new: NewJob) -> NewJob:
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
        conn.execute(sql.KEEP, rows)


def _has_secrets(conn: Connection, job: str) -> bool:
    return conn.scalar(sql.HAS_SECRETS, {"this": job}) is True


# ── a worker's moves ──────────────────────────────────────────────────────────────────────────────────────────────────


def claim(db: Database, job_id: str, *, lease: float, worker: str) -> Claim | None:
    """Take a job that is due, or None: it is not due, its batch is closed, or somebody else has it.

    Steps whose answer was never written down become `lost` here: whoever left them is gone.
    """
    with db.single() as conn:
        taken = _claim(db, conn, job_id, lease, worker, trial=False)
    if taken is not None:
        return taken
    # It may be the one job with which an account is tried again that was left alone.
    with db.begin() as conn:
        at = db.now()
        account = conn.scalar(sql.TRY_ACCOUNT, {"this": job_id, "moment": at, "trial_until": at + _micros(lease)})
        if account is None:
            return None
        taken = _claim(db, conn, job_id, lease, worker, trial=True)
        if taken is None:
            conn.execute(sql.GIVE_TRIAL_BACK, {"this": account, "moment": at})
    return taken


def _claim(db: Database, conn: Connection, job_id: str, lease: float, worker: str, *, trial: bool) -> Claim | None:
    """Read the job, and take it as it was read; of two that come at once, the second finds that it is due no more."""
    find, take = (sql.TRIAL_JOB, sql.TAKE_TRIAL) if trial else (sql.DUE_JOB, sql.TAKE)
    while True:
        at = db.now()
        due = {"this": job_id, "moment": at}
        rows = conn.execute(find, due).all()
        if not rows:
            return None
        job, found, troubled = reads.claimable(conn, rows)
        permit(job.state, State.RUNNING)
        taken_over = job.state is State.RUNNING
        lost = tuple(step.number for step in found.steps if step.state is StepState.INTENDED)
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
        rest = [audit.writing(told)]
        if lost:
            found = replace(found, steps=[step.lose(at) if step.number in lost else step for step in found.steps])
            rest.append(Write(sql.LOSE_STEPS, {"this": job.id, **LOST, "ended_at": at}))
        if taken_over:
            rest.append(counters.counting(conn.dialect.name, Counter.WORKERS_LOST, 1))
        if change(conn, Write(take, {**due, "my_head": job.audit_number, **changes, **_head(told)}), *rest):
            break
    until = at + _micros(lease)
    job = replace(job, **changes, **_head(told))
    last = found.steps[-1].number if found.steps else 0
    return Claim(job, found, worker, lease, job.fence, until, told.head, last, lost, trial or troubled, trial)


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

    What the step before came to is written in the same transaction, where `note` left it to that.

    Returns the step's number. A mutating step raises Held, and is not written, while a hold is on: once `hold_on` has
    returned, no such step gets past here.
    """
    number = claim.steps + 1
    with db.begin(sharing=Lock.HOLDS) if mutating else db.single() as conn:
        at = db.now()
        until = at + _micros(claim.lease if lease is None else lease)
        changes = {"lease_until": until, **({"acted": True} if mutating else {})}
        facts = {"step": number, "name": name, "purpose": purpose, "mutating": mutating}
        event = (at, f"step→{StepState.INTENDED}", facts)
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
        step = Write(sql.ADD_STEP, row)
        told = _advance(conn, claim, changes, [event], claim.noted, [step], unless_held=mutating)
    claim.head, claim.lease_until, claim.steps, claim.noted = told.head, until, number, None
    return number


def record(db: Database, claim: Claim, number: int, *, lease: float | None = None, **result: Any) -> None:
    """Write down what a step came to, and extend the claim.

    `result` is what `note` takes, and beside that `secrets` that the step took out of an answer, sealed, and `staged`,
    the keys of a rotation that came to a stage by it.
    """
    _record(db, claim, _noted(db.now(), number, **result), lease)


def note(db: Database, claim: Claim, number: int, **result: Any) -> None:
    """Keep what a step came to for this claim's next write, whose transaction it then shares.

    Only where that write comes before anything else is sent or waited for; whoever dies in between has lost an answer,
    and the next claim finds the step without one. `result` is the outcome, what it `says`, and as far as there is any:
    what was `taken` out of the answer, the `evidence`, `retry_after` in seconds, and of the `credential` what was
    learned (LEARNED names).
    """
    claim.noted = _noted(db.now(), number, **result)


def _record(db: Database, claim: Claim, noted: Noted, lease: float | None) -> None:
    with db.begin() as conn:
        until = db.now() + _micros(claim.lease if lease is None else lease)
        told = _advance(conn, claim, {"lease_until": until}, [], noted)
        stages.put(db, conn, claim.job, noted.staged, noted.at)
        _keep(conn, noted.secrets, job=claim.job.id, credential=claim.job.credential)
    claim.head, claim.lease_until, claim.noted = told.head, until, None


def _noted(  # noqa: PLR0913 - a step's whole result
    at: int,
    number: int,
    *,
    outcome: Outcome,
    says: str,
    taken: Mapping[str, Any] | None = None,
    evidence: Mapping[str, Any] | None = None,
    retry_after: float | None = None,
    credential: Mapping[str, Any] | None = None,
    secrets: Sequence[SealedSecret] = (),
    staged: Sequence[Staged] = (),
) -> Noted:
    learned = _learned(credential)
    row = {
        "my_number": number,
        "state": StepState.DONE,
        "outcome": outcome,
        "says": plain(says),
        "taken": _copied(taken),
        "evidence": _copied(evidence),
        "retry_after": None if retry_after is None else _micros(retry_after),
        "ended_at": at,
    }
    facts = {"step": number, "outcome": outcome, "says": plain(says), "evidence": _digest(evidence), **learned}
    facts |= {"keys": stages.told(staged)} if staged else {}
    return Noted(at, row, facts, learned, secrets, staged)


def _ending(claim: Claim, noted: Noted) -> Iterator[Write]:
    """What is written of a step's end beside the job and its chain."""
    yield Write(sql.END_STEP, {"this": claim.job.id, **noted.row})
    if noted.learned:
        yield Write(sql.LEARN, {"this": claim.job.credential, **noted.learned})


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
    db: Database,
    claim: Claim,
    reason: Reason,
    says: str,
    candidates: Sequence[Mapping[str, Any]] | None = None,
    *,
    also: Also | None = None,
) -> None:
    """running→parked: a person is needed, and whoever wants to know is told."""

    def follow(conn: Connection, at: int) -> None:
        note_parked(conn, at, claim.job, Reason(reason), plain(says))
        if also is not None:
            also(conn, at)

    rows = None if candidates is None else [dict(candidate) for candidate in candidates]
    told = {"reason": Reason(reason), "says": plain(says)}
    _leave(db, claim, State.PARKED, {**told, "candidates": rows}, {**told, "candidates": rows}, also=follow)


def finish(
    db: Database,
    claim: Claim,
    verdict: Verdict,
    says: str,
    *,
    shred_by: int | None = None,
    rechecks: Sequence[Mapping[str, Any]] | None = None,
    also: Also | None = None,
    beside: Sequence[Write] = (),
) -> None:
    """running→done. The job's secrets are shredded by `shred_by`, where that is sooner than what they were given.

    `rechecks` tells the trail what `also` writes: when the credential is looked at again. What is written `beside` the
    move sees the job as it was before, and no row of it may be one that the move changes.
    """
    told = {"verdict": Verdict(verdict), "says": plain(says)}
    facts = {**told, "rechecks": rechecks or None}
    _leave(db, claim, State.DONE, told, facts, shred_by=shred_by, also=also, beside=beside)


def expire(db: Database, claim: Claim, says: str, *, shred_by: int | None = None, also: Also | None = None) -> None:
    """running→expired: the credential's own expiry has passed."""
    _leave(db, claim, State.EXPIRED, {"says": plain(says)}, {"says": plain(says)}, shred_by=shred_by, also=also)


def give_back(db: Database, claim: Claim, why: str) -> None:
    """running→queued: due at once, for any worker; so is its account's trial, where that has shown nothing yet."""
    _leave(db, claim, State.QUEUED, {"says": plain(why)}, {"says": plain(why)})
    if claim.trial:
        with db.begin() as conn:
            conn.execute(sql.GIVE_TRIAL_BACK, {"this": claim.job.account, "moment": db.now()})


def extend(db: Database, claim: Claim, lease: float, *, unless_held: bool = False) -> None:
    """Move the claim's end to `lease` seconds from now. Not a move: it leaves no row, but what was noted is written.

    `unless_held` is for a step that sends several requests which change something: before each one it raises Held where
    a hold was put on meanwhile.
    """
    if claim.noted is not None:
        _record(db, claim, claim.noted, lease)
    with db.begin(sharing=Lock.HOLDS) if unless_held else db.single() as conn:
        move, extra = sql.CHANGE_MINE, {}
        if unless_held:
            move, extra = sql.CHANGE_MINE_UNLESS_HELD, {"my_connection": claim.job.connection}
        until = db.now() + _micros(lease)
        if conn.execute(move, {**_mine(claim), **extra, "lease_until": until}).rowcount == 0:
            _head_now(conn, claim)
            raise Held(_why_held(conn, claim.job.connection))
    claim.lease_until = until


def _leave(
    db: Database,
    claim: Claim,
    after: State,
    changes: Mapping[str, Any],
    facts: Mapping[str, Any],
    *,
    shred_by: int | None = None,
    also: Also | None = None,
    beside: Sequence[Write] = (),
) -> None:
    """End the claim by one move out of `running`."""
    permit(State.RUNNING, after)
    with db.single() if also is None else db.begin() as conn:
        at = db.now()
        stamps = {"ended_at": at} if after not in OPEN else {"not_before": at} if after is State.QUEUED else {}
        row = {"state": after, "lease_until": None, **stamps, **changes}
        # Of a credential that a step has taught something the row is locked already, and only one write may touch it.
        knows = claim.noted is not None and claim.noted.learned
        locks = [] if also is None or knows else [Write(sql.LOCK_CREDENTIAL, {"this": claim.job.credential})]
        sooner = [] if shred_by is None else [_sooner(claim.job.id, shred_by)]
        event = (at, f"{State.RUNNING}→{after}", facts)
        told = _advance(conn, claim, row, [event], claim.noted, [*locks, *sooner, *beside])
        if also is not None:
            also(conn, at)
    claim.head, claim.noted = told.head, None


def _advance(
    conn: Connection,
    claim: Claim,
    changes: Mapping[str, Any],
    events: Sequence[Event],
    noted: Noted | None,
    also: Sequence[Write] = (),
    *,
    unless_held: bool = False,
) -> audit.Entry:
    """Change the claimed row, add to its chain and write `also`, all of it or nothing; raises ClaimLost, or Held.

    What was noted goes before, so that one UPDATE moves the head past all of it.
    """
    move = _ADVANCES[unless_held, noted is not None]
    extra: dict[str, Any] = {}
    if unless_held:
        extra |= {"my_connection": claim.job.connection}
    ending: list[Write] = []
    if noted is not None:
        events = [(noted.at, ENDED_STEP, noted.facts), *events]
        extra |= {"my_number": noted.row["my_number"]}
        ending = list(_ending(claim, noted))
    # At first with the head as our last write left it: nobody else writes to this chain, except who joins the job.
    # Where nothing was changed, somebody did, or took the job over, or there is a hold; a look tells which.
    head = claim.head
    while True:
        told = list(_tell(claim, head, events))
        row = {**changes, **_head(told[-1]), **_mine(claim), "my_head": head.number, **extra}
        if change(conn, Write(move, row), *map(audit.writing, told), *ending, *also):
            return told[-1]
        there = _head_now(conn, claim)
        if there == head:
            raise _refused(conn, claim, noted)
        head = there


def _refused(conn: Connection, claim: Claim, noted: Noted | None) -> MoveRefused | Held:
    """Why nothing was changed, though the job is the claim's and nothing has happened to it."""
    if noted is not None:
        number = noted.row["my_number"]
        if not conn.scalar(sql.IS_INTENDED, {"this": claim.job.id, "my_number": number}):
            return MoveRefused(f"step {number} of {claim.job.id} was not intended, or has its result already")
    return Held(_why_held(conn, claim.job.connection))


def _tell(claim: Claim, head: Head, events: Iterable[Event]) -> Iterator[audit.Entry]:
    for at, event, facts in events:
        told = audit.entry(head, job=claim.job.id, at=at, event=event, actor=claim.worker, fence=claim.fence, **facts)
        head = told.head
        yield told


def _head_now(conn: Connection, claim: Claim) -> Head:
    """The head as it is, or ClaimLost where the fence has moved on or the job is not running any more."""
    row = conn.execute(sql.HEAD, _mine(claim)).one_or_none()
    if row is None:
        raise _lost(claim)
    return Head(row.audit_number, row.audit_hash)


def _mine(claim: Claim) -> dict[str, Any]:
    return {"this": claim.job.id, "my_fence": claim.fence}


def _lost(claim: Claim) -> ClaimLost:
    return ClaimLost(f"{claim.job.id} is not {claim.worker}'s any more (fence {claim.fence}): nothing was written")


# ── a person's moves ──────────────────────────────────────────────────────────────────────────────────────────────────


def retry(db: Database, job_id: str, *, actor: str, why: str, picked: str | None = None) -> None:
    """parked→queued: drive it again, from the start; `picked` is the candidate's id that a person chose."""
    with db.begin() as conn:
        job = _locked(conn, job_id)
        if job.state is not State.PARKED:
            raise MoveRefused(f"{job.id} is {job.state}: only a parked job can be driven again")
        if picked is not None:
            _check_pick(job, picked)
        options = {} if picked is None else {"picked": picked}
        _drive_again(conn, job, db.now(), actor, why, options)


def force(db: Database, job_id: str, *, actor: str, why: str) -> Reason:
    """parked→queued: drive it again, for this once past the guard that has parked it; which one that is."""
    with db.begin() as conn:
        job = _locked(conn, job_id)
        if job.state is not State.PARKED or job.reason not in FORCIBLE:
            stands = f"{job.state} ({job.reason})" if job.reason else job.state
            known = " or ".join(sorted(FORCIBLE))
            raise MoveRefused(f"{job.id} is {stands}: only what is parked as {known} can be forced")
        _drive_again(conn, job, db.now(), actor, why, {"forced": job.reason})
        return Reason(job.reason)


def look_on(db: Database, conn: Connection, job_id: str, *, actor: str, why: str) -> None:
    """Drive a job that is open again for another look, where it is parked: the answer that is awaited stays awaited."""
    job = _locked(conn, job_id)
    if job.state is State.PARKED:
        _drive_again(conn, job, db.now(), actor, why, {"watched": job.drive + 1})


def tell(conn: Connection, job_id: str, at: int, event: str, *, says: str | None = None, **facts: Any) -> None:
    """Add to a job's chain what concerns it and is no move of its own; `says` becomes its sentence."""
    job = _locked(conn, job_id)
    changes = {} if says is None else {"says": plain(says)}
    told = audit.entry(_head_of(job), job=job.id, at=at, event=event, **changes, **facts)
    conn.execute(sql.CHANGE_JOB, {"this": job.id, **changes, **_head(told)})
    audit.write(conn, told)


def _drive_again(conn: Connection, job: Job, at: int, actor: str, why: str, options: Mapping[str, Any]) -> None:
    kept = {name: value for name, value in job.options.items() if name not in {"picked", "moved", "forced"}}
    changes = _anew(job, at, {**kept, **options})
    chosen = {name: options.get(name) for name in ("picked", "forced")}
    facts = {"why": plain(why), **chosen, "drive": job.drive + 1, "was": job.reason}
    _step_in(conn, job, State.QUEUED, at, actor, changes, facts)


def _anew(job: Job, at: int, options: Mapping[str, Any]) -> dict[str, Any]:
    """What a job is like that begins another drive."""
    return {
        "options": dict(options),
        "drive": job.drive + 1,
        "attempt": 0,
        "not_before": at,
        "reason": None,
        "says": None,
        "candidates": None,
    }


def roll_back(db: Database, job_id: str, *, actor: str, why: str) -> None:
    """`waiting` or `parked`→`queued`: a rotation turns round, and puts the old key back, before that was retired."""
    with db.begin() as conn:
        at = db.now()
        job = _locked(conn, job_id)
        if (job.state, State.QUEUED) not in MOVES or job.state is State.RUNNING:
            hint = "; it is under way: try again in a moment" if job.state is State.RUNNING else ""
            raise MoveRefused(f"{job.id} is {job.state} and cannot be turned back{hint}")
        _check_way_back(conn, job)
        changes = _anew(job, at, {**job.options, BACK: True})
        facts = {"why": plain(why), "drive": job.drive + 1, "was": job.reason, BACK: True}
        _step_in(conn, job, State.QUEUED, at, actor, changes, facts)


def _check_way_back(conn: Connection, job: Job) -> None:
    """There has to be a new key, an old one that nobody began to retire, and a plan that knows the way."""
    if not any(step["purpose"] == Purpose.PUT_BACK for step in job.plan.get("steps", ())):
        raise MoveRefused(f"{job.id} has no way back: its rule does not keep an old key that could be put back")
    taken = select(steps.c.purpose, steps.c.outcome).where(steps.c.job == job.id)
    done = [(row.purpose, row.outcome) for row in conn.execute(taken)]
    if any(purpose == Purpose.ACT for purpose, _ in done):
        raise MoveRefused(f"{job.id} has begun to retire the old key, so there is nothing to go back to")
    if not any(purpose in {Purpose.ISSUE, Purpose.GENERATE} and outcome == Outcome.OK for purpose, outcome in done):
        raise MoveRefused(f"{job.id} knows of no new key, so there is nothing to go back from")


def _check_pick(job: Job, picked: str) -> None:
    ids = [str(candidate.get("id")) for candidate in job.candidates or ()]
    if picked not in ids:
        known = "they are: " + ", ".join(ids) if ids else "there are none"
        raise BadInput(f"{picked!r} is not one of the candidates of {job.id}; {known}")


def cancel(db: Database, job_id: str, *, actor: str, why: str, shred_by: int | None = None) -> None:
    """queued, waiting or parked→cancelled, as long as nothing was changed at the provider."""
    with db.begin() as conn:
        cancel_within(conn, _locked(conn, job_id), db.now(), actor=actor, why=why, shred_by=shred_by)


def cancel_within(conn: Connection, job: Job, at: int, *, actor: str, why: str, shred_by: int | None) -> None:
    """The same for a locked job, as a part of a larger transaction."""
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
    conn.execute(sql.CHANGE_JOB, {"this": job.id, "state": after, **changes, **_head(told)})
    audit.write(conn, told)


def _locked(conn: Connection, job_id: str) -> Job:
    row = conn.execute(sql.LOCK_JOB, {"this": job_id}).mappings().one_or_none()
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
        conn.execute(sql.put_hold(conn.dialect.name), {"connection": connection, **hold})
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
        waits = and_(jobs.c.state == State.WAITING, jobs.c.reason == HELD, jobs.c.not_before > at)
        free = and_(waits, ~sql.is_held(jobs.c.connection))
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


def _why_held(conn: Connection, connection: str) -> str:
    concerned = and_(accounts.c.connection.in_([connection, EVERYTHING]), accounts.c.held_at.is_not(None))
    columns = (accounts.c.connection, accounts.c.held_at, accounts.c.held_by, accounts.c.held_why)
    return Hold(*conn.execute(select(*columns).where(concerned).order_by(accounts.c.held_at).limit(1)).one()).says


# ── bells and shredding ───────────────────────────────────────────────────────────────────────────────────────────────


def ring(
    db: Database, job_ids: Iterable[str], limits: LimitsOf = unlimited, share: float = INCIDENT_SHARE
) -> list[Ring]:
    """Mark those of these jobs that can be claimed now as rung, just before the messages are sent.

    What its account cannot pay for now is rung by the sweep, when it can.
    """
    ids = list(job_ids)
    with db.begin() as conn:
        return _ring_now(db, conn, jobs.c.id.in_(ids), len(ids), limits, share)


def _ring_now(
    db: Database, conn: Connection, which: ColumnElement[bool], room: int, limits: LimitsOf, share: float
) -> list[Ring]:
    """Mark those of a few known jobs that can be claimed now as rung."""
    at = db.now()
    return ring_fairly(conn, at, and_(which, sql.is_due(at)), room, limits, share, rescues=False)


def unring(db: Database, job_id: str) -> None:
    """Forget that a job was rung, since nobody heard it: the next sweep rings. Not a move: it leaves no row."""
    with db.begin() as conn:
        conn.execute(sql.CHANGE_JOB, {"this": job_id, "rung_at": None})


def ring_due(
    db: Database, limit: int, ring_after: float, limits: LimitsOf = unlimited, share: float = INCIDENT_SHARE
) -> list[Ring]:
    """Find jobs that can be claimed and whose bell was lost, or never rung; mark them as rung, incidents first.

    A bell counts as lost `ring_after` seconds after it was rung, and one that was rung for an earlier due time does not
    count at all. `limits` says what each account allows, `share` which part of that is kept for incidents. Jobs of a
    batch are rung by `batches`, a few at a time.
    """
    with db.begin() as conn:
        lock(conn, Lock.BELLS)
        at = db.now()
        found = and_(jobs.c.batch.is_(None), sql.is_due(at), is_silent(at, ring_after))
        return ring_fairly(conn, at, found, limit, limits, share)


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
        gone = {"ciphertext": None, "nonce": None, "shredded_at": at}
        # Counted by what comes back: Python's driver knows no count of rows for a statement that begins with WITH.
        statement = update(secrets).where(secrets.c.id.in_(select(past.c.id))).values(gone).returning(secrets.c.id)
        count = len(conn.scalars(statement).all())
        if count:
            audit.append_global(conn, at=at, event="secrets sealed→shredded", count=count)
    return count


def _hasten(conn: Connection, job: str, shred_by: int | None) -> None:
    """Bring the end of a job's secrets forward; never put it off."""
    if shred_by is not None:
        conn.execute(*_sooner(job, shred_by))


def _sooner(job: str, shred_by: int) -> Write:
    return Write(sql.HASTEN, {"this": job, "sooner": shred_by, "shred_by": shred_by})


# ── pieces ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def plain(text: str) -> str:
    """The text without what PostgreSQL or UTF-8 refuses: a byte in a provider's answer must not stop a move."""
    return text.replace("\0", "\N{REPLACEMENT CHARACTER}").encode("utf-8", "replace").decode()


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
