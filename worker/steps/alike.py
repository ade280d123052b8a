"""A step that makes two lists at a provider hold the same, or sees whether they do; what differs `rules.alike` says."""

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
    reading = replace(filling, planned=replace(filling.planned, purpose=Purpose.READ)) if filling.acts else filling
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
        try:
            source, target = self._read(self.source, tools), self._read(self.target, tools)
            lacking = self._lacking(source, target)
            for row in lacking:
                self._give(row, tools)
            if lacking:
                target = self._read(self.target, tools)
            found = self._difference(source, target)
        except _Stopped as stopped:
            return stopped.result
        kept = {**target.kept, "given": len(lacking)}
        if found.says:
            says = f"{self.target.shown} does not list what {self.source.shown} lists: {found.says}"
            return Result(Outcome.BROKEN, f"{says}; make them the same", evidence=kept)
        rows = len(source.listing.rows)
        return Result(Outcome.OK, f"both list the same {rows} rows, {len(lacking)} given by us", evidence=kept)

    # ── inside ────────────────────────────────────────────────────────────────────────────────────────────────────

    def _read(self, step: http.HttpStep, tools: Tools) -> http.Pages:
        tools.keep()
        try:
            pages = http.turn_pages(step, self.alike.select, tools)
        except ExchangeError as error:
            raise _Stopped(unanswered(step.filling, error, step.shown)) from None
        if isinstance(pages, Result):
            raise _Stopped(pages)
        if not pages.listing.complete:
            says = f"{step.shown}: {pages.listing.cut_off} ({pages.so_far})"
            raise _Stopped(Result(Outcome.AMBIGUOUS, says, evidence=pages.kept))
        return pages

    def _lacking(self, source: http.Pages, target: http.Pages) -> Sequence[object]:
        """What is to be given: nothing where the second list has too much, since that makes nothing the same."""
        found = self._difference(source, target)
        return () if self.alike.each is None or found.more else found.lacking

    def _difference(self, source: http.Pages, target: http.Pages) -> Difference:
        try:
            return compare(self.alike, source.listing.rows, target.listing.rows)
        except ExtractError as error:
            says = f"{self.source.shown} and {self.target.shown} cannot be compared: {error}"
            raise _Stopped(Result(Outcome.BROKEN, says)) from None

    def _give(self, row: object, tools: Tools) -> None:
        """One request for one row, unless a hold was put on meanwhile."""
        tools.keep()
        try:
            values = {**self.filling.values, **values_of(self.alike, row)}
            result = _request(replace(self.filling, values=values), self.alike, "each").perform(tools)
        except (ExtractError, TemplateError) as error:
            result = Result(Outcome.BROKEN, f"what a row is given cannot be formed: {error}")
        if result.outcome not in {Outcome.OK, Outcome.ALREADY_GONE}:
            raise _Stopped(result)


class _Stopped(Exception):
    """What a request came to after which there is nothing to go on with."""

    def __init__(self, result: Result) -> None:
        self.result = result
        super().__init__(result.says)
