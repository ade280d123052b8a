"""A worker's moves: to write a step down, and what came of it, and to end the claim; each repeats the claim's fence."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection

from rules.errors import MoveRefused
from rules.lifecycle import OPEN, Outcome, Reason, State, StepState, Verdict
from worker.errors import ClaimLost, Held
from worker.ledger import audit, stages
from worker.ledger import statements as sql
from worker.ledger.database import Database, Lock
from worker.ledger.moves.holds import why_held
from worker.ledger.moves.pieces import head_columns, micros, permit, plain
from worker.ledger.moves.sealed import keep, shredding_by
from worker.ledger.notices import note_parked
from worker.ledger.rows import Claim, Head, Noted, SealedSecret, Staged
from worker.ledger.together import Write, change

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
        until = at + micros(claim.lease if lease is None else lease)
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
        until = db.now() + micros(claim.lease if lease is None else lease)
        told = _advance(conn, claim, {"lease_until": until}, [], noted)
        stages.put(db, conn, claim.job, noted.staged, noted.at)
        keep(conn, noted.secrets, job=claim.job.id, credential=claim.job.credential)
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
        "retry_after": None if retry_after is None else micros(retry_after),
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
        until = db.now() + micros(lease)
        if conn.execute(move, {**_mine(claim), **extra, "lease_until": until}).rowcount == 0:
            _head_now(conn, claim)
            raise Held(why_held(conn, claim.job.connection))
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
        sooner = [] if shred_by is None else [shredding_by(claim.job.id, shred_by)]
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
        row = {**changes, **head_columns(told[-1]), **_mine(claim), "my_head": head.number, **extra}
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
    return Held(why_held(conn, claim.job.connection))


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


def _copied(values: Mapping[str, Any] | None) -> dict[str, Any] | None:
    return None if values is None else dict(values)


def _digest(evidence: Mapping[str, Any] | None) -> str | None:
    """What ties a step's evidence to the chain."""
    return None if evidence is None else hashlib.sha256(audit.canonical(evidence)).hexdigest()
