"""The moves on the ledger: one verb per transition, each one transaction with its audit row; nobody else sets a state.

A worker's verbs take its `Claim`: every write repeats the fence, and ClaimLost says that somebody else was there first.
A person's verbs take an `actor`. What is allowed stands in `rules.lifecycle.MOVES`; what comes next, in `rules.decide`.

Locks are taken in one order, so that no two moves wait for each other: schedule, bells, holds, repetitions, account,
job, credential, secrets, rechecks, global chain, counters.
"""

from worker.ledger.moves.carrying import Also, expire, extend, finish, give_back, intend, note, park, record, wait
from worker.ledger.moves.claiming import claim
from worker.ledger.moves.holds import HELD, hold_off, hold_on
from worker.ledger.moves.pieces import permit, plain
from worker.ledger.moves.ringing import INCIDENT_SHARE, ring, ring_due, unring
from worker.ledger.moves.sealed import shred
from worker.ledger.moves.steering import BACK, cancel, cancel_within, force, look_on, retry, roll_back, tell
from worker.ledger.moves.submitting import (
    cleaned,
    join,
    leave_gate,
    opening,
    submit,
    submit_and_ring,
    submit_within,
    word_of,
)

__all__ = [
    "BACK",
    "HELD",
    "INCIDENT_SHARE",
    "Also",
    "cancel",
    "cancel_within",
    "claim",
    "cleaned",
    "expire",
    "extend",
    "finish",
    "force",
    "give_back",
    "hold_off",
    "hold_on",
    "intend",
    "join",
    "leave_gate",
    "look_on",
    "note",
    "opening",
    "park",
    "permit",
    "plain",
    "record",
    "retry",
    "ring",
    "ring_due",
    "roll_back",
    "shred",
    "submit",
    "submit_and_ring",
    "submit_within",
    "tell",
    "unring",
    "wait",
    "word_of",
]
