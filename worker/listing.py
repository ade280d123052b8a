"""What exists at a provider, for an account or one person, as a rule's `listing` reads it; nothing is acted on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from rules.checks import SUBJECT
from rules.errors import BadInput
from rules.lifecycle import Outcome
from rules.loader import LoadedRule
from rules.match import read_step
from rules.message import Prepared
from rules.request import prepare
from rules.schema import Step
from rules.select import Candidate, tell_rows
from rules.select import Listing as Pages
from rules.template import compile_template
from worker.connections import Account
from worker.errors import ConnectionUnusable


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
    wanted = SUBJECT in compile_template(listing.request.url).required
    if wanted and subject is None:
        raise BadInput(f"{loaded.rule.id} lists the credentials of one person: say whose with --subject")
    if not wanted and subject is not None:
        raise BadInput(f"{loaded.rule.id} lists the credentials of the whole account: leave --subject out")
    values = dict(variables) | ({SUBJECT: subject} if subject is not None else {})
    pages = Pages(listing.select, prepare(listing.request, values, account.bases(loaded, variables)))
    request: Prepared | None = pages.first
    while request is not None:
        answer = account.send(request, actor=listing.request.actor)
        if read_step(Step(request=listing.request), answer, values) is not Outcome.OK:
            raise ConnectionUnusable(
                f"{request.method} {request.shown} answered {answer.status}: the list cannot be read; is the subject"
                " right, and may the connection see it?"
            )
        request = pages.add(answer)
    return Listed(tell_rows(listing.select, pages.rows), "" if pages.complete else pages.cut_off)
