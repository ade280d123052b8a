"""Items into orders: secrets resolved, defaults filled in, findings matched, everything checked; nothing is written."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from rules.errors import BadInput, RevoqError
from rules.inputs import is_secret
from rules.secret import Secret
from scheduler.cli.intake import refuse_in_sight
from scheduler.offboard.items import Finding, Item, Mistake, Row
from scheduler.offboard.matching import Unmatched, match
from scheduler.offboard.references import REFERENCE, Resolver
from scheduler.offboard.subjects import Leaver, read_leaver
from scheduler.submit import Checked, Order, Plans, check
from worker.app import BULK
from worker.connections import NOBODY
from worker.runtime import Runtime

Owned = Literal["rotate", "revoke"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What was said on the command line for all rows together; a row's own word wins.

    `owned` is what becomes of the machines that a subject made, with new keys into these `sinks`; else they are listed.
    """

    requester: str
    connection: str = NOBODY
    reason: str | None = None
    owned: Owned | None = None
    sinks: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Ready:
    """An order that can be committed. `bare`: its secret stands in the file itself."""

    place: str
    checked: Checked
    bare: bool


@dataclass(frozen=True, slots=True)
class NoRule:
    """A finding that nothing here can deal with: it is listed, and not dropped."""

    place: str
    kind: str
    where: str
    says: str


@dataclass(frozen=True, slots=True)
class Leaving:
    """A subject: what is theirs is looked for when the batch is open, and again until nothing is new."""

    place: str
    leaver: Leaver


Result = Ready | Leaving | NoRule | Mistake


@dataclass
class Clerk:
    """Turns items into orders; keeps what orders that are alike have in common, and no secret."""

    runtime: Runtime
    asked: Asked
    folder: Path
    plans: Plans = field(default_factory=dict)
    resolver: Resolver = field(init=False)

    def __post_init__(self) -> None:
        """Look for files where the input lies."""
        self.resolver = Resolver(self.folder)

    def serve(self, item: Item) -> Iterator[Result]:
        """What becomes of one item."""
        if isinstance(item, Mistake):
            yield item
            return
        try:
            if isinstance(item, Finding):
                yield self._ready(item.place, self._of_finding(item), bare=True)
            elif item.subject is not None:
                yield Leaving(item.place, self._of_subject(item))
            else:
                yield self._ready(item.place, self._of_row(item), bare=self._is_bare(item))
        except Unmatched as error:
            finding = item if isinstance(item, Finding) else None
            kind = finding.names[-1] if finding is not None else ""
            yield NoRule(item.place, kind, finding.where if finding is not None else "", str(error))
        except RevoqError as error:
            yield Mistake(item.place, str(error))

    def _ready(self, place: str, order: Order, *, bare: bool) -> Ready:
        texts = {"reason": order.cause, "ticket": order.ticket, "owner": order.owner}
        refuse_in_sight(order.secret, texts)
        return Ready(place, check(self.runtime, order, self.plans), bare)

    def _of_row(self, row: Row) -> Order:
        loaded = self.runtime.catalogue.get(str(row.rule))
        secret = self.resolver.resolve("secret", row.secret) if row.secret is not None else None
        if secret is None and loaded.rule.secret == "required":  # noqa: S105 - no secret, but whether there is one
            raise BadInput(f"secret: {loaded.rule.id} needs it: give it, or a reference such as file:NAME or env:NAME")
        variables = {
            name: self.resolver.resolve(name, text).reveal() if is_secret(loaded.rule, name) else text
            for name, text in row.variables.items()
        }
        return Order(
            rule=loaded.rule.id,
            requester=self.asked.requester,
            secret=secret,
            variables=variables,
            connection=row.connection or self._default(loaded.rule.provider),
            cause=row.reason or self.asked.reason,
            ticket=row.ticket,
            owner=row.owner,
            queue=BULK,
        )

    def _of_subject(self, row: Row) -> Leaver:
        terms = {
            "requester": self.asked.requester,
            "spared": list(row.spared),
            "cause": row.reason or self.asked.reason,
            "ticket": row.ticket,
            "owner": row.owner,
            "owned": self.asked.owned,
            "sinks": list(self.asked.sinks),
        }
        return read_leaver(self.runtime, row.connection or self.asked.connection, str(row.subject), terms)

    def _default(self, provider: str) -> str:
        """The connection for rows that name none: one that leads elsewhere is not meant for them."""
        chosen = self.asked.connection
        if chosen == NOBODY or self.runtime.settings.connection(chosen).provider == provider:
            return chosen
        return NOBODY

    def _of_finding(self, finding: Finding) -> Order:
        matched = match(self.runtime, finding, self.asked.connection)
        found = f"found by {finding.scanner}" + (f" in {finding.where}" if finding.where else "")
        return Order(
            rule=matched.loaded.rule.id,
            requester=self.asked.requester,
            secret=Secret(matched.secret),
            variables=matched.variables,
            connection=matched.connection,
            cause=f"{self.asked.reason}; {found}" if self.asked.reason else found,
            finding=True,
            queue=BULK,
        )

    def _is_bare(self, row: Row) -> bool:
        rule = self.runtime.catalogue.get(str(row.rule)).rule
        texts = [text for name, text in row.variables.items() if is_secret(rule, name)]
        texts += [row.secret] if row.secret is not None else []
        return any(REFERENCE.fullmatch(text) is None for text in texts)
