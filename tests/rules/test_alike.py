"""What differs between two lists that have to hold the same, and what a request knows of a row."""

from __future__ import annotations

import json
from typing import Any

import pytest
from pydantic import ValidationError

from rules.alike import compare, values_of
from rules.errors import ExtractError
from rules.request import prepare
from rules.schema import Alike

SCOPE = {"type": "catalog", "names": ["b", "a"]}


def alike(**changed: Any) -> Alike:
    """Rights with a scope and actions, given by a request."""
    said: dict[str, Any] = {
        "source": {"url": "{{ BASE_URL }}/old"},
        "target": {"url": "{{ BASE_URL }}/new"},
        "select": {"rows": "$[*]", "id": "id"},
        "by": ["scope", "actions"],
        "row": {"SCOPE": "scope", "ACTIONS": "actions", "KIND": "$.scope.type"},
        "each": {
            "method": "POST",
            "url": "{{ BASE_URL }}/new",
            "headers": {"Content-Type": "application/json"},
            "body": '{"scope": {{ SCOPE }}, "actions": {{ ACTIONS }}, "kind": "{{ KIND }}"}',
        },
    }
    return Alike.model_validate({**said, **changed})


def right(number: int, *actions: str, scope: object = None) -> dict[str, object]:
    """One row."""
    return {"id": number, "scope": SCOPE if scope is None else scope, "actions": list(actions)}


def test_rows_are_the_same_whatever_their_ids_and_the_order_of_their_lists() -> None:
    """Providers give sets as lists, and objects with their keys as they come."""
    turned = {"names": ["a", "b"], "type": "catalog"}
    assert compare(alike(), [right(1, "read", "list")], [right(2, "list", "read", scope=turned)]).says == ""


def test_what_is_there_twice_has_to_be_there_twice() -> None:
    """Two equal rows are two."""
    found = compare(alike(), [right(1, "read"), right(2, "read")], [right(3, "read")])
    assert (len(found.lacking), found.more) == (1, 0)


def test_what_is_there_too_much_counts_too() -> None:
    """Both directions, without a value in the words."""
    found = compare(alike(), [right(1, "read")], [right(2, "write"), right(3, "write")])
    assert found.says == "1 lacking, and 2 too many"


def test_a_row_without_what_it_is_compared_by_is_an_error() -> None:
    """It would be the same as any other that lacks it."""
    with pytest.raises(ExtractError, match="actions"):
        compare(alike(), [{"id": 1, "scope": SCOPE}], [])


def test_an_object_goes_into_a_body_as_it_came() -> None:
    """A text is escaped as ever."""
    row = right(1, "read", scope={"type": 'a "quoted" one', "deep": [1, None]})
    request = alike().requests["each"]
    prepared = prepare(request, values_of(alike(), row), {"BASE_URL": "https://api.example.com"})
    assert prepared.body is not None
    assert json.loads(prepared.body.reveal()) == {
        "scope": {"type": 'a "quoted" one', "deep": [1, None]},
        "actions": ["read"],
        "kind": 'a "quoted" one',
    }


@pytest.mark.parametrize(
    "changed",
    [
        {"source": {"method": "POST", "url": "{{ BASE_URL }}/old"}},
        {"each": {"url": "{{ BASE_URL }}/new"}},
        {"each": None},
        {"by": []},
        {"select": {"rows": "$[*]", "id": "id", "where": [{"field": "id", "equals": "1"}]}},
    ],
)
def test_what_would_not_compare_or_give_is_refused(changed: dict[str, Any]) -> None:
    """Lists are only read, all of them; what is given changes something; fields of a row have a use."""
    with pytest.raises(ValidationError):
        alike(**changed)
