"""Several writes that belong together in one round trip; what is written, and why, is for `moves` to say.

PostgreSQL takes a statement that changes one row and, only where it did, does the rest as well: a change and what hangs
on it are one statement, and so one transaction where they are alone. SQLite, for which a statement is a call of a
function, gets them one after the other.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
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
    """Where one parameter gets its value: from a write, by its place and a name there; or it is always the same."""

    name: str
    place: int
    key: str | None
    fixed: Any
    process: Callable[[Any], Any] | None

    def value(self, writes: Sequence[Write]) -> Any:
        """What the driver gets."""
        if self.key is None:
            return self.fixed
        value = writes[self.place].values[self.key]
        return value if self.process is None else self.process(value)


class _Whole(NamedTuple):
    """One statement as the driver takes it, and its parameters in their order."""

    text: str
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
    if isinstance(write.statement, Select):
        return 0
    one = _one(conn.dialect, write.statement, tuple(write.values))
    return conn.exec_driver_sql(one.text, tuple(each.value((write,)) for each in one.parameters)).rowcount


def _at_once(conn: Connection, writes: tuple[Write, ...], *, gated: bool) -> int:
    """How many rows were changed by what counts: by the row that follows the first write, or by that one alone."""
    whole = _whole(conn.dialect, tuple((write.statement, tuple(write.values)) for write in writes), gated=gated)
    return conn.exec_driver_sql(whole.text, {each.name: each.value(writes) for each in whole.parameters}).rowcount


@lru_cache(SHAPES)
def _one(dialect: Dialect, statement: Statement, names: tuple[str, ...]) -> _Whole:
    """A statement by itself, for a driver that counts its parameters."""
    compiled = _compile(dialect, statement, [name for name in names if name in _columns(statement)])
    known = {each.name: each for each in _parameters(compiled, dialect, names, 0)}
    return _Whole(compiled.string, tuple(known[name] for name in compiled.positiontup or ()))


@lru_cache(SHAPES)
def _whole(dialect: Dialect, shape: tuple[tuple[Statement, tuple[str, ...]], ...], *, gated: bool) -> _Whole:
    """One statement out of many: WITH moved AS (the first), then_1 AS (the second) … and the one that counts at last.

    That is an INSERT where there is one: it returns no rows, which would cost more than to count them.
    """
    statements = [statement for statement, _ in shape]
    last = next((place for place, each in enumerate(statements) if isinstance(each, Insert)), len(shape) - 1)
    locks = [_name(place) for place, each in enumerate(statements) if isinstance(each, Select)]
    parameters: list[_Parameter] = []
    parts, end = [], ""
    for place, (statement, names) in enumerate(shape):
        if gated and place == 0:
            part, called = _leader(statement, alone=len(shape) == 1), MOVED.name
        else:
            after = [MOVED.name] * gated + (locks if place == last else [])
            part, called = _follower(statement, names, after), _name(place)
        sets = [name for name in names if name in _columns(statement)] if isinstance(statement, Update) else None
        compiled = _compile(dialect, part, sets)
        said = {}
        for each in _parameters(compiled, dialect, names, place):
            if each.key is None:
                # psycopg reads a statement of more than 50 parameters anew each time.
                said[each.name] = _written_down(compiled, each.name)
            else:
                said[each.name] = f"%({each.name}_{place})s"
                parameters.append(each._replace(name=f"{each.name}_{place}"))
        text = compiled.string % said
        if place == last:
            end = text
        else:
            parts.append(f"{called} AS ({text})")
    return _Whole(f"WITH {', '.join(parts)} {end}" if parts else end, tuple(parameters))


def _compile(dialect: Dialect, part: ClauseElement, sets: Sequence[str] | None) -> SQLCompiler:
    compiled = part.compile(dialect=dialect, column_keys=sets)
    if not isinstance(compiled, SQLCompiler):
        raise TypeError(f"expected a statement, got {type(part).__name__}")
    return compiled


def _parameters(compiled: SQLCompiler, dialect: Dialect, names: tuple[str, ...], place: int) -> Iterator[_Parameter]:
    """Every parameter that a statement has, by the name that it has there."""
    for bind, name in compiled.bind_names.items():
        key = name.removeprefix(NEW)
        process = bind.type.dialect_impl(dialect).bind_processor(dialect)
        if key in names:
            yield _Parameter(name, place, key, None, process)
        else:
            value = compiled.params[name]
            yield _Parameter(name, place, None, value if process is None else process(value), None)


def _written_down(compiled: SQLCompiler, name: str) -> str:
    """A parameter that always has the same value, as it stands in the text of a statement."""
    return compiled.render_literal_value(compiled.params[name], compiled.binds[name].type)


def _columns(statement: Statement) -> Collection[str]:
    return () if isinstance(statement, Select) else statement.table.c.keys()


def _name(place: int) -> str:
    return f"then_{place}"


def _leader(statement: Statement, *, alone: bool) -> ClauseElement:
    if not isinstance(statement, Update):
        raise TypeError(f"an UPDATE goes first, and not {type(statement).__name__}")
    return statement if alone else statement.returning(literal_column("1"))


def _follower(statement: Statement, names: tuple[str, ...], after: list[str]) -> ClauseElement:
    """The same, done once for each row of what it comes `after`; an INSERT of what it selects itself, just once."""
    if isinstance(statement, Insert) and statement.select is not None:
        if after:
            raise TypeError("an INSERT of what it selects itself comes after nothing")
        return statement
    if isinstance(statement, Insert):
        # A parameter of an INSERT must not be called like one of its columns.
        row = select(*(bindparam(f"{NEW}{name}", type_=statement.table.c[name].type) for name in names))
        return statement.from_select(names, row.select_from(*map(table, after)))
    return statement.where(*(exists(select(literal_column("1")).select_from(table(name))) for name in after))
