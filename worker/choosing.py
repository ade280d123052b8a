"""What a list comes to: its one row with the values in it, or the candidates; how the list is read is `steps`'."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rules.errors import ExtractError
from rules.lifecycle import Outcome
from rules.schema import Select
from rules.select import Ambiguous, Chosen, choose
from worker.reading import extractions, take_values
from worker.step import Filling, Result


def single_out(
    filling: Filling,
    select: Select,
    rows: Sequence[object],
    kept: Mapping[str, Any],
    *,
    read_so_far: str,
    cut_off: str = "",
) -> Result:
    """Choose the one row and take the values out of it; `cut_off` says why the list was not read to its end."""
    choice = choose(
        select,
        rows,
        filling.values,
        tied=filling.choosing.tied,
        complete=not cut_off,
        picked=filling.choosing.picked,
        trusted=filling.choosing.trusted,
    )
    if isinstance(choice, Ambiguous):
        found = {**kept, "candidates": list(choice.candidates)}
        return Result(Outcome.AMBIGUOUS, f"{cut_off or choice.why} ({read_so_far})", evidence=found)
    if not isinstance(choice, Chosen):
        return Result(Outcome.NO_ROW, f"the list was read to its end and no row fits ({read_so_far})", evidence=kept)
    try:
        taken, secrets = take_values(extractions(filling), choice.answer, filling.values)
    except ExtractError as error:
        return Result(Outcome.BROKEN, f"the row was found, but {error}", evidence=kept)
    return Result(Outcome.OK, f"exactly one row fits ({read_so_far})", taken=taken, secrets=secrets, evidence=kept)
