"""The action that gives one list what another has (ours); what differs between two lists is `rules.alike`'s to say."""

from __future__ import annotations

from typing import Self

from pydantic import Field, model_validator

from rules.model import Name
from rules.schema.action import Action
from rules.schema.request import Request
from rules.schema.select import Select


class Alike(Action):
    """Two lists that have to hold the same: for each row of `source` that `target` lacks, one request, which is `each`.

    Both are read before, so that whatever came of an answer that was lost, no row is given twice; and the second again
    after. Rows are the same where every field of `by` is; `row` names those that `each` needs. Without `each`, nothing
    is sent, and lists that differ are a mistake. `actor` counts for all three requests.
    """

    source: Request
    target: Request
    select: Select
    by: list[str] = Field(min_length=1)
    row: dict[Name, str] = {}
    each: Request | None = None

    @property
    def requests(self) -> dict[str, Request]:
        """The requests by their keys, each signed as the action is."""
        said = {"source": self.source, "target": self.target, "each": self.each}
        return {key: one.model_copy(update={"actor": self.actor}) for key, one in said.items() if one is not None}

    @property
    def templates(self) -> list[str]:
        """Those of every request."""
        return [template for request in self.requests.values() for template in request.templates]

    @property
    def brings(self) -> frozenset[str]:
        """What a row tells of itself."""
        return frozenset(self.row)

    @property
    def changes(self) -> bool:
        """Where it gives something."""
        return self.each is not None

    @property
    def title(self) -> str:
        """Which lists, and what is sent."""
        lists = f"{self.target.title} has to list what {self.source.title} lists"
        return lists if self.each is None else f"{lists}; for each row that it lacks, {self.each.title}"

    @model_validator(mode="after")
    def _reads_and_gives(self) -> Self:
        if self.source.changes or self.target.changes or self.select.where:
            raise ValueError("expected a source and a target that only read, and a select without where")
        if self.each is not None and not self.each.changes:
            raise ValueError("each: expected a request that changes something")
        if self.row and self.each is None:
            raise ValueError("row: only what each sends needs the fields of a row")
        return self
