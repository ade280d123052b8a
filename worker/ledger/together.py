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
    whole = _whole(conn.dialect, tuple((write.statement, tuple(write.values)) for write in writes), gated=gated)
    values = dict(whole.fixed)
    for name, place, key, process in whole.parameters:
        value = writes[place].values[key]
        values[name] = value if process is None else process(value)
    return int(conn.exec_driver_sql(whole.text, values).one()[0])


@lru_cache(SHAPES)
def _whole(dialect: Dialect, shape: tuple[tuple[Statement, tuple[str, ...]], ...], *, gated: bool) -> _Whole:
    """One statement out of many: WITH moved AS (the first), then_1 AS (the second) … SELECT how many rows moved."""
    fixed: dict[str, Any] = {}
    parameters: list[_Parameter] = []
    parts, counted = [], []
    for place, (statement, names) in enumerate(shape):
        leads = gated and place == 0
        part = _leader(statement) if leads else _follower(statement, names, gated=gated)
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
        called = MOVED.name if leads else f"then_{place}"
        parts.append(f"{called} AS ({text})")
        if leads or isinstance(statement, Select):
            # A SELECT that nobody asks is not done.
            counted.append(f"(SELECT count(*) FROM {called})")  # noqa: S608 - names of our own
    return _Whole(f"WITH {', '.join(parts)} SELECT {', '.join(counted) or '0'}", fixed, tuple(parameters))


def _leader(statement: Statement) -> ClauseElement:
    if not isinstance(statement, Update):
        raise TypeError(f"an UPDATE goes first, and not {type(statement).__name__}")
    return statement.returning(literal_column("1"))


def _follower(statement: Statement, names: tuple[str, ...], *, gated: bool) -> ClauseElement:
    """The same, where it is gated done only if the first statement has changed its row."""
    if isinstance(statement, Insert):
        # A parameter of an INSERT must not be called like one of its columns.
        row = select(*(bindparam(f"{NEW}{name}", type_=statement.table.c[name].type) for name in names))
        return statement.from_select(names, row.select_from(MOVED) if gated else row)
    return statement.where(exists(select(literal_column("1")).select_from(MOVED))) if gated else statement
