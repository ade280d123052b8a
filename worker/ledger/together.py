"""Several writes that belong together in one round trip; what is written, and why, is for `moves` to say.

PostgreSQL takes a statement that changes one row and, only where it did, does the rest as well: a change and what hangs
on it are one statement, and so one transaction where they are alone. SQLite, for which a statement is a call of a
function, gets them one after the other.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, NamedTuple

from sqlalchemy import (
    ClauseElement,
    Connection,
    Dialect,
    Insert,
    Select,
    Update,
    bindparam,
    exists,
    literal_column,
    select,
    table,
)
from sqlalchemy.sql.compiler import SQLCompiler

MOVED = table("moved")
"""What the first statement has changed; the others are done as often as it has rows."""
NEW = "new_"
"""What the names of an INSERT's parameters begin with."""
Statement = Insert | Update | Select[Any]
SHAPES = 512
"""How many different statements are remembered; each is a set of writes and of the columns that they set."""


class Write(NamedTuple):
    """A statement without its values, and its values: columns that it sets, and parameters that it names.

    A SELECT among others is there for the rows that it locks.
    """

    statement: Statement
    values: Mapping[str, Any]


class _Parameter(NamedTuple):
    """Where one parameter of the whole gets its value: which write, and under which name there."""

    name: str
    place: int
    key: str
    process: Callable[[Any], Any] | None


class _Whole(NamedTuple):
    """One statement, the values that are always the same, and where the others come from."""

    text: str
    fixed: Mapping[str, Any]
    parameters: tuple[_Parameter, ...]


def change(conn: Connection, first: Write, *then: Write) -> bool:
    """Do the first write, which changes one row or none, and only where it changed one the others; whether it did.

    The others see the tables as they were before the first, and must not touch a row that another one of them touches.
    """
    if conn.dialect.name == "postgresql":
        return _at_once(conn, (first, *then), gated=True) > 0
    if _do(conn, first) == 0:
        return False
    for write in then:
        _do(conn, write)
    return True


def write(conn: Connection, *writes: Write) -> None:
    """Do all of them, each of which sees the tables as they were before the others."""
    if conn.dialect.name == "postgresql":
        _at_once(conn, writes, gated=False)
    else:
        for each in writes:
            _do(conn, each)


def _do(conn: Connection, write: Write) -> int:
    """How many rows it has changed. Whoever writes to SQLite is alone, and has no row to lock."""
    return 0 if isinstance(write.statement, Select) else conn.execute(write.statement, write.values).rowcount


def _at_once(conn: Connection, writes: tuple[Write, ...], *, gated: bool) -> int:
    """How many rows were changed by what counts: by the row that follows the first write, or by that one alone."""
    whole = _whole(conn.dialect, tuple((write.statement, tuple(write.values)) for write in writes), gated=gated)
    values = dict(whole.fixed)
    for name, place, key, process in whole.parameters:
        value = writes[place].values[key]
        values[name] = value if process is None else process(value)
    return conn.exec_driver_sql(whole.text, values).rowcount


@lru_cache(SHAPES)
def _whole(dialect: Dialect, shape: tuple[tuple[Statement, tuple[str, ...]], ...], *, gated: bool) -> _Whole:
    """One statement out of many: WITH moved AS (the first), then_1 AS (the second) … and the one that counts at last.

    That is an INSERT where there is one: it returns no rows, which would cost more than to count them.
    """
    statements = [statement for statement, _ in shape]
    last = next((place for place, each in enumerate(statements) if isinstance(each, Insert)), len(shape) - 1)
    locks = [_name(place) for place, each in enumerate(statements) if isinstance(each, Select)]
    fixed: dict[str, Any] = {}
    parameters: list[_Parameter] = []
    parts, end = [], ""
    for place, (statement, names) in enumerate(shape):
        if gated and place == 0:
            part, called = _leader(statement, alone=len(shape) == 1), MOVED.name
        else:
            after = [MOVED.name] * gated + (locks if place == last else [])
            part, called = _follower(statement, names, after), _name(place)
        columns = [name for name in names if name in statement.table.c] if isinstance(statement, Update) else None
        compiled = part.compile(dialect=dialect, column_keys=columns)
        if not isinstance(compiled, SQLCompiler):
            raise TypeError(f"expected a statement, got {type(part).__name__}")
        renamed = {name: f"{name}_{place}" for name in compiled.bind_names.values()}
        for bind, name in compiled.bind_names.items():
            key = name.removeprefix(NEW)
            process = bind.type.dialect_impl(dialect).bind_processor(dialect)
            if key in names:
                parameters.append(_Parameter(renamed[name], place, key, process))
            else:
                value = compiled.params[name]
                fixed[renamed[name]] = value if process is None else process(value)
        text = compiled.string % {name: f"%({new})s" for name, new in renamed.items()}
        if place == last:
            end = text
        else:
            parts.append(f"{called} AS ({text})")
    return _Whole(f"WITH {', '.join(parts)} {end}" if parts else end, fixed, tuple(parameters))


def _name(place: int) -> str:
    return f"then_{place}"


def _leader(statement: Statement, *, alone: bool) -> ClauseElement:
    if not isinstance(statement, Update):
        raise TypeError(f"an UPDATE goes first, and not {type(statement).__name__}")
    return statement if alone else statement.returning(literal_column("1"))


def _follower(statement: Statement, names: tuple[str, ...], after: list[str]) -> ClauseElement:
    """The same, done once for each row of what it comes `after`."""
    if isinstance(statement, Insert):
        # A parameter of an INSERT must not be called like one of its columns.
        row = select(*(bindparam(f"{NEW}{name}", type_=statement.table.c[name].type) for name in names))
        return statement.from_select(names, row.select_from(*map(table, after)))
    return statement.where(*(exists(select(literal_column("1")).select_from(table(name))) for name in after))
