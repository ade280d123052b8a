"""What exists at a provider, for an account or one person, as a rule's `listing` reads it; nothing is acted on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from rules.checks import SUBJECT
from rules.errors import BadInput
from rules.leaving import lists_a_person
from rules.lifecycle import Outcome
from rules.loader import LoadedRule
from rules.match import read_step
from rules.message import Answer, Prepared
from rules.request import prepare
from rules.schema import Listing, Step
from rules.select import Candidate, rows_of, tell_rows
from rules.select import Listing as Pages
from worker.connections import Account
from worker.errors import ConnectionUnusable
from worker.steps.aws import read_list


@dataclass(frozen=True, slots=True)
class Listed:
    """The rows that were read; `cut_off` says why they may not be all, and is empty where they are."""

    rows: list[Candidate]
    cut_off: str


def list_credentials(account: Account, loaded: LoadedRule, subject: str | None, variables: Mapping[str, str]) -> Listed:
    """Read a rule's listing to its end; secrets in the rows are left where they are.

    Raises BadInput where the rule lists nothing or a subject is needed, ConnectionUnusable where the provider refuses.
    """
    listing = loaded.rule.listing
    if listing is None:
        raise BadInput(f"{loaded.rule.id} cannot list credentials: it has no listing")
    wanted = lists_a_person(loaded.rule)
    if wanted and subject is None:
        raise BadInput(f"{loaded.rule.id} lists the credentials of one person: say whose with --subject")
    if not wanted and subject is not None:
        raise BadInput(f"{loaded.rule.id} lists the credentials of the whole account: leave --subject out")
    values = dict(variables) | ({SUBJECT: subject} if subject is not None else {})
    if listing.aws is not None:
        answer = read_list(listing.aws, values, account)
        _refuse_no(listing, answer, values, f"AWS list {subject or ''}".strip())
        return Listed(tell_rows(listing.select, rows_of(listing.select, answer)), "")
    assert listing.request is not None  # noqa: S101 - the rule has one of the two
    pages = Pages(listing.select, prepare(listing.request, values, account.bases(loaded, variables)))
    request: Prepared | None = pages.first
    while request is not None:
        answer = account.send(request, actor=listing.request.actor)
        _refuse_no(listing, answer, values, f"{request.method} {request.shown}")
        request = pages.add(answer)
    return Listed(tell_rows(listing.select, pages.rows), "" if pages.complete else pages.cut_off)


def _refuse_no(listing: Listing, answer: Answer, values: Mapping[str, str], shown: str) -> None:
    asked = Step(request=listing.request, aws=listing.aws)
    if read_step(asked, answer, values) is not Outcome.OK:
        raise ConnectionUnusable(
            f"{shown} answered {answer.status}: the list cannot be read; is the subject right, and may the connection"
            " see it?"
        )
