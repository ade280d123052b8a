"""The audit trail as a file, JSON Lines or CSV: written from a ledger, and loaded again to be verified without one.

    start  version
    row    chain number at hash text, in the order of chain and number; in CSV its event and actor, too
    seal   number chain of hash head: the seal of row `of` of a chain
    head   number signature text
    end    how many lines stand before this one

What nothing protects is not in it, such as the time at which a row was sealed. Each line is written in one way only, so
that every changed byte shows. In CSV a cell that a spreadsheet would take for a formula begins with an apostrophe. What
is wrong with the trail itself is `audit`'s to say; here it is said what is wrong with the file.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import sqlite3
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cache
from pathlib import Path
from typing import Any, BinaryIO

from sqlalchemy import Connection, Engine, NullPool, RowMapping, create_engine, insert, select, tuple_
from sqlalchemy.schema import CreateTable

from rules.errors import BadInput
from worker.ledger import heads as signed
from worker.ledger.audit import Tally, verify
from worker.ledger.chain import PAGE, Fault, Finding, canonical, parsed
from worker.ledger.heads import Signed, Walk
from worker.ledger.tables import audit, heads, jobs, seals, seams

VERSION = 1
FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "'")
"""What a spreadsheet takes for the beginning of a formula; an apostrophe too, so that each can be taken away again."""
COLUMNS = ("kind", "number", "chain", "of", "at", "event", "actor", "hash", "head", "signature", "text")
NUMBERS = frozenset({"number", "of", "at"})
FIELDS = {
    "start": {"number"},
    "row": {"number", "chain", "at", "hash", "text"},
    "seal": {"number", "chain", "of", "hash", "head"},
    "head": {"number", "signature", "text"},
    "end": {"number"},
}
"""The columns of each kind of line, in the order in which the kinds follow each other."""
ORDER = list(FIELDS)
LONGEST = 64 * 1024 * 1024
"""Bytes of a line that are read at most."""
BIGGEST = 2**63
MOST = 20
"""What is told of a file at most: behind the first wrong line others follow."""

Line = dict[str, Any]
Anyhow = "surrogateescape"
"""Bytes that are no text, which only somebody who edits the database can write, come out of a file as they went in."""


class Form(StrEnum):
    """How a trail can be written."""

    JSONL = "jsonl"
    CSV = "csv"


# ── writing ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def export(conn: Connection, form: Form) -> Iterator[bytes]:
    """All lines, the trail as `conn` sees it."""
    yield from written(_trail(conn), form)


def written(trail: Iterable[Line], form: Form) -> Iterator[bytes]:
    """These lines between a start and an end."""
    write = WRITERS[form]
    if form is Form.CSV:
        yield _cells(COLUMNS)
    yield write({"kind": "start", "number": VERSION})
    count = 1
    for line in trail:
        yield write(line)
        count += 1
    yield write({"kind": "end", "number": count})


def row_line(row: RowMapping) -> Line:
    """An audit row as it stands in a file."""
    text = bytes(row["row"]).decode("utf-8", Anyhow)
    place = {"chain": row["job"], "number": row["number"], "at": row["at"]}
    return {"kind": "row", **place, "hash": row["hash"], "text": text}


def _trail(conn: Connection) -> Iterator[Line]:
    place = (audit.c.job, audit.c.number)
    for row in _pages(conn, audit, place):
        yield row_line(row)
    for row in _pages(conn, seals, (seals.c.number,)):
        of = {"chain": row["job"], "of": row["audit_number"]}
        yield {"kind": "seal", "number": row["number"], **of, "hash": row["hash"], "head": row["head"]}
    for head in signed.everyone(conn):
        text = head.statement.decode("utf-8", Anyhow)
        yield {"kind": "head", "number": head.number, "signature": head.signature, "text": text}


def _pages(conn: Connection, table: Any, place: Sequence[Any]) -> Iterator[RowMapping]:
    query = select(table).order_by(*place).limit(PAGE)
    page = conn.execute(query).mappings().all()
    while page:
        yield from page
        behind = tuple_(*place) > tuple_(*(page[-1][column.name] for column in place))
        page = conn.execute(query.where(behind)).mappings().all()


def _json(line: Line) -> bytes:
    # Escapes, and not UTF-8, so that bytes which are no text can be told as well.
    return json.dumps(line, sort_keys=True, separators=(",", ":")).encode() + b"\n"


def _csv(line: Line) -> bytes:
    facts = (parsed(line["text"].encode("utf-8", Anyhow)) or {}) if line["kind"] == "row" else {}
    shown = {name: facts.get(name) for name in ("event", "actor") if isinstance(facts.get(name), str)}
    return _cells([{**shown, **line}.get(column) for column in COLUMNS])


def _cells(cells: Sequence[object]) -> bytes:
    texts = ["" if cell is None else str(cell) for cell in cells]
    paper = io.StringIO()
    csv.writer(paper, lineterminator="\n").writerow(f"'{text}" if text.startswith(FORMULA) else text for text in texts)
    return paper.getvalue().encode("utf-8", Anyhow)


WRITERS: dict[Form, Callable[[Line], bytes]] = {Form.JSONL: _json, Form.CSV: _csv}

# ── reading ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def read(file: BinaryIO) -> Iterator[tuple[int, Line | None]]:
    """Each line with its number; None for one that is not as it was written."""
    first = file.readline(LONGEST)
    form = Form.CSV if first == _cells(COLUMNS) else Form.JSONL
    number = 1
    if form is Form.CSV:
        first, number = file.readline(LONGEST), 2
    while first:
        yield number, _line(first, form)
        first, number = file.readline(LONGEST), number + 1


def _line(raw: bytes, form: Form) -> Line | None:
    """What a line says, if it is written as we write it."""
    try:
        line = _from_csv(raw) if form is Form.CSV else parsed(raw)
        sound = line is not None and _is_sound(line) and WRITERS[form](line) == raw
    except (ValueError, csv.Error):
        return None
    return line if sound else None


def _from_csv(raw: bytes) -> Line:
    (cells,) = csv.reader([raw.decode("utf-8", Anyhow)], strict=True)
    texts = {name: cell.removeprefix("'") for name, cell in zip(COLUMNS, cells, strict=True)}
    wanted = FIELDS.get(texts["kind"], set())
    return {
        "kind": texts["kind"],
        **{name: int(texts[name]) if name in NUMBERS else texts[name] for name in wanted},
    }


def _is_sound(line: Line) -> bool:
    wanted = FIELDS.get(line.get("kind", ""), set()) if isinstance(line.get("kind"), str) else set()
    if not wanted or set(line) != wanted | {"kind"}:
        return False
    for name in wanted:
        value = line[name]
        if name in NUMBERS:
            if type(value) is not int or not -BIGGEST <= value < BIGGEST:
                return False
            continue
        if not isinstance(value, str) or (name != "text" and not value.isascii()):
            return False
        if value.encode("utf-8", Anyhow).decode("utf-8", Anyhow) != value:
            return False
    return True


@dataclass
class Loader:
    """Brings the lines of files into a database that nothing guards, and notes what is wrong with the files."""

    conn: Connection
    findings: list[Finding] = field(default_factory=list)
    _waiting: dict[Any, list[dict[str, Any]]] = field(default_factory=dict)

    def load(self, file: BinaryIO, *, only: str | None = None) -> None:
        """Load a file, or the lines of one kind."""
        last: tuple[int, Any] = (-1, ())
        count = 0
        ended = False
        for number, line in read(file):
            if line is None:
                self._tell("file", number, Fault.EDITED, f"line {number} is not as it was written")
                count += 1
                continue
            if (count == 0) != (line["kind"] == "start"):
                self._tell(
                    "file", number, Fault.MISSING, "it begins with another line than the one that says its version"
                )
            place = _place(line)
            chain, row = _chain(line), line["number"]
            if ended or place <= last:
                fault = Fault.INSERTED if ended or place == last else Fault.MOVED
                self._tell(chain, row, fault, f"line {number} stands where none of its kind belongs")
            last, ended = max(last, place), line["kind"] == "end"
            if line["kind"] == "start" and row != VERSION:
                self._tell("file", number, Fault.EDITED, f"this revoq reads version {VERSION}, and it says {row}")
            elif ended and row != count:
                says = f"it was written with {row} lines before the last, and has {count}"
                self._tell("file", number, Fault.MISSING, says)
            elif line["kind"] in INTO and only in {None, line["kind"]}:
                self._insert(line)
            count += 1
        self._flush()
        if last[0] < 0 or not ended:
            self._tell("file", count + 1, Fault.CUT, "it ends before its last line")

    def mend_seams(self, returned: Collection[str]) -> None:
        """Put up the seams that the heads tell of, but for those whose archives are here."""
        way = Walk()
        for head in signed.everyone(self.conn):
            if way.follow(head) is not None:
                break
        back = {way.digests.get(digest) for digest in returned}
        told = {seam[0]: dict(zip(("first", "last", "head"), seam, strict=True)) for seam in way.seams}
        if rows := [row for row in told.values() if row["head"] not in back]:
            self.conn.execute(insert(seams), rows)

    def _insert(self, line: Line) -> None:
        table, row = INTO[line["kind"]](line)
        self._waiting.setdefault(table, []).append(row)
        if len(self._waiting[table]) >= PAGE:
            self._flush()

    def _flush(self) -> None:
        """Write what has come together. A second row in one place was told already, and is left out."""
        for table, rows in self._waiting.items():
            self.conn.execute(insert(table).prefix_with("OR IGNORE"), rows)
        self._waiting.clear()

    def _tell(self, chain: str, number: int, fault: Fault, says: str) -> None:
        if len(self.findings) < MOST:
            self.findings.append(Finding(chain, number, fault, says))


def _chain(line: Line) -> str:
    """Under which name a finding about the line is told."""
    return str(line.get("chain") or line["kind"])


def _place(line: Line) -> tuple[int, Any]:
    kind = line["kind"]
    within = (line["chain"], line["number"]) if kind == "row" else ("", line["number"])
    return ORDER.index(kind), within if kind in INTO else ()


def _row(line: Line) -> tuple[Any, dict[str, Any]]:
    text = line["text"].encode("utf-8", Anyhow)
    return audit, {"job": line["chain"], "number": line["number"], "at": line["at"], "row": text, "hash": line["hash"]}


def _seal(line: Line) -> tuple[Any, dict[str, Any]]:
    of = {"job": line["chain"], "audit_number": line["of"]}
    return seals, {"number": line["number"], **of, "hash": line["hash"], "head": line["head"], "sealed_at": 0}


def _head(line: Line) -> tuple[Any, dict[str, Any]]:
    text = line["text"].encode("utf-8", Anyhow)
    return heads, {"number": line["number"], "statement": text, "signature": line["signature"]}


INTO: dict[str, Callable[[Line], tuple[Any, dict[str, Any]]]] = {"row": _row, "seal": _seal, "head": _head}

# ── verifying ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def verify_file(
    file: BinaryIO,
    tally: Tally,
    *,
    anchors: Collection[str] = (),
    delivered: Iterable[Signed] = (),
    archives: Sequence[Path] = (),
) -> list[Finding]:
    """What is wrong with an export, with nothing but the public key and the delivered heads to go by.

    Rows that left with these `archives` are checked as well. Memory stays flat: what is read goes to a temporary file.
    """
    with _scratch() as conn:
        loader = Loader(conn)
        loader.load(file)
        returned = set()
        for path in archives:
            returned.add(digest(path))
            with path.open("rb") as archive:
                loader.load(archive, only="row")
        loader.mend_seams(returned)
        found = list(verify(conn, tally, anchors=anchors, delivered=delivered, returned=returned, exported=True))
        return loader.findings + found


def digest(path: Path) -> str:
    """The SHA-256 of a file, as a seam tells it."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def _scratch() -> Iterator[Connection]:
    """A database of SQLite's own for a moment, in memory as long as it is small."""
    engine, tables = _blank()
    with engine.connect() as conn:
        conn.exec_driver_sql("BEGIN")
        for table in tables:
            conn.exec_driver_sql(table)
        yield conn


@cache
def _blank() -> tuple[Engine, list[str]]:
    """What opens a new database each time, and the tables that it needs; no connection is kept."""
    engine = create_engine("sqlite://", creator=lambda: sqlite3.connect("", isolation_level=None), poolclass=NullPool)
    return engine, [str(CreateTable(table).compile(engine)) for table in (audit, seals, heads, seams, jobs)]


# ── delivered heads ───────────────────────────────────────────────────────────────────────────────────────────────────


def head_line(head: Signed) -> bytes:
    """A head as it is delivered: one line of JSON."""
    text = head.statement.decode("utf-8", Anyhow)
    return canonical({"number": head.number, "signature": head.signature, "statement": text}) + b"\n"


def head_of(line: bytes) -> Signed | None:
    """A delivered head, or None where the line is none."""
    said = parsed(line)
    if said is None or set(said) != {"number", "signature", "statement"}:
        return None
    number, signature, statement = said["number"], said["signature"], said["statement"]
    if type(number) is not int or not isinstance(signature, str) or not isinstance(statement, str):
        return None
    try:
        return Signed(number, statement.encode("utf-8", Anyhow), signature)
    except UnicodeEncodeError:
        return None


def read_heads(path: Path) -> Iterator[Signed]:
    """The heads of a file that a sink has written. A line that a crash has torn is delivered again behind it."""
    torn: list[tuple[int, bytes]] = []
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, 1):
                head = head_of(line)
                if head is None and line.endswith(b"\n"):
                    torn.append((number, line.rstrip(b"\n")))
                if head is None:
                    continue
                torn = [rest for rest in torn if not line.startswith(rest[1])]
                yield head
    except OSError as error:
        raise BadInput(f"cannot read {path}: {error.strerror}") from None
    if torn:
        raise BadInput(f"{path}, line {torn[0][0]}: expected a head as an audit sink writes it, got something else")
