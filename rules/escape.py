"""How a value is written for the place where it goes; templates live in `template`, their filters in `filters`."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Callable
from enum import StrEnum
from functools import partial
from typing import Self
from urllib.parse import quote, quote_plus

import regex

from rules.errors import TemplateError


class Place(StrEnum):
    """Where a filled template goes, which decides how each value in it is escaped."""

    URL = "the URL"
    HEADER = "a header"
    BODY_JSON = "a JSON body"
    BODY_FORM = "a form"
    BODY_TEXT = "the body"
    REGEX = "a pattern"
    PLAIN = "a comparison"


class Encoded(str):
    """What an encoding filter returned: written as it stands in the places that it was encoded for."""

    __slots__ = ("places",)
    places: frozenset[Place]

    def __new__(cls, text: str, *places: Place) -> Self:
        """Remember the places with the text."""
        made = super().__new__(cls, text)
        made.places = frozenset(places)
        return made


class BaseUrl(Encoded):
    """A base URL at the start of a URL: parsed before, written as it stands, and no part of it is a path segment."""

    __slots__ = ()

    def __new__(cls, text: str) -> Self:
        """Keep it as it is in a URL; anywhere else it is a value like any other."""
        return super().__new__(cls, text, Place.URL)


PERCENT_ENCODED = re.compile(r"(?:[A-Za-z0-9._~-]|%[0-9A-Fa-f]{2})*")
JSON_SCALAR = re.compile(r"-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?|true|false|null")


def write(value: str, place: Place, *, in_string: bool = True) -> str:
    """Escape a value for its place; `in_string` tells whether a JSON string is open there."""
    if not _is_whole(value):
        raise TemplateError(f"a value for {place} holds half a character (a lone surrogate); nothing can send that")
    if place is Place.HEADER:
        return _check_header(value)
    encoded = isinstance(value, Encoded) and place in value.places
    if place is Place.BODY_JSON:
        return _write_json(value, encoded=encoded, in_string=in_string)
    return str(value) if encoded else ESCAPES[place](value)


def _escape_pattern(value: str) -> str:
    return str(regex.escape(value, special_only=False))


ESCAPES: dict[Place, Callable[[str], str]] = {
    Place.URL: partial(quote, safe=""),
    Place.BODY_FORM: quote_plus,
    Place.REGEX: _escape_pattern,
    Place.BODY_TEXT: str,
    Place.PLAIN: str,
}


def _is_whole(value: str) -> bool:
    return not any("\ud800" <= character <= "\udfff" for character in value)


def _check_header(value: str) -> str:
    if any(unicodedata.category(character) == "Cc" for character in value):
        raise TemplateError("a value for a header holds a line break or another control character; it was not sent")
    if any(character > "\xff" for character in value):
        raise TemplateError("a value for a header holds a character outside Latin-1; headers cannot carry it")
    return str(value)


def _write_json(value: str, *, encoded: bool, in_string: bool) -> str:
    if encoded and in_string:
        raise TemplateError("json_escape brings its own quotes: take those around it out of the body")
    if encoded:
        return str(value)
    if in_string:
        return json.dumps(value)[1:-1]
    if not JSON_SCALAR.fullmatch(value):
        raise TemplateError("a value outside quotes in a JSON body is no number, true, false or null: quote it there")
    return str(value)
