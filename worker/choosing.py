"""What a list comes to: its one row with the values in it, or the candidates, or all ids; reading it is `steps`'."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rules.errors import ExtractError
from rules.lifecycle import Outcome
from rules.message import Answer
from rules.schema import Existing, Select, Step
from rules.schema.rotation import EXISTING
from rules.select import Ambiguous, Chosen, choose, ids_of, rows_of
from worker.reading import conclude, evidence, extractions, read, take_values
from worker.safe import Safe
from worker.step import Filling, Result


def conclude_whole(filling: Filling, answer: Answer, safe: Safe, shown: str) -> Result:
    """Read an answer that is everything at once; where it is a list, choose among its rows, or keep their ids."""
    part = filling.part
    select = part.select if isinstance(part, Step | Existing) else None
    if select is None or read(filling, answer) is not Outcome.OK:
        return conclude(filling, answer, safe, shown)
    kept = evidence(filling, answer, safe)
    try:
        rows = rows_of(select, answer)
    except ExtractError as error:
        return Result(Outcome.BROKEN, f"{shown} was answered {answer.status}, but {error}", evidence=kept)
    kept, so_far = {**kept, "rows": len(rows)}, f"{len(rows)} rows"
    if isinstance(part, Existing):
        return keep_ids(part, rows, kept, read_so_far=so_far)
    return single_out(filling, select, rows, kept, read_so_far=so_far)


def keep_ids(existing: Existing, rows: Sequence[object], kept: Mapping[str, Any], *, read_so_far: str) -> Result:
    """Keep the id of every row, so that what comes to the list later can be told; or say that there is no room."""
    try:
        ids = ids_of(existing.select, rows)
    except ExtractError as error:
        return Result(Outcome.BROKEN, str(error), evidence=kept)
    if existing.room is not None and len(ids) > existing.room:
        says = f"there are {len(ids)} already ({', '.join(ids)}), and a new one needs that there are {existing.room}"
        return Result(Outcome.FULL, f"{says} at most: delete one that nobody uses", evidence=kept)
    return Result(Outcome.OK, read_so_far, taken={EXISTING: "\n".join(ids)}, evidence=kept)


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
