"""Exactly one row of a list, or a refusal with the candidates; never the first of several."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime

import regex

from rules.errors import ExtractError
from rules.extract import Values, find, row_answer, scalar
from rules.message import Answer, Prepared
from rules.request import follow, set_parameter
from rules.schema import Condition, Paging, Select
from rules.template import Place, compile_template

MOST_ROWS = 200_000
LATEST = 1e11
"""A number of seconds that no time reaches: more are milliseconds, and comparing those would be wrong in silence."""
EVERY_ITEM = "[*]"

Candidate = dict[str, object]
"""What a person picks by: the row's `id`, and `shown`, the fields that tell candidates apart."""


# ── the rows ──────────────────────────────────────────────────────────────────────────────────────────────────────


class Listing:
    """A list that is read page by page: `first` is its first request, `add` reads an answer and gives the next one.

    A list by offset or page goes on until its `total` is reached, or where there is none, until a page is empty: a page
    that is merely short is what a provider answers too that allows fewer rows than were asked for.
    """

    def __init__(self, select: Select, prepared: Prepared) -> None:
        """Put the first page's parameters in."""
        self._select, self._page = select, select.page
        self.rows: list[object] = []
        self.pages = 0
        self.complete = False
        self.cut_off = ""
        self._total: int | None = None
        self.is_short = False
        self.first = self._current = _start(self._page, prepared)

    def add(self, answer: Answer) -> Prepared | None:
        """Take a page in; None where the list ends, with `complete` or with `cut_off`, which says why it is not."""
        rows = rows_of(self._select, answer)
        self.rows += rows
        self.pages += 1
        self.is_short = self._page is not None and len(rows) < self._page.size
        following = self._next(answer, rows)
        if isinstance(following, str):
            self.complete, self.cut_off = not following, following
            return None
        self._current = following
        return following

    def _next(self, answer: Answer, rows: Sequence[object]) -> Prepared | str:
        """The next request, or why there is none: an empty text where the list is complete."""
        page = self._page
        if page is None:
            return "the answer links to a next page, and the rule says nothing of pages" if _next_link(answer) else ""
        total = _total(page, answer)
        if self._total not in {None, total}:
            return f"the list changed while it was read: it had {self._total} rows, and then {total}"
        self._total = total
        if len(self.rows) > MOST_ROWS:
            return f"there are more than {MOST_ROWS} rows"
        if page.kind in {"cursor", "link"}:
            return self._go_on(page, answer) or self._ends(total)
        if not rows or (total is not None and len(self.rows) >= total):
            return self._ends(total)
        if len(rows) > page.size:
            return f"a page held {len(rows)} rows, more than the {page.size} that were asked for"
        return self._within_limit(page) or set_parameter(self._current, page.parameter or "", str(self._position(page)))

    def _go_on(self, page: Paging, answer: Answer) -> Prepared | str:
        """Follow what the answer says comes next; an empty text where it says that nothing does."""
        following = _next_link(answer) if page.kind == "link" and page.next is None else _next_value(page, answer)
        if not following:
            return ""
        limit = self._within_limit(page)
        if limit:
            return limit
        try:
            if page.kind == "link":
                request = follow(self._current, following)
            else:
                request = set_parameter(self._current, page.parameter or "", following)
        except ExtractError as error:
            return str(error)
        return "the list's next page is the page before it" if request.url == self._current.url else request

    def _within_limit(self, page: Paging) -> str:
        return f"there are more than {page.most} pages" if self.pages >= page.most else ""

    def _position(self, page: Paging) -> int:
        # By the rows that came, not by those that were asked for: the provider may allow fewer.
        return page.first + (len(self.rows) if page.kind == "offset" else self.pages)

    def _ends(self, total: int | None) -> str:
        if total is not None and len(self.rows) < total:
            return f"the answer speaks of {total} rows and gave {len(self.rows)}"
        return ""


def rows_of(select: Select, answer: Answer) -> list[object]:
    """The rows of one page; a list that is not where the rule says is an error, and not an empty list.

    Where the rule calls the whole answer (`$`) the rows, and knows of no pages, an object is one row, for which the
    conditions have to hold as for any other.
    """
    path = select.rows.strip().removesuffix(EVERY_ITEM) or "$"
    try:
        document = answer.json
    except ValueError:
        document = None
    found = find(path, document)
    if is_one_row(select) and isinstance(document, dict):
        return [document]
    if len(found) != 1 or not isinstance(found[0], list):
        raise ExtractError(f"expected a list at {select.rows} in the answer (status {answer.status}); there is none")
    return list(found[0])


def is_one_row(select: Select) -> bool:
    """Whether the answer may be the row itself; `$[*]` asks for a list."""
    return select.page is None and select.rows.strip() == "$"


def _start(page: Paging | None, prepared: Prepared) -> Prepared:
    if page is None:
        return prepared
    if page.size_parameter:
        prepared = set_parameter(prepared, page.size_parameter, str(page.size))
    if page.kind in {"offset", "page"}:
        prepared = set_parameter(prepared, page.parameter or "", str(page.first))
    return prepared


def _total(page: Paging, answer: Answer) -> int | None:
    if page.total is None:
        return None
    found = find(page.total, answer.json)
    if len(found) != 1 or not isinstance(found[0], int) or isinstance(found[0], bool):
        raise ExtractError(f"expected how many rows there are at {page.total}, found no whole number there")
    return found[0]


def _next_value(page: Paging, answer: Answer) -> str:
    found = find(page.next or "$", answer.json)
    if not found or found[0] in (None, False, ""):
        return ""
    text = scalar(found[0])
    if len(found) > 1 or text is None:
        raise ExtractError(f"expected one text at {page.next} to go on with, found something else")
    return text


def _next_link(answer: Answer) -> str:
    """The address with rel=next in the Link header (RFC 8288)."""
    for link in regex.finditer(r"<([^>]*)>((?:[^,\"]|\"[^\"]*\")*)", answer.headers.get("link", "")):
        if regex.search(r";\s*rel\s*=\s*(?:\"[^\"]*\bnext\b[^\"]*\"|next\b)", link[2], regex.IGNORECASE):
            return str(link[1])
    return ""


# ── the choice ────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Chosen:
    """The one row, and the row as an answer, for the extractors."""

    row: object = field(repr=False)

    @property
    def answer(self) -> Answer:
        """The row alone, as if it had been the whole answer."""
        return row_answer(self.row)


@dataclass(frozen=True, slots=True)
class NoRow:
    """The list was read to its end, and no row fits."""


@dataclass(frozen=True, slots=True)
class Ambiguous:
    """It cannot be told which row is meant, and why; a person has to pick."""

    candidates: tuple[Candidate, ...]
    why: str


Choice = Chosen | NoRow | Ambiguous


def choose(
    select: Select,
    rows: Sequence[object],
    values: Values,
    *,
    complete: bool,
    tied: frozenset[str] = frozenset(),
    picked: str | None = None,
    trusted: bool = False,
) -> Choice:
    """Choose the one row for which every condition holds; `tied` are the names that tie a row to the credential.

    `picked` is the id that a person chose; `trusted` lets a single row through that no condition ties.
    """
    fitting = _fitting(select, rows, values)
    twice = _find_twice(select, rows)
    if twice:
        return _refuse(select, fitting, twice)
    if picked is not None:
        return _choose_picked(select, fitting, rows, picked, complete=complete)
    if not complete:
        return _refuse(select, fitting, "the list could not be read to its end")
    if not fitting:
        return NoRow()
    doubt = _find_doubt(select, fitting, tied, trusted=trusted)
    return _refuse(select, fitting, doubt) if doubt else Chosen(fitting[0])


def _find_doubt(select: Select, fitting: Sequence[object], tied: frozenset[str], *, trusted: bool) -> str:
    if len(fitting) > 1:
        return f"{len(fitting)} rows fit"
    if _id_of(select, fitting[0]) is None:
        return f"the row that fits has no id at {select.id}"
    if not trusted and not _is_tied(select, tied):
        return "one row fits, but no condition ties it to the credential"
    return ""


def _choose_picked(
    select: Select, fitting: Sequence[object], rows: Sequence[object], picked: str, *, complete: bool
) -> Choice:
    for row in fitting:
        if _id_of(select, row) == picked:
            return Chosen(row)
    if any(_id_of(select, row) == picked for row in rows):
        return _refuse(select, fitting, "the row that was picked no longer fits")
    return NoRow() if complete else _refuse(select, fitting, "the row that was picked is not in what could be read")


def ids_of(select: Select, rows: Iterable[object]) -> list[str]:
    """The ids of rows; a row without one is an error, since it could not be told from a new one."""
    ids = [_id_of(select, row) for row in rows]
    if None in ids:
        raise ExtractError(f"a row has no id at {select.id}")
    return [identifier for identifier in ids if identifier is not None]


def tell_rows(select: Select, rows: Iterable[object]) -> list[Candidate]:
    """What may be shown of rows: their ids and what tells them apart, never a secret."""
    return [_candidate(select, row) for row in rows]


def _refuse(select: Select, fitting: Iterable[object], why: str) -> Ambiguous:
    return Ambiguous(tuple(_candidate(select, row) for row in fitting), why)


def _candidate(select: Select, row: object) -> Candidate:
    shown = {name: _text(name, row) for name in select.show}
    return {"id": _id_of(select, row) or "", "shown": {name: text for name, text in shown.items() if text is not None}}


def _fitting(select: Select, rows: Iterable[object], values: Values) -> list[object]:
    """Fill each condition once, and keep the rows for which all of them hold."""
    tests = [_Test.of(condition, values) for condition in select.where]
    return [row for row in rows if all(test.holds(row) for test in tests)]


def _find_twice(select: Select, rows: Iterable[object]) -> str:
    """Say where a row came twice: the list changed while it was read, so that another row may have been missed.

    Which row it was does not matter: the one that was missed may be the second that fits.
    """
    seen: set[str] = set()
    for row in rows:
        name = _id_of(select, row)
        if name is not None and name in seen:
            return "two rows have the same id; a list that changes while it is read may have left another one out"
        seen |= {name} if name is not None else set()
    return ""


def _is_tied(select: Select, tied: frozenset[str]) -> bool:
    """Whether a condition compares with a name that ties. A date before or after another ties nothing to anything."""
    texts = [
        text
        for condition in select.where
        for text in (condition.equals, condition.prefix, condition.suffix, condition.not_among)
        if text is not None
    ]
    return any(compile_template(text).names & tied for text in texts)


def _id_of(select: Select, row: object) -> str | None:
    return _text(select.id, row) or None


def _text(path: str, row: object) -> str | None:
    found = find(path, row)
    return scalar(found[0]) if len(found) == 1 else None


# ── conditions ────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class _Test:
    """One condition, filled in. `hollow`: a value is empty that a name was to fill; such a condition fits no row."""

    condition: Condition
    equals: str | None
    prefix: str | None
    suffix: str | None
    before: float | None
    after: float | None
    not_among: frozenset[str]
    hollow: bool

    @classmethod
    def of(cls, condition: Condition, values: Values) -> _Test:
        """Fill the templates in."""

        def fill(source: str | None) -> str | None:
            return None if source is None else compile_template(source).fill(values, Place.PLAIN)

        # That nothing existed before is a value; that a name holds nothing to compare with is none.
        compared = [source for source in condition.values if source is not condition.not_among]
        named = [source for source in compared if compile_template(source).names]
        return cls(
            condition,
            fill(condition.equals),
            fill(condition.prefix),
            fill(condition.suffix),
            read_time(fill(condition.before)),
            read_time(fill(condition.after)),
            frozenset((fill(condition.not_among) or "").split("\n")),
            any(not fill(source) for source in named),
        )

    def holds(self, row: object) -> bool:
        """Whether every part of the condition holds; a field with several values fits nothing."""
        found = find(self.condition.field, row)
        if self.hollow or len(found) > 1:
            return False
        value = found[0] if found else None
        if self.condition.is_null is not None and (value is None) != self.condition.is_null:
            return False
        text = scalar(value)
        if self.condition.not_among is not None and (text is None or text in self.not_among):
            return False
        return self._text_holds(text) and self._time_holds(value)

    def _text_holds(self, text: str | None) -> bool:
        if self.equals is not None and text != self.equals:
            return False
        if self.prefix is not None and not (text and self.prefix and text.startswith(self.prefix)):
            return False
        return self.suffix is None or bool(text and self.suffix and text.endswith(self.suffix))

    def _time_holds(self, value: object) -> bool:
        at = moment(value)
        if self.condition.before is not None and not (at is not None and _less(at, self.before)):
            return False
        return self.condition.after is None or (at is not None and _less(self.after, at))


def _less(one: float | None, other: float | None) -> bool:
    return one is not None and other is not None and one < other


def moment(value: object) -> float | None:
    """Seconds since 1970 out of a JSON number or an ISO 8601 time with its offset; None where it is no time."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int | float):
        return float(value) if math.isfinite(value) and abs(value) < LATEST else None
    try:
        read = datetime.fromisoformat(value.strip()) if isinstance(value, str) else None
    except ValueError:
        return None
    return read.timestamp() if read is not None and read.tzinfo is not None else None


def read_time(text: str | None) -> float | None:
    """Seconds since 1970 out of a text, where they may be digits too; None where it is no time, or says no offset."""
    if text is None:
        return None
    number = regex.fullmatch(r"\s*-?\d{1,11}(\.\d{1,9})?\s*", text, regex.ASCII)
    return moment(float(text)) if number else moment(text)
