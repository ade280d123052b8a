"""A step that makes two lists at a provider hold the same, or sees whether they do; what differs, `rules.alike` says."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from rules.alike import Difference, compare, values_of
from rules.errors import ExtractError, TemplateError
from rules.lifecycle import Outcome
from rules.plan import Purpose
from rules.schema import Action, Alike, Request, Step
from worker.errors import ExchangeError
from worker.reading import unanswered
from worker.settings import Settings
from worker.step import Filling, Result, Tools
from worker.steps import http

ACTION = Alike


def refuse(action: Action, settings: Settings) -> str | None:  # noqa: ARG001 - every kind is asked the same
    """Nothing speaks against requests before they are filled in."""
    return None


def ready(filling: Filling) -> AlikeStep:
    """Fill in how both lists are read; what a row needs is filled in with the row."""
    alike = filling.part.action
    assert isinstance(alike, Alike)  # noqa: S101 - this kind is chosen by it
    reading = replace(filling, planned=replace(filling.planned, purpose=Purpose.READ))
    source, target = (_request(reading, alike, key) for key in ("source", "target"))
    return AlikeStep(filling, alike, source, target)


def _request(filling: Filling, alike: Alike, key: str) -> http.HttpStep:
    request: Request = alike.requests[key]
    outcomes = filling.part.outcomes if key == "each" and isinstance(filling.part, Step) else []
    return http.ready(replace(filling, part=Step(request=request, outcomes=outcomes)))


@dataclass(frozen=True, slots=True)
class AlikeStep:
    """Two lists that are ready to be read."""

    filling: Filling
    alike: Alike
    source: http.HttpStep
    target: http.HttpStep

    @property
    def label(self) -> dict[str, str]:
        """The list that is made, or has to be, like the other."""
        return {"method": "ALIKE" if self.alike.changes else "COMPARE", "url": self.target.prepared.shown}

    def perform(self, tools: Tools) -> Result:
        """Compare; give what is lacking, row by row, as long as each is answered with yes; and compare again."""
        source = self._read(self.source, tools)
        if isinstance(source, Result):
            return source
        found = self._compare(source, tools)
        given = 0
        if isinstance(found, Difference) and not found.more and self.alike.each is not None:
            for given, row in enumerate(found.lacking, start=1):
                refused = self._give(row, tools)
                if refused is not None:
                    return refused
            if given:
                found = self._compare(source, tools)
        if isinstance(found, Result):
            return found
        kept = {"rows": len(source), "given": given}
        if found.says:
            says = f"{self.target.shown} does not list what {self.source.shown} lists: {found.says}"
            return Result(Outcome.BROKEN, f"{says}; make them the same", evidence=kept)
        return Result(Outcome.OK, f"both list the same {len(source)} rows, of which {given} were given", evidence=kept)

    # ── inside ────────────────────────────────────────────────────────────────────────────────────────────────────

    def _read(self, step: http.HttpStep, tools: Tools) -> Sequence[object] | Result:
        tools.keep()
        try:
            pages = http.turn_pages(step, self.alike.select, tools)
        except ExchangeError as error:
            return unanswered(step.filling, error, step.shown)
        if isinstance(pages, Result):
            return pages
        if not pages.listing.complete:
            return Result(Outcome.AMBIGUOUS, f"{step.shown}: {pages.listing.cut_off} ({pages.so_far})")
        return pages.listing.rows

    def _compare(self, source: Sequence[object], tools: Tools) -> Difference | Result:
        target = self._read(self.target, tools)
        if isinstance(target, Result):
            return target
        try:
            return compare(self.alike, source, target)
        except ExtractError as error:
            return Result(Outcome.BROKEN, f"{self.source.shown} and {self.target.shown} cannot be compared: {error}")

    def _give(self, row: object, tools: Tools) -> Result | None:
        """One request for one row; what came of it, unless that is yes. A hold that was put on meanwhile stops it."""
        tools.keep()
        try:
            values = {**self.filling.values, **values_of(self.alike, row)}
            result = _request(replace(self.filling, values=values), self.alike, "each").perform(tools)
        except (ExtractError, TemplateError) as error:
            return Result(Outcome.BROKEN, f"what a row is given cannot be formed: {error}")
        return None if result.outcome in {Outcome.OK, Outcome.ALREADY_GONE} else result
