"""How one row of a list is singled out, and how the list goes on (ours); choosing the row is `rules.select`'s."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from rules.model import Model


class Condition(Model):
    """One condition on a row's field (a JSONPath inside the row); the values are templates.

    `not_among`: several values, one on a line, of which it must be none.
    """

    field: str
    equals: str | None = None
    prefix: str | None = None
    suffix: str | None = None
    is_null: bool | None = None
    before: str | None = None
    after: str | None = None
    not_among: str | None = None

    @model_validator(mode="after")
    def _something(self) -> Self:
        if not self.values and self.is_null is None:
            raise ValueError("expected at least one of equals, prefix, suffix, is_null, before, after, not_among")
        return self

    @property
    def values(self) -> list[str]:
        """The templates of this condition."""
        said = (self.equals, self.prefix, self.suffix, self.before, self.after, self.not_among)
        return [value for value in said if value is not None]


class Paging(Model):
    """How a list goes on after its first page.

    `offset`: `parameter` grows by `size` · `page`: `parameter` grows by one from `first` · `cursor`: `parameter` takes
    the value at `next` · `link`: the address at `next` (or of the Link header with rel=next) on the same host.
    `total` names where the answer says how many rows there are; a list that ends with fewer is cut off.
    """

    kind: Literal["offset", "page", "cursor", "link"]
    parameter: str | None = None
    size_parameter: str | None = None
    size: int = Field(default=100, ge=1, le=10_000)
    first: int = 0
    next: str | None = None
    total: str | None = None
    most: int = Field(default=1000, ge=1)  # pages after which the list counts as unreadable

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if self.kind != "link" and self.parameter is None:
            raise ValueError(f"paging by {self.kind} needs a parameter")
        if self.kind == "cursor" and self.next is None:
            raise ValueError("paging by cursor needs next: the path of the cursor in the answer")
        return self


class Select(Model):
    """Exactly one row of a list, by conditions that must all hold; `show` is what tells candidates apart.

    `rows: $` without `page` also takes an answer that is the row itself.
    """

    rows: str
    where: list[Condition] = []
    page: Paging | None = None
    id: str
    show: list[str] = []
