"""Exactly one row that a condition ties to the credential, out of a list that was read to its end; or a refusal."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rules.errors import ExtractError, RevoqError
from rules.message import Answer, Prepared
from rules.schema import Select
from rules.secret import Secret
from rules.select import Ambiguous, Choice, Chosen, Listing, NoRow, choose, rows_of

VALUES: dict[str, str | Secret] = {"KEY_ID": "k2", "HEAD": "ex_a", "NAME": "ci", "EMPTY": "", "TOKEN": Secret("s3cr3t")}
TIED = frozenset({"KEY_ID", "HEAD", "TOKEN", "EMPTY"})


def select(*where: dict[str, Any], **said: Any) -> Select:
    """A selector with these conditions."""
    return Select.model_validate({"rows": "$.keys", "id": "id", "show": ["id", "name"], "where": list(where), **said})


def pick(*rows: object, where: dict[str, Any], complete: bool = True, **said: Any) -> Choice:
    """Choose among rows by one condition."""
    return choose(select(where), rows, VALUES, tied=TIED, complete=complete, **said)


BY_ID = {"field": "id", "equals": "{{ KEY_ID }}"}
BY_NAME = {"field": "name", "equals": "{{ NAME }}"}
K1, K2 = {"id": "k1", "name": "ci", "secret": "s3cr3t"}, {"id": "k2", "name": "ci"}


# ── the choice ────────────────────────────────────────────────────────────────────────────────────────────────────


def test_one() -> None:
    """One row that its id ties to the credential is chosen, wherever it stands."""
    assert pick(K1, K2, where=BY_ID) == Chosen(K2)
    assert pick(K2, K1, where=BY_ID) == Chosen(K2)


def test_none() -> None:
    """A list that was read to its end and has no such row has none; one that was not may have it."""
    assert pick(K1, where=BY_ID) == NoRow()
    cut = pick(K1, where=BY_ID, complete=False)
    assert isinstance(cut, Ambiguous)
    assert "to its end" in cut.why


def test_several() -> None:
    """Several rows are candidates for a person, shown by the fields that the rule names and no others."""
    choice = pick(K1, K2, where={"field": "name", "equals": "ci", "prefix": "{{ NAME }}"})
    assert isinstance(choice, Ambiguous)
    assert choice.candidates == (
        {"id": "k1", "shown": {"id": "k1", "name": "ci"}},
        {"id": "k2", "shown": {"id": "k2", "name": "ci"}},
    )
    assert "s3cr3t" not in repr(choice)


def test_not_tied() -> None:
    """A single row that nothing ties to the credential is refused, unless the settings trust the rule."""
    untied = pick(K2, where=BY_NAME)
    assert isinstance(untied, Ambiguous)
    assert "no condition ties it" in untied.why
    assert pick(K2, where=BY_NAME, trusted=True) == Chosen(K2)
    assert isinstance(pick(K1, K2, where=BY_NAME, trusted=True), Ambiguous)
    created = [{"id": "k2", "created": "2026-01-01T00:00:00Z"}]
    dated = select({"field": "created", "before": "{{ WHEN }}"})
    choice = choose(dated, created, {"WHEN": "2030-01-01T00:00:00Z"}, tied=frozenset({"WHEN"}), complete=True)
    assert isinstance(choice, Ambiguous)


def test_incomplete() -> None:
    """A list that could not be read to its end is ambiguous even where exactly one row fits."""
    assert isinstance(pick(K1, K2, where=BY_ID, complete=False), Ambiguous)
    assert isinstance(pick(K1, K2, where=BY_ID, complete=False, trusted=True), Ambiguous)


def test_twice() -> None:
    """Two rows with one id cannot be told apart, even for somebody who picks that id."""
    for picked in (None, "k2"):
        choice = pick(K2, {"id": "k2", "name": "other"}, where=BY_ID, picked=picked)
        assert isinstance(choice, Ambiguous)
        assert "same id" in choice.why


def test_no_id() -> None:
    """A row that fits and has no id cannot be acted on."""
    assert isinstance(
        choose(
            select({"field": "hint", "prefix": "{{ HEAD }}"}), [{"hint": "ex_a…"}], VALUES, tied=TIED, complete=True
        ),
        Ambiguous,
    )


def test_picked() -> None:
    """A person's pick is taken among the rows that still fit."""
    where = {"field": "name", "equals": "ci"}
    assert pick(K1, K2, where=where, picked="k1") == Chosen(K1)
    assert pick(K2, where=where, picked="k1") == NoRow()
    assert isinstance(pick(K2, where=where, picked="k1", complete=False), Ambiguous)
    assert isinstance(pick({"id": "k1", "name": "changed"}, K2, where=where, picked="k1"), Ambiguous)


# ── conditions ────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("where", "value", "fits"),
    [
        ({"equals": "12"}, 12, True),
        ({"equals": "true"}, True, True),
        ({"equals": "12"}, 12.0, False),
        ({"equals": "a"}, "A", False),
        ({"equals": "{{ EMPTY }}"}, "", False),
        ({"equals": "a"}, None, False),
        ({"equals": "a"}, ["a"], False),
        ({"prefix": "{{ HEAD }}"}, "ex_a…zzzz", True),
        ({"prefix": "{{ HEAD }}", "suffix": "zz"}, "ex_a…yy", False),
        ({"prefix": "{{ EMPTY }}"}, "anything", False),
        ({"suffix": ""}, "anything", False),
        ({"is_null": True}, None, True),
        ({"is_null": True}, "x", False),
        ({"is_null": False}, 0, True),
        ({"before": "2026-03-10T12:00:00Z"}, "2026-03-10T12:59:00+01:00", True),
        ({"before": "2026-03-10T12:00:00Z"}, "2026-03-10T12:00:00Z", False),
        ({"before": "2026-03-10T12:00:00Z"}, "2026-03-10T11:00:00", False),
        ({"before": "2026-03-10T12:00:00Z"}, "yesterday", False),
        ({"before": "2026-03-10T12:00:00Z"}, None, False),
        ({"before": "yesterday"}, "2026-03-10T12:00:00Z", False),
        ({"after": "1700000000"}, 1700000001, True),
        ({"after": "1700000000"}, 1700000001000, False),
        ({"after": "1700000000"}, True, False),
        ({"after": "1700000000"}, "2026-01-01T00:00:00Z", True),
    ],
)
def test_conditions(where: dict[str, Any], value: object, fits: bool) -> None:  # noqa: FBT001 - one of the parameters
    """A condition compares exactly, and a value that is empty, no time or of another shape never fits."""
    rows = [{"id": "k1", "field": value}]
    choice = choose(select({"field": "field", **where}), rows, VALUES, complete=True, trusted=True)
    assert isinstance(choice, Chosen) is fits


def test_absent() -> None:
    """A field that is absent counts as null."""
    choice = choose(select({"field": "revoked_at", "is_null": True}), [K2], VALUES, complete=True, trusted=True)
    assert choice == Chosen(K2)


# ── the list ──────────────────────────────────────────────────────────────────────────────────────────────────────


def answer(body: object, **headers: str) -> Answer:
    """A page."""
    return Answer(200, headers, json.dumps(body).encode())


def listing(**page: Any) -> Listing:
    """A list that is paged like this."""
    prepared = Prepared("GET", Secret("https://h/keys?a=b"), "https://h/keys?a=b", "https://h")
    return Listing(select(page=page or None), prepared)


def keys(*numbers: int) -> dict[str, Any]:
    """The body of a page with these rows."""
    return {"keys": [{"id": number} for number in numbers]}


@pytest.mark.parametrize("rows", ["$.keys", "$.keys[*]", "keys"])
def test_rows(rows: str) -> None:
    """The rows are a list, written with or without its star, and an empty list is a list."""
    assert rows_of(select(rows=rows), answer(keys(1, 2))) == [{"id": 1}, {"id": 2}]
    assert rows_of(select(rows=rows), answer({"keys": []})) == []
    assert rows_of(select(rows="$[*]"), answer([1])) == [1]


def test_the_answer_is_the_row() -> None:
    """An object is the one row where the whole answer is asked for; conditions tie it, and `$[*]` stays a list."""
    whole = {"id": "k2", "keys": [{"id": "k1"}]}
    assert rows_of(select(rows="$"), answer(whole)) == [whole]
    assert rows_of(select(rows="$"), answer([K1, K2])) == [K1, K2]
    by_id = select(BY_ID, rows="$")
    assert choose(by_id, [whole], VALUES, tied=TIED, complete=True) == Chosen(whole)
    assert choose(by_id, [K1], VALUES, tied=TIED, complete=True) == NoRow()
    assert isinstance(choose(select(rows="$"), [whole], VALUES, tied=TIED, complete=True), Ambiguous)
    for strict in (select(rows="$[*]"), select(rows="$", page={"kind": "offset", "parameter": "o"})):
        with pytest.raises(ExtractError, match="expected a list"):
            rows_of(strict, answer(whole))


@pytest.mark.parametrize("body", [{}, {"keys": None}, {"keys": {}}, {"keys": "x"}, [], "x"])
def test_no_rows(body: object) -> None:
    """A list that is not where it should be is an error, and not an empty list: empty would mean that it is gone."""
    with pytest.raises(ExtractError, match="expected a list"):
        rows_of(select(), answer(body))


def test_single_page() -> None:
    """Without paging the answer is the whole list, unless it says itself that there is more."""
    whole = listing()
    assert whole.add(answer(keys(1))) is None
    assert whole.complete
    more = listing()
    assert more.add(answer(keys(1), link='<https://h/keys?page=2>; rel="next"')) is None
    assert not more.complete
    assert more.cut_off


def test_offset() -> None:
    """An offset grows by the rows that came, and ends at an empty page: a short one may be all that is allowed."""
    pages = listing(kind="offset", parameter="offset", size_parameter="limit", size=3)
    assert pages.first.url.reveal() == "https://h/keys?a=b&limit=3&offset=0"
    following = pages.add(answer(keys(1, 2)))
    assert following is not None
    assert following.url.reveal() == "https://h/keys?a=b&limit=3&offset=2"
    assert pages.is_short
    assert pages.add(answer(keys())) is None
    assert (pages.complete, len(pages.rows), pages.pages) == (True, 2, 2)


def test_pages_and_total() -> None:
    """Pages grow by one from the first; a list that ends before its total is cut off."""
    pages = listing(kind="page", parameter="page", first=1, size=2, total="$.total")
    assert pages.first.url.reveal().endswith("page=1")
    following = pages.add(answer({**keys(1, 2), "total": 3}))
    assert following is not None
    assert following.url.reveal().endswith("page=2")
    assert pages.add(answer({**keys(3), "total": 3})) is None
    assert pages.complete

    cut = listing(kind="page", parameter="page", first=1, size=2, total="$.total")
    cut.add(answer({**keys(1, 2), "total": 5}))
    assert cut.add(answer({**keys(), "total": 5})) is None
    assert not cut.complete
    assert "5 rows" in cut.cut_off
    with pytest.raises(ExtractError, match="how many rows"):
        listing(kind="page", parameter="page", total="$.total").add(answer(keys(1)))


def test_ignored_size() -> None:
    """A page with more rows than were asked for shows that the parameters mean nothing there."""
    pages = listing(kind="offset", parameter="offset", size=2)
    assert pages.add(answer(keys(1, 2, 3))) is None
    assert not pages.complete


def test_cursor() -> None:
    """A cursor is followed until there is none; one that leads to itself is cut off."""
    pages = listing(kind="cursor", parameter="after", next="$.next")
    following = pages.add(answer({**keys(1), "next": "c&1"}))
    assert following is not None
    assert following.url.reveal() == "https://h/keys?a=b&after=c%261"
    assert pages.add(answer({**keys(2), "next": "c&1"})) is None
    assert not pages.complete
    for end in (None, "", False):
        pages = listing(kind="cursor", parameter="after", next="$.next")
        assert pages.add(answer({**keys(1), "next": end})) is None
        assert pages.complete


def test_link() -> None:
    """A link is followed on the same host only; any other cuts the list off."""
    pages = listing(kind="link")
    following = pages.add(answer(keys(1), link='<https://h/a>; rel="prev", <https://h/b?p=2>; rel="next last"'))
    assert following is not None
    assert following.url.reveal() == "https://h/b?p=2"
    assert pages.add(answer(keys(2), link="<https://evil/b>; rel=next")) is None
    assert not pages.complete
    assert "leads away" in pages.cut_off


def test_most() -> None:
    """A list of too many pages counts as one that cannot be read to its end."""
    pages = listing(kind="offset", parameter="offset", size=1, most=2)
    assert pages.add(answer(keys(1))) is not None
    assert pages.add(answer(keys(2))) is None
    assert not pages.complete


ROW: st.SearchStrategy[Any] = st.dictionaries(
    st.sampled_from(["id", "name"]), st.sampled_from(["k1", "k2", "ci", "", None, 1, [], {}])
)


@given(
    rows=st.lists(ROW | st.none() | st.text(max_size=3), max_size=5),
    complete=st.booleans(),
    picked=st.none() | st.just("k2"),
)
def test_any_rows(rows: list[object], complete: bool, picked: str | None) -> None:  # noqa: FBT001 - drawn, not passed
    """Whatever rows come, what is chosen fits, and no other row has its id; only a pick needs no whole list."""
    choice = choose(select(BY_ID), rows, VALUES, tied=TIED, complete=complete, picked=picked)
    if isinstance(choice, Chosen):
        assert isinstance(choice.row, dict)
        assert choice.row["id"] == "k2"
        assert [row for row in rows if isinstance(row, dict) and row.get("id") == "k2"] == [choice.row]
        assert complete or picked
    if isinstance(choice, NoRow):
        assert complete


@given(
    bodies=st.lists(
        st.recursive(
            st.none() | st.integers() | st.text(max_size=5),
            lambda inner: (
                st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(["keys", "next", "total", "id"]), inner)
            ),
        ),
        max_size=4,
    ),
    page=st.sampled_from(
        [
            None,
            {"kind": "offset", "parameter": "o", "size": 2},
            {"kind": "cursor", "parameter": "c", "next": "$.next"},
            {"kind": "link", "next": "$.next"},
            {"kind": "page", "parameter": "p", "total": "$.total"},
        ]
    ),
)
def test_any_pages(bodies: list[object], page: dict[str, Any] | None) -> None:
    """Whatever pages come, only our own errors are raised, and no request leaves for another host."""
    pages = listing(**(page or {}))
    for body in bodies:
        try:
            following = pages.add(answer(body))
        except RevoqError:
            return
        if following is None:
            assert pages.complete == (not pages.cut_off)
            return
        assert following.origin == "https://h"


def test_a_list_that_changes_while_it_is_read() -> None:
    """A total that is another one on the next page, or a row that comes twice: another row may have been missed."""
    pages = listing(kind="offset", parameter="offset", size=2, total="$.total")
    pages.add(answer({**keys(1, 2), "total": 4}))
    assert pages.add(answer({**keys(3), "total": 3})) is None
    assert (pages.complete, pages.cut_off) == (False, "the list changed while it was read: it had 4 rows, and then 3")

    rows = [{"id": "a", "hint": "x"}, {"id": "b", "hint": "y"}, {"id": "b", "hint": "y"}]
    choice = pick(*rows, where={"field": "hint", "equals": "x"})
    assert isinstance(choice, Ambiguous)
    assert "two rows have the same id" in choice.why
