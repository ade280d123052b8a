"""What may be asked of an answer, one model for each kind of matcher; whether it holds is `rules.match`'s to say."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Discriminator, Field, Tag, model_validator

from rules.model import Model


class Deciding(Model):
    """What every matcher may add: Kingfisher's wish to keep the answer, which may stand on any of them."""

    report_response: bool | None = None


class StatusMatch(Deciding):
    """Holds when the status is one of `status`; with `negative`, when it is none of them."""

    type: Literal["StatusMatch"]
    status: list[int] = Field(min_length=1)
    match_all_status: bool = False
    negative: bool = False


class WordMatch(Deciding):
    """Holds when any word (all with `match_all_words`) is in the body; `negative` turns it round."""

    type: Literal["WordMatch"]
    words: list[str] = Field(min_length=1)
    match_all_words: bool = False
    negative: bool = False


class HeaderMatch(Deciding):
    """Holds when the header's value contains any of `expected` (all with `match_all_values`), in any case."""

    type: Literal["HeaderMatch"]
    header: str
    expected: list[str] = Field(min_length=1)
    match_all_values: bool = False
    negative: bool = False  # ours


class JsonValid(Deciding):
    """Holds when the body is JSON."""

    type: Literal["JsonValid"]


class XmlValid(Deciding):
    """Holds when the body is well-formed XML."""

    type: Literal["XmlValid"]


class JsonMatch(Model):
    """Ours. Holds when the one value at `path` fits; a path that finds nothing holds only for `exists: false`.

    A YAML number, boolean or text in `equals` equals a JSON value of its own type alone. A template with a name in it
    equals whatever JSON scalar is written so, since every value that was taken out of an answer is text here.
    `same` is a template of a value that was kept as JSON: the value at `path` has to be the same, its lists in whatever
    order. With `match_any_value` one of several values at `path` is enough, such as an id in a list; that none of them
    fits is never asked, since absence from a list proves nothing.
    """

    type: Literal["JsonMatch"]
    path: str
    equals: str | int | bool | None = None
    is_null: bool | None = None
    exists: bool | None = None
    same: str | None = None
    match_any_value: bool = False
    negative: bool = False

    @model_validator(mode="after")
    def _one_condition(self) -> Self:
        if self.match_any_value and (self.equals is None or self.negative):
            raise ValueError("match_any_value: goes with equals, and without negative: absence from a list is no proof")
        if [self.equals, self.is_null, self.exists, self.same].count(None) != 3:
            raise ValueError("expected exactly one of equals, is_null, exists, same")
        return self


class ReportResponse(Model):
    """Kingfisher's wish to keep the answer. Always holds; revoq keeps a keyed digest and never a body."""

    report_response: bool
    type: Literal["ReportResponse"] | None = None


def _matcher_kind(value: object) -> str:
    if isinstance(value, dict):
        return str(value.get("type") or ("ReportResponse" if "report_response" in value else "missing"))
    return str(getattr(value, "type", None) or "ReportResponse")


Matcher = Annotated[
    Annotated[StatusMatch, Tag("StatusMatch")]
    | Annotated[WordMatch, Tag("WordMatch")]
    | Annotated[HeaderMatch, Tag("HeaderMatch")]
    | Annotated[JsonValid, Tag("JsonValid")]
    | Annotated[XmlValid, Tag("XmlValid")]
    | Annotated[JsonMatch, Tag("JsonMatch")]
    | Annotated[ReportResponse, Tag("ReportResponse")],
    Discriminator(_matcher_kind),
]
