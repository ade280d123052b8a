"""The one table of states, verdicts, reasons and exit codes is whole."""

from __future__ import annotations

import pytest

from rules.lifecycle import MOVES, OPEN, REASONS, STATES, VERDICTS, Reason, State, Verdict, ending


def test_every_verdict_and_reason_is_told() -> None:
    """Nothing can end without words and an exit code for the person who asked."""
    assert set(VERDICTS) == set(Verdict)
    assert set(REASONS) == set(Reason)
    assert set(STATES) | {State.DONE, State.PARKED} == set(State)
    assert all(told.says for told in (*VERDICTS.values(), *REASONS.values(), *STATES.values()))


def test_final_states_have_no_way_out() -> None:
    """Done, cancelled and expired are ends; every other state can be left and reached."""
    final = set(State) - OPEN
    assert final == {State.DONE, State.CANCELLED, State.EXPIRED}
    assert not any(before in final for before, _ in MOVES)
    assert {before for before, _ in MOVES} == OPEN
    assert {after for _, after in MOVES} == set(State)


@pytest.mark.parametrize(
    ("state", "verdict", "reason", "code"),
    [
        (State.DONE, Verdict.REVOKED, None, 0),
        (State.DONE, Verdict.ALREADY_REVOKED, None, 0),
        (State.DONE, Verdict.ACKNOWLEDGED, None, 5),
        (State.DONE, Verdict.ALIVE, None, 4),
        (State.PARKED, None, Reason.NEEDS_SELECTION, 3),
        (State.PARKED, None, Reason.STILL_ALIVE, 4),
        (State.CANCELLED, None, None, 1),
        (State.WAITING, None, None, 6),
    ],
)
def test_exit_codes_are_those_of_the_door(
    state: State, verdict: Verdict | None, reason: Reason | None, code: int
) -> None:
    """0 done as asked, 1 failed, 3 parked, 4 still alive, 5 unprovable, 6 still settling."""
    assert ending(state, verdict, reason).exit_code == code


def test_advice_names_only_commands_that_exist() -> None:
    """A person who is told to type something can type it."""
    known = {"jobs show", "jobs select", "jobs retry", "jobs force"}
    advised = [word for told in REASONS.values() for word in told.advice.split("revoq ")[1:]]

    assert all(" ".join(advice.split()[:2]) in known for advice in advised)
