"""Several writes that belong together in one round trip; what is written, and why, is for `moves` to say.

PostgreSQL takes a statement that changes one row and, only where it did, does the rest as well: a change and what hangs
on it are one statement, and so one transaction where they are alone. SQLite, for which a statement is a call of a
function, gets them one after the other.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, NamedTuple

from sqlalchemy import Connection, Dialect, Insert, Update, bindparam, exists, literal_column, select, table

MOVED = table("moved")
"""What the first statement has changed; the others are done as often as it has rows."""
SHAPES = 512
"""How many different statements are remembered; each is a set of writes and of the columns that they set."""


class Write(NamedTuple):
    """A statement without its values, and its values: columns that it sets, and parameters that it names."""

    statement: Insert | Update
    values: Mapping[str, Any]


class _Parameter(NamedTuple):
    """Where one parameter of the whole gets its value: which write, and under which name there."""

    name: str
    place: int
    key: str
    process: Callable[[Any], Any] | None


class _Whole(NamedTuple):
    text: str
    fixed: Mapping[str, Any]
    parameters: tuple[_Parameter, ...]


def change(conn: Connection, first: Write, *then: Write) -> bool:
    """Do the first write, which changes one row or none, and only where it changed one the others; whether it did.

    The others see the tables as they were before the first, and must not touch a row that another one of them touches.
    """
    if conn.dialect.name != "postgresql":
        if conn.execute(first.statement, first.values).rowcount == 0:
            return False
        for write in then:
            conn.execute(write.statement, write.values)
        return True
    writes = (first, *then)
    whole = _whole(conn.dialect, tuple((write.statement, tuple(write.values)) for write in writes))
    values = dict(whole.fixed)
    for name, place, key, process in whole.parameters:
        value = writes[place].values[key]
        values[name] = value if process is None else process(value)
    return bool(conn.exec_driver_sql(whole.text, values).scalar_one())


@lru_cache(SHAPES)
def _whole(dialect: Dialect, shape: tuple[tuple[Insert | Update, tuple[str, ...]], ...]) -> _Whole:
    """One statement out of many: WITH moved AS (the first), others AS (…) SELECT whether anything moved."""
    fixed: dict[str, Any] = {}
    parameters: list[_Parameter] = []
    parts = []
    for place, (statement, names) in enumerate(shape):
        part = _first(statement) if place == 0 else _follower(statement, names)
        columns = [name for name in names if name in statement.table.c]
        compiled = part.compile(dialect=dialect, column_keys=None if isinstance(part, Insert) else columns)
        renamed = {name: f"{name}_{place}" for name in compiled.bind_names.values()}
        for bind, name in compiled.bind_names.items():
            key = name.removeprefix("new_")
            process = bind.type.dialect_impl(dialect).bind_processor(dialect)
            if key in names:
                parameters.append(_Parameter(renamed[name], place, key, process))
            else:
                value = compiled.params[name]
                fixed[renamed[name]] = value if process is None else process(value)
        text = compiled.string % {name: f"%({new})s" for name, new in renamed.items()}
        parts.append(f"{MOVED.name if place == 0 else f'then_{place}'} AS ({text})")
    whole = f"WITH {', '.join(parts)} SELECT count(*) FROM {MOVED.name}"  # noqa: S608 - statements of our own, from above
    return _Whole(whole, fixed, tuple(parameters))


def _first(statement: Insert | Update) -> Insert | Update:
    return statement.returning(literal_column("1"))


def _follower(statement: Insert | Update, names: tuple[str, ...]) -> Insert | Update:
    """The same, done only where the first statement changed its row."""
    if isinstance(statement, Update):
        return statement.where(exists(select(literal_column("1")).select_from(MOVED)))
    # A parameter of an INSERT must not be called like one of its columns.
    new = [bindparam(f"new_{name}", type_=statement.table.c[name].type) for name in names]
    return statement.from_select(names, select(*new).select_from(MOVED))
