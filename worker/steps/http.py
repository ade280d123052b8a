"""A step that is one HTTP request, or the pages of one list; what the answer means is read by `rules`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from secrets import token_bytes
from typing import Any

from rules.errors import RevoqError, TemplateError
from rules.extract import take_all
from rules.lifecycle import Outcome
from rules.match import read_step
from rules.message import Answer, Prepared
from rules.request import prepare
from rules.schema import Action, CleanUp, Existing, ProbeContent, Request, Select, Step
from rules.secret import Secret
from rules.select import Listing
from rules.throttle import retry_after
from worker.choosing import keep_ids, single_out
from worker.errors import ExchangeError
from worker.log import redacting
from worker.reading import conclude, evidence, explain, read, unanswered, unreadable
from worker.settings import Settings
from worker.step import Filling, Result, Tools

ACTION = Request


def refuse(action: Action, settings: Settings) -> str | None:  # noqa: ARG001 - every kind is asked the same
    """Nothing speaks against a request before it is filled in."""
    return None


def ready(filling: Filling) -> HttpStep:
    """Fill in the request of a planned step."""
    request = filling.part.action
    assert isinstance(request, Request)  # noqa: S101 - this kind is chosen by it
    prepared = prepare(request, filling.values, filling.bases, now=datetime.now(UTC), random=token_bytes)
    return HttpStep(filling, prepared)


@dataclass(frozen=True, slots=True)
class HttpStep:
    """One request that is ready to leave."""

    filling: Filling
    prepared: Prepared

    @property
    def label(self) -> dict[str, str]:
        """Method and URL, secrets masked."""
        return {"method": self.prepared.method, "url": self.prepared.shown}

    def perform(self, tools: Tools) -> Result:
        """Send it, read it, take out of it what the rule wants."""
        part = self.filling.part
        try:
            if isinstance(part, Step) and part.select is not None:
                return _list(self, part.select, tools)
            if isinstance(part, Existing):
                return _list_existing(self, part, tools)
            answer = tools.account.send(self.prepared, actor=part.action.actor, mutates=self.filling.acts)
            result = conclude(self.filling, answer, tools.safe, self.shown)
            if isinstance(part, ProbeContent) and part.clean_up is not None and 200 <= answer.status < 300:
                return _clean_up(self.filling, part.clean_up, answer, result, tools)
            return result
        except ExchangeError as error:
            return unanswered(self.filling, error, self.shown)
        except TemplateError as error:
            return unreadable(self.filling, error, self.shown)

    @property
    def shown(self) -> str:
        """The request in a sentence."""
        return f"{self.prepared.method} {self.prepared.shown}"


def _clean_up(filling: Filling, wanted: CleanUp, answer: Answer, result: Result, tools: Tools) -> Result:
    """Take away what a look left at the provider; whatever comes of that, what the look said stands."""
    # It has a time-out of its own, which the claim has to outlast as well.
    tools.keep()
    try:
        left = {name: Secret(value) for name, value in take_all(wanted.extract, answer, filling.values).items()}
        with redacting(*left.values()):
            prepared = prepare(wanted.request, {**filling.values, **left}, filling.bases)
            answered = tools.account.send(prepared, actor=wanted.request.actor, mutates=True)
        outcome = read_step(Step(request=wanted.request), answered, filling.values)
        says = f"{prepared.method} {prepared.shown} answered {answered.status}"
    except RevoqError as error:
        outcome, says = Outcome.BROKEN, str(error)
    kept = {**result.evidence, "clean_up": {"outcome": outcome.value, "says": says}}
    if outcome is Outcome.OK:
        return replace(result, evidence=kept)
    return replace(result, says=f"{result.says}; what that left there could not be taken away: {says}", evidence=kept)


@dataclass(frozen=True, slots=True)
class Pages:
    """A list that was read as far as it goes, and the evidence of its last page."""

    listing: Listing
    kept: Mapping[str, Any]

    @property
    def so_far(self) -> str:
        """How far, in words."""
        return f"{len(self.listing.rows)} rows on {self.listing.pages} pages"


def turn_pages(step: HttpStep, select: Select, tools: Tools) -> Pages | Result:
    """Read a list page by page, or say why a page could not be read."""
    filling = step.filling
    listing = Listing(select, step.prepared)
    request: Prepared | None = listing.first
    kept: dict[str, Any] = {}
    while request is not None:
        if listing.pages:
            tools.keep()
        answer = tools.account.send(request, actor=filling.part.action.actor)
        outcome = read(filling, answer)
        kept = evidence(filling, answer, tools.safe)
        says = f"{step.shown} answered {answer.status} on page {listing.pages + 1}"
        if outcome is not Outcome.OK:
            asked = retry_after(answer.status, answer.headers, datetime.now(UTC))
            return Result(outcome, explain(filling, outcome, says), evidence=kept, retry_after=asked)
        try:
            request = listing.add(answer)
        except RevoqError as error:
            return Result(Outcome.BROKEN, f"{says}, but {error}")
    return Pages(listing, kept | {"pages": listing.pages, "rows": len(listing.rows)})


def _list(step: HttpStep, select: Select, tools: Tools) -> Result:
    """Read a list to its end and single one row out, or say why that cannot be done."""
    filling = step.filling
    pages = turn_pages(step, select, tools)
    if isinstance(pages, Result):
        return pages
    listing = pages.listing
    return single_out(filling, select, listing.rows, pages.kept, read_so_far=pages.so_far, cut_off=listing.cut_off)


def _list_existing(step: HttpStep, existing: Existing, tools: Tools) -> Result:
    """Read a list to its end and keep every id, so that what comes to it later can be told."""
    pages = turn_pages(step, existing.select, tools)
    if isinstance(pages, Result):
        return pages
    if not pages.listing.complete:
        return Result(Outcome.AMBIGUOUS, f"{pages.listing.cut_off} ({pages.so_far})", evidence=pages.kept)
    return keep_ids(existing, pages.listing.rows, pages.kept, read_so_far=pages.so_far)
