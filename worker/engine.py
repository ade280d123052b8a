"""Carries one job: claim, then act, record and decide, step after step, until it ends, waits or parks.

What to do next is decided by `rules.decide` from what the ledger holds; this file only does it, and writes it down
before and after. Nothing is remembered between two claims, so another worker goes on where this one stopped.
"""

from __future__ import annotations

import random
import time
from collections.abc import Mapping
from functools import partial

import structlog

from rules.budget import NO_REQUEST, rest
from rules.decide import decide
from rules.decision import Decision, Do, Expire, Finish, Park, Wait, backoff
from rules.errors import RevoqError
from rules.lifecycle import Outcome, Reason, Verdict
from rules.plan import CHANGES, Planned
from rules.trouble import Trouble, classify
from rules.units import SECOND
from worker.aftercare import after_end, after_look
from worker.case import Case
from worker.dossier import NotReady, unformed
from worker.errors import ClaimLost, ConnectionUnusable, ExchangeError, Held
from worker.ledger import accounts, moves
from worker.ledger.rechecks import nothing_follows
from worker.ledger.rows import Claim
from worker.log import describe
from worker.runtime import Runtime
from worker.step import Ready, Result

log = structlog.get_logger(__name__)

SLEPT_THROUGH = 10 * SECOND
"""Waits shorter than this are slept through under the claim; longer ones go to the ledger."""
HOLD_POLL = 3600 * SECOND
"""A held job looks again after this long by itself; lifting the hold wakes it at once."""
NOBODY_ASKED = 30.0
"""Seconds, give or take half, until a provider that did not answer our sign-in is asked again."""
STOPPING = "the worker is stopping; another one goes on"
CRASHES = 8
"""How often a job may bring a worker down, or be left behind by one, before a person is asked."""


def carry(runtime: Runtime, job_id: str, worker: str) -> Decision | None:
    """Carry one job as far as it goes; gives what ended the claim, or None where the job was not ours to carry."""
    if runtime.stopping.is_set():
        # Its bell was taken off the queue already, and nobody here hears it.
        moves.unring(runtime.database, job_id)
        return Wait(runtime.database.now(), STOPPING)
    claim = moves.claim(runtime.database, job_id, lease=runtime.settings.claim, worker=worker)
    if claim is None:
        return None
    job = claim.job
    with structlog.contextvars.bound_contextvars(job=job_id, rule=job.rule, attempt=job.attempt):
        log.info("claimed", intent=job.intent.value, drive=job.drive, fence=claim.fence)
        case = Case(runtime, claim)
        try:
            return _carry(runtime, claim, case)
        except ClaimLost:
            log.warning("claim_lost", why="another worker holds the job by now")
            return None
        except Exception as error:  # noqa: BLE001 - whatever it was, the job goes on without this worker
            log.error("crashed", exception=describe(error, whole=False))
            return _crashed(runtime, claim, error)
        finally:
            case.forget()


def _carry(runtime: Runtime, claim: Claim, case: Case) -> Decision:
    """Open, then decide and do, until a decision ends the claim."""
    if claim.job.attempt > CRASHES:
        return _end(runtime, claim, Park(Reason.BUDGET_SPENT, f"{claim.job.attempt} workers were lost over this job"))
    try:
        case.open()
    except NotReady as error:
        return _end(runtime, claim, error.decision)
    except ExchangeError as error:
        kept = {"trouble": error.kind.value}
        _heed(runtime, claim, Result(Outcome.NOT_SENT, error.says, evidence=kept, retry_after=error.retry_after))
        why = f"asking who we are: {error.says}"
        return _end(runtime, claim, _later(runtime, claim, why, at_least=error.retry_after or 0.0))
    while True:
        decision = decide(case.plan, case.records, case.facts(random.random()), runtime.database.now())  # noqa: S311
        if isinstance(decision, Do) and not runtime.stopping.is_set():
            try:
                decision = _take(runtime, claim, case, decision.step) or decision
            except Held as held:
                return _held(runtime, claim, held)
        # Never longer than the claim lasts: another worker would take over from one that only sleeps.
        short = min(SLEPT_THROUGH, int(runtime.settings.claim / 2 * SECOND))
        sleeps = isinstance(decision, Wait) and decision.until - runtime.database.now() <= short
        if not sleeps and not isinstance(decision, Do):
            return _end(runtime, claim, decision, case)
        if runtime.stopping.is_set():
            return _give_back(runtime, claim)
        if isinstance(decision, Wait):
            _sleep(runtime, claim, decision.until)


def _take(runtime: Runtime, claim: Claim, case: Case, planned: Planned) -> Decision | None:
    """Take one step: write the intention down, send, write down what came. A decision where that ends the claim."""
    try:
        step = case.ready(planned)
    except RevoqError as error:
        return _unformed(runtime, claim, case, planned, str(error))
    started = time.monotonic()
    number = _intend(runtime, claim, planned, step.label)
    result = _send(runtime, claim, case, planned, step, started)
    if planned.sink is None and planned.purpose not in NO_REQUEST:
        _heed(runtime, claim, result)
    _record(case, planned, number, result)
    return None


def _record(case: Case, planned: Planned, number: int, result: Result) -> None:
    case.record(planned, number, result)
    told = {"step": planned.name, "purpose": planned.purpose.value, "outcome": result.outcome.value}
    log.info("step", number=number, **told, says=result.says)


def _intend(runtime: Runtime, claim: Claim, planned: Planned, label: Mapping[str, str], *, sends: bool = True) -> int:
    return moves.intend(
        runtime.database,
        claim,
        name=planned.name,
        purpose=planned.purpose.value,
        mutating=sends and planned.purpose in CHANGES,
        request=label,
    )


def _send(runtime: Runtime, claim: Claim, case: Case, planned: Planned, step: Ready, started: float) -> Result:
    """Send, but only while the claim outlasts the request's whole time-out: nobody else may begin meanwhile."""
    if time.monotonic() - started + runtime.settings.request_timeout >= runtime.settings.claim:
        return Result(Outcome.NOT_SENT, "the claim would not have outlasted the request, so nothing was sent")

    def keep() -> None:
        moves.extend(runtime.database, claim, runtime.settings.claim, unless_held=planned.purpose in CHANGES)

    try:
        return case.perform(step, keep)
    except ConnectionUnusable as error:
        return Result(Outcome.DENIED, str(error))


def _heed(runtime: Runtime, claim: Claim, result: Result) -> None:
    """What an answer says of the whole account, for all workers: to be left alone for a while, or to be there again."""
    account, status = claim.job.account, result.evidence.get("status")
    patience = rest(status, result.retry_after)
    if patience:
        accounts.put_off(runtime.database, account, runtime.database.now() + int(patience * SECOND))
        log.info("account_rests", account=account, seconds=round(patience, 1))
    trouble = classify(result.outcome, status, result.evidence.get("trouble"))
    if trouble is Trouble.PROVIDER_BROKEN:
        chance = random.random()  # noqa: S311 - jitter
        until = accounts.fail(
            runtime.database, account, chance, actor=claim.worker, says=result.says, trial=claim.trial
        )
        claim.troubled, claim.trial = True, False
        if until is not None:
            seconds = (until - runtime.database.now()) // SECOND
            log.warning("breaker_opened", account=account, seconds=seconds, why=result.says)
    elif claim.troubled and (status is not None or trouble is None):
        if accounts.succeed(runtime.database, account, actor=claim.worker):
            log.info("breaker_closed", account=account)
        claim.troubled = claim.trial = False


def _unformed(runtime: Runtime, claim: Claim, case: Case, planned: Planned, says: str) -> Decision | None:
    """Nothing is sent; that it could not be is written down all the same."""
    result, parked = unformed(planned, says)
    _record(case, planned, _intend(runtime, claim, planned, {}, sends=False), result)
    return parked


def _held(runtime: Runtime, claim: Claim, held: Held) -> Decision:
    """A hold is on: nothing left, and the job waits until it is lifted."""
    until = runtime.database.now() + HOLD_POLL
    moves.wait(runtime.database, claim, until, str(held), moves.HELD)
    log.info("held", why=str(held))
    return Wait(until, str(held))


def _sleep(runtime: Runtime, claim: Claim, until: int) -> None:
    """Sleep under the claim, until the process is told to stop."""
    moves.extend(runtime.database, claim, runtime.settings.claim)
    runtime.stopping.wait(max(until - runtime.database.now(), 0) / SECOND)


def _give_back(runtime: Runtime, claim: Claim) -> Decision:
    """The process is to end: what was done is written down, and another worker goes on from there at once."""
    moves.give_back(runtime.database, claim, STOPPING)
    log.info("given_back", why=STOPPING)
    return Wait(runtime.database.now(), STOPPING)


def _later(runtime: Runtime, claim: Claim, why: str, *, at_least: float) -> Decision:
    """The provider cannot even be asked who we are: look again in a while, for as long as the settings say.

    Never before so many seconds as the provider asked for.
    """
    now = runtime.database.now()
    if now - claim.job.first_seen > runtime.settings.retry_for * SECOND:
        return Park(Reason.BUDGET_SPENT, why)
    seconds = max(NOBODY_ASKED * (0.5 + random.random()), at_least)  # noqa: S311 - jitter
    return Wait(now + int(seconds * SECOND), why)


def _crashed(runtime: Runtime, claim: Claim, error: Exception) -> Decision:
    """Our own code failed: let go, and after a few times ask for a person. The log has its places, not its text."""
    says = f"revoq itself failed with {type(error).__name__}; the worker's log has more"
    attempt = claim.job.attempt + 1
    if attempt > CRASHES:
        return _end(runtime, claim, Park(Reason.BUDGET_SPENT, says))
    until = runtime.database.now() + int(max(backoff(attempt, random.random()), 10.0) * SECOND)  # noqa: S311 - jitter
    moves.wait(runtime.database, claim, until, says, attempt=attempt)
    return Wait(until, says)


def _end(runtime: Runtime, claim: Claim, decision: Decision, case: Case | None = None) -> Decision:
    """Give the claim back, in the way that was decided."""
    database = runtime.database
    match decision:
        case Wait(until, why):
            moves.wait(database, claim, until, why)
            log.info("waiting", why=why)
        case Park(reason, says):
            candidates = case.candidates if case is not None and reason is Reason.NEEDS_SELECTION else None
            moves.park(database, claim, reason, says, candidates, also=after_look(case, decision))
            log.info("parked", reason=reason.value, says=says)
        case Finish(verdict, says):
            watch, now = after_end(case, verdict), database.now()
            series = watch.told if watch is not None else []
            # What no sink was seen to hold stays sealed here until its date, and what looks need until the last one.
            kept = series or verdict is Verdict.DELIVERED_UNCONFIRMED
            moves.finish(
                database,
                claim,
                verdict,
                says,
                shred_by=None if kept else now,
                rechecks=series,
                also=partial(watch.begin, job=claim.job) if watch and series else after_look(case, decision),
                beside=nothing_follows(claim.job.credential, now) if watch and not series else (),
            )
            log.info("done", verdict=verdict.value, says=says)
        case Expire(says):
            moves.expire(database, claim, says, shred_by=database.now(), also=after_look(case, decision))
            log.info("expired", says=says)
    return decision
