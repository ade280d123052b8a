"""Job and step states, the moves between them, and what each ending means; no other file spells a state.

Nothing here performs a move: the ledger does (`worker.ledger.moves`), and refuses what `MOVES` does not list.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum


class Intent(StrEnum):
    """What a job is asked to do with one credential or target."""

    REVOKE = "revoke"
    PROBE = "probe"
    ROTATE = "rotate"
    ISSUE = "issue"
    RESTORE = "restore"
    RECHECK = "recheck"


class State(StrEnum):
    """Where a job is. In: how a job gets there. Out: how it leaves."""

    QUEUED = "queued"  # In: submitted or retried. Out: claimed, cancelled.
    RUNNING = "running"  # In: claimed by one worker, under a lease. Out: every other state, or claimed anew.
    WAITING = "waiting"  # In: a wait that is written in `not_before`. Out: claimed when due, cancelled, turned back.
    PARKED = "parked"  # In: a reason that a person must act on. Out: driven again, cancelled.
    DONE = "done"  # In: a verdict. Final.
    CANCELLED = "cancelled"  # In: by a person, before the first mutating request. Final.
    EXPIRED = "expired"  # In: the credential's own expiry has passed. Final.


class Verdict(StrEnum):
    """What is known of the credential when its job is done."""

    REVOKED = "revoked"
    ALREADY_REVOKED = "already_revoked"
    DISABLED = "disabled"
    ACKNOWLEDGED = "acknowledged"
    ROTATED = "rotated"
    ROLLED_BACK = "rolled_back"
    DELIVERED_UNCONFIRMED = "delivered_unconfirmed"
    ISSUED = "issued"
    RESTORED = "restored"
    ALIVE = "alive"
    DEAD = "dead"
    UNPROVABLE = "unprovable"
    INCONCLUSIVE = "inconclusive"


class Reason(StrEnum):
    """Why a job is parked; each one names something that a person can do."""

    NEEDS_SELECTION = "needs_selection"
    NOT_RECOGNISED = "not_recognised"
    NOT_OURS = "not_ours"
    PROTECTED = "protected"
    OUTCOME_UNKNOWN = "outcome_unknown"
    STILL_ALIVE = "still_alive"
    WRONG_ONE = "wrong_one"
    DENIED = "denied"
    PROVIDER_BROKEN = "provider_broken"
    BUDGET_SPENT = "budget_spent"
    PLAN_CHANGED = "plan_changed"
    STILL_IN_USE = "still_in_use"
    CAME_BACK = "came_back"
    SINK_FAILED = "sink_failed"
    NO_ROOM = "no_room"


class Stage(StrEnum):
    """Where a key of a rotated target is in its life."""

    PENDING = "pending"  # In: issued and sealed. Out: current.
    CURRENT = "current"  # In: delivered, read back and working. Out: previous.
    PREVIOUS = "previous"  # In: a new one took its place. Out: retired; or current, by a rollback.
    RETIRED = "retired"  # In: proved dead. Final.


class BatchState(StrEnum):
    """Where a batch is; it gates the claims of its jobs."""

    LOADING = "loading"  # In: its rows are being staged. Out: open, cancelled.
    OPEN = "open"  # In: approved, or resumed. Out: paused, ended, cancelled.
    PAUSED = "paused"  # In: by a person, or by too many failures. Out: open, cancelled.
    ENDED = "ended"  # In: its last job has ended. Final.
    CANCELLED = "cancelled"  # In: by a person, or its file changed while it was read. Final.


class SlotState(StrEnum):
    """Where one slot of a schedule is."""

    OPEN = "open"  # In: it became due, or a person wants it now. Out: running, failed, missed.
    RUNNING = "running"  # In: its targets were listed. Out: done, stopped.
    DONE = "done"  # In: every target has ended, well or not. Final.
    STOPPED = "stopped"  # In: the canary or too many targets did not end well; the others were left alone. Final.
    FAILED = "failed"  # In: its targets could not be listed within its window: an incident. Final.
    MISSED = "missed"  # In: nobody was there within its window. Final.


class TargetState(StrEnum):
    """How one target of a slot stands."""

    WAITING = "waiting"  # In: listed. Out: started, failed (no job can be made of it), left.
    STARTED = "started"  # In: its job is committed. Out: well, failed.
    WELL = "well"  # In: its job came to what the slot is for. Final.
    FAILED = "failed"  # In: its job did not, or needs a person. Final.
    LEFT = "left"  # In: its slot was stopped before its turn. Final.
    SKIPPED = "skipped"  # In: listed, and not meant by the schedule now. Final.


class StepState(StrEnum):
    """A step's row is written twice: before the request leaves, and when its answer has been read."""

    INTENDED = "intended"  # In: committed before the request leaves. Out: done; or found like this, and then lost.
    DONE = "done"  # In: the outcome is recorded. Final.
    LOST = "lost"  # In: the worker that held it is gone, and nobody knows what the provider did. Final.


class Outcome(StrEnum):
    """What one step came to; `decide` turns it into the next thing to do."""

    OK = "ok"  # the matchers held
    ALREADY_GONE = "already_gone"  # the provider says that it does not exist (any more)
    ALIVE = "alive"  # a probe: the credential still works
    DEAD = "dead"  # a probe: the credential is refused as dead
    DISABLED = "disabled"  # a probe: the provider lists it as disabled; it can be enabled again
    UNPROVABLE = "unprovable"  # a probe: it does not say alive, and this rule has no word for dead
    INCONCLUSIVE = "inconclusive"  # a probe that failed: throttled, refused by address, broken
    KNOWN = "known"  # this account once knew the credential
    UNKNOWN = "unknown"  # this account never knew it, or cannot say
    NO_ROW = "no_row"  # the list was read to its end and no row fits
    FULL = "full"  # the list was read to its end, and the provider allows no more
    AMBIGUOUS = "ambiguous"  # several rows fit, none is tied, or the list could not be read to its end
    DENIED = "denied"  # a permission is missing
    NOT_OURS = "not_ours"  # the provider names an owner that is not ours
    RETRY = "retry"  # not handled by the provider: it can be sent again
    BROKEN = "broken"  # an answer that the rule does not know, or a request that cannot be formed
    NOT_SENT = "not_sent"  # nothing reached the provider: refused connection, name not found
    LOST = "lost"  # it was sent, and no usable answer came: the provider may have acted


OPEN = frozenset({State.QUEUED, State.RUNNING, State.WAITING, State.PARKED})
"""States in which a second submission of the same thing joins the job instead of making another."""

FORCIBLE = frozenset({Reason.PROTECTED, Reason.NOT_OURS})
"""Guards that a person may lift for one drive: what the settings protect, and whose it has to be.

Not which credential it is, not our own identity, not a hold; and what a lost answer did, a retry finds out.
"""

CLOSED = frozenset({BatchState.LOADING, BatchState.PAUSED, BatchState.CANCELLED})
"""States of a batch in which none of its jobs may be claimed."""

CLAIMABLE = frozenset({State.QUEUED, State.WAITING, State.RUNNING})
"""States from which a worker may claim: due, or held under a lease that has run out."""

MOVES: dict[tuple[State, State], str] = {
    (State.QUEUED, State.RUNNING): "claimed",
    (State.WAITING, State.RUNNING): "claimed when due",
    (State.RUNNING, State.RUNNING): "claimed again after its lease ran out",
    (State.RUNNING, State.WAITING): "has to wait",
    (State.RUNNING, State.QUEUED): "given back unfinished",
    (State.RUNNING, State.PARKED): "needs a person",
    (State.RUNNING, State.DONE): "ended with a verdict",
    (State.RUNNING, State.EXPIRED): "its credential's own expiry has passed",
    (State.QUEUED, State.CANCELLED): "cancelled before anything was changed",
    (State.WAITING, State.CANCELLED): "cancelled before anything was changed",
    (State.PARKED, State.CANCELLED): "cancelled before anything was changed",
    (State.PARKED, State.QUEUED): "driven again",
    (State.WAITING, State.QUEUED): "turned back by a person",
}
"""The allowed moves, each with the words that describe it."""


@dataclass(frozen=True, slots=True)
class Ending:
    """How one way for a job to stand is told to the person who asked.

    `exit_code` is what the operator's door returns: 0 done as asked, 1 failed, 2 wrong use, 3 parked for a person,
    4 still alive, 5 acknowledged but unprovable, 6 still settling when the wait ran out.
    """

    exit_code: int
    says: str
    advice: str = ""


UNFINISHED = Ending(6, "not finished yet", "revoq jobs show ID follows it; it goes on by itself")

VERDICTS: dict[Verdict, Ending] = {
    Verdict.REVOKED: Ending(0, "revoked, and proved dead"),
    Verdict.ALREADY_REVOKED: Ending(0, "it was dead already; this account once knew it"),
    Verdict.DISABLED: Ending(0, "disabled, and can be enabled again"),
    Verdict.ACKNOWLEDGED: Ending(5, "the provider said yes; there is no way to prove it"),
    Verdict.ROTATED: Ending(0, "rotated: the new key is delivered and works, the old one is dead"),
    Verdict.ROLLED_BACK: Ending(0, "rolled back: the old key is in its sinks again, and the new one is gone"),
    Verdict.DELIVERED_UNCONFIRMED: Ending(5, "delivered to a sink that cannot be read back: the old key lives on"),
    Verdict.ISSUED: Ending(0, "issued and delivered"),
    Verdict.RESTORED: Ending(0, "restored: it works again"),
    Verdict.ALIVE: Ending(4, "it works"),
    Verdict.DEAD: Ending(0, "it does not work"),
    Verdict.UNPROVABLE: Ending(5, "nothing can tell whether it works"),
    Verdict.INCONCLUSIVE: Ending(1, "the probe failed: nothing is known"),
}

REASONS: dict[Reason, Ending] = {
    Reason.NEEDS_SELECTION: Ending(
        3, "which credential it is could not be told", "look at the candidates, then: revoq jobs select ID CANDIDATE"
    ),
    Reason.NOT_RECOGNISED: Ending(
        3,
        "refused at the first probe, with no evidence that this account ever knew it",
        "check region, host and connection; then: revoq jobs retry ID",
    ),
    Reason.NOT_OURS: Ending(
        3,
        "it belongs to an account that the connection does not own",
        "tell its owner; or, if it is yours: revoq jobs force ID",
    ),
    Reason.PROTECTED: Ending(
        3,
        "it is our own identity, or on the protected list",
        "take it off the list if it has to die, then retry; or: revoq jobs force ID",
    ),
    Reason.OUTCOME_UNKNOWN: Ending(
        3, "a request left and nobody can say what it did", "look at the provider, then retry or cancel"
    ),
    Reason.STILL_ALIVE: Ending(
        4, "it still works after it was revoked", "revoke it by hand, then: revoq jobs retry ID"
    ),
    Reason.WRONG_ONE: Ending(4, "another credential was removed, and this one still works", "this is an incident"),
    Reason.DENIED: Ending(
        3, "a permission is missing, or a secret that signs or opens", "give what is lacking, then: revoq jobs retry ID"
    ),
    Reason.PROVIDER_BROKEN: Ending(3, "the provider's answer is not one that the rule knows", "see the evidence"),
    Reason.BUDGET_SPENT: Ending(3, "it was tried for as long as the settings allow", "revoq jobs retry ID"),
    Reason.PLAN_CHANGED: Ending(
        3, "its rule, or what a plan said of it, is another by now", "see what changed, then retry"
    ),
    Reason.STILL_IN_USE: Ending(3, "the old key was used after the new one was delivered", "find who uses it"),
    Reason.SINK_FAILED: Ending(
        3, "a sink is not ready, or does not hold what it should", "mend the sink, then: revoq jobs retry ID"
    ),
    Reason.CAME_BACK: Ending(
        4,
        "it was proved dead, or its revocation has lapsed, and it may be used again",
        "see what was done with it, and revoke it again if it works; this closes when it is dead: revoq jobs retry ID",
    ),
    Reason.NO_ROOM: Ending(
        3,
        "the provider allows no further key beside those that exist",
        "delete one that nobody uses, then: revoq jobs retry ID",
    ),
}

STATES: dict[State, Ending] = {
    State.QUEUED: UNFINISHED,
    State.RUNNING: UNFINISHED,
    State.WAITING: UNFINISHED,
    State.CANCELLED: Ending(1, "cancelled before anything was changed"),
    State.EXPIRED: Ending(0, "its own expiry has passed"),
}

SEVERITY = (0, 5, 6, 3, 1, 4)
"""The exit codes of jobs, the worst last."""


def worst(codes: Iterable[int]) -> int:
    """The exit code that stands for many: what needs a person most."""
    return max(codes, key=SEVERITY.index, default=0)


INCIDENTS = frozenset({SlotState.STOPPED, SlotState.FAILED, SlotState.MISSED})
"""How a slot ends that a person should look at."""


def ended_well(intent: Intent, state: State, verdict: Verdict | None) -> bool:
    """Whether a job that has ended, or is parked, came to what it was for, as far as that can be proved."""
    if intent is Intent.PROBE:
        return verdict in {Verdict.ALIVE, Verdict.DEAD}
    return state in {State.DONE, State.EXPIRED} and ending(state, verdict, None).exit_code in {0, 5}


def ending(state: State, verdict: Verdict | None, reason: Reason | None) -> Ending:
    """What a job in this state is told as, and the exit code that goes with it."""
    if verdict is not None:
        return VERDICTS[verdict]
    if reason is not None:
        return REASONS[reason]
    return STATES[state]
