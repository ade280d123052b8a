"""A subject at one connection: what is theirs now, as orders that name it; when that is asked is `rounds`'."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from typing import Any

from rules.errors import BadInput, RevoqError
from rules.leaving import Route, Turn, exposure, machine_rules, routes
from rules.lifecycle import Intent
from rules.naming import name_credential
from rules.schema import Rule
from scheduler.submit import Order, check, fingerprint_of
from worker.app import BULK, ROTATION
from worker.connections import NOBODY
from worker.ledger.leavers import Leaver
from worker.listing import list_credentials
from worker.runtime import Runtime

__all__ = ["Leaver", "Their", "Theirs", "find", "find_owned", "read_leaver", "recall", "residue"]


LONGEST = 400
"""Characters of a subject: no provider's id or name is longer."""
TOLD = 5
"""Machines that a sentence names."""


@dataclass(frozen=True, slots=True)
class Their:
    """One credential of a subject, by the provider's own id, and the order that ends it."""

    rule: str
    id: str
    name: str
    turn: Turn
    fingerprint: str
    order: Order

    @property
    def row(self) -> dict[str, Any]:
        """What is kept of it."""
        return {"rule": self.rule, "id": self.id, "fingerprint": self.fingerprint}


@dataclass(slots=True)
class Theirs:
    """What was found; `owned` are machines that they made, `says` what could not be told."""

    credentials: list[Their] = field(default_factory=list)
    owned: list[dict[str, Any]] = field(default_factory=list)
    says: list[str] = field(default_factory=list)


def read_leaver(runtime: Runtime, connection: str, subject: str, terms: Mapping[str, Any]) -> Leaver:
    """A subject that can be looked for; raises BadInput with what is missing, or whom the settings protect."""
    if connection == NOBODY:
        raise BadInput("a subject needs a connection: name it in the row, or with --connection")
    if len(subject) > LONGEST:
        raise BadInput(f"subject: expected at most {LONGEST} characters, got {len(subject)}")
    found = runtime.settings.connection(connection)
    glob = next((glob for glob in found.protected.subjects if fnmatchcase(subject, glob)), None)
    if glob is not None:
        raise BadInput(f"{subject!r} is protected by {glob!r} in the settings of {connection}")
    routes(_rules(runtime), found.provider)
    return Leaver("", connection, subject, terms)


def find(runtime: Runtime, leaver: Leaver, turn: Turn) -> Theirs:
    """What of a subject is dealt with in this turn, listed to its end; raises RevoqError where it cannot be."""
    theirs = Theirs()
    if turn is Turn.LAST and has_account(runtime, leaver) and (left := _left_alone(runtime, leaver)):
        theirs.says.append(
            f"the account of {leaver.subject} is left as it is, since {len(left)} machine credentials that they made "
            f"might die with it ({', '.join(left[:TOLD])}): end or replace them first, by --owned revoke or rotate"
        )
        return theirs
    for route in _routes(runtime, leaver):
        if route.turn is turn:
            for identifier in _ids(runtime, leaver, route):
                if identifier not in leaver.terms["spared"]:
                    theirs.credentials.append(_their(runtime, leaver, route.rule, identifier, leaver.subject, turn))
    if turn is Turn.NOW:
        find_owned(runtime, leaver, theirs)
    return theirs


def find_owned(runtime: Runtime, leaver: Leaver, theirs: Theirs) -> None:
    """The machines that the subject made: orders only where that was asked for."""
    for rule in machine_rules(_rules(runtime), runtime.settings.connection(leaver.connection).provider):
        if rule.listing is None or rule.listing.made_by is None:
            theirs.says.append(f"{rule.id}: the provider does not tell who made one, so none is counted as theirs")
            continue
        for identifier, shown in _rows(runtime, leaver, rule, None):
            if shown.get(rule.listing.made_by) != leaver.subject:
                continue
            name = shown.get(rule.listing.name or "", identifier)
            spared = identifier in leaver.terms["spared"]
            becomes = None if spared else leaver.terms["owned"]
            theirs.owned.append({"rule": rule.id, "id": identifier, "name": name, "becomes": becomes})
            if becomes is not None:
                theirs.credentials.append(_their(runtime, leaver, rule, identifier, name, Turn.NOW, Intent(becomes)))


def _left_alone(runtime: Runtime, leaver: Leaver) -> list[str]:
    """The machines of theirs that live on, now: production must not die with an account."""
    theirs = Theirs()
    find_owned(runtime, leaver, theirs)
    return [str(each["name"]) for each in theirs.owned if each["becomes"] is None]


def recall(runtime: Runtime, leaver: Leaver, planned: Mapping[str, Any]) -> Their:
    """One credential as a plan has it, whether or not the provider lists it still."""
    rule = runtime.catalogue.get(planned["rule"]).rule
    intent = Intent(planned["intent"])
    their = _their(runtime, leaver, rule, planned["id"], planned["name"], Turn(planned["turn"]), intent)
    return replace(their, order=replace(their.order, moved=planned.get("moved") or ""))


def has_account(runtime: Runtime, leaver: Leaver) -> bool:
    """Whether a rule ends the account itself, which waits for everything else of theirs."""
    return any(route.turn is Turn.LAST for route in _routes(runtime, leaver))


def residue(runtime: Runtime, leaver: Leaver) -> list[dict[str, Any]]:
    """What lives on although everything of a subject is ended, and until when."""
    return exposure((route.rule for route in _routes(runtime, leaver)), runtime.database.now())


def _rules(runtime: Runtime) -> list[Rule]:
    return [loaded.rule for loaded in runtime.catalogue]


def _routes(runtime: Runtime, leaver: Leaver) -> list[Route]:
    return routes(_rules(runtime), runtime.settings.connection(leaver.connection).provider)


def _ids(runtime: Runtime, leaver: Leaver, route: Route) -> list[str]:
    if not route.listed:
        return [leaver.subject]
    return [identifier for identifier, _ in _rows(runtime, leaver, route.rule, leaver.subject)]


def _rows(runtime: Runtime, leaver: Leaver, rule: Rule, subject: str | None) -> list[tuple[str, Mapping[str, str]]]:
    loaded = runtime.catalogue.get(rule.id)
    listed = list_credentials(runtime.connections.account(leaver.connection, loaded), loaded, subject, {})
    if listed.cut_off:
        raise BadInput(f"{rule.id}: the list could not be read to its end: {listed.cut_off}")
    if not all(row["id"] for row in listed.rows):
        raise BadInput(f"{rule.id}: a row of the list has no id")
    return [(str(row["id"]), row["shown"] if isinstance(row["shown"], dict) else {}) for row in listed.rows]


def _their(
    runtime: Runtime,
    leaver: Leaver,
    rule: Rule,
    identifier: str,
    name: str,
    turn: Turn,
    intent: Intent = Intent.REVOKE,
) -> Their:
    terms = leaver.terms
    order = Order(
        rule=rule.id,
        requester=terms["requester"],
        intent=intent,
        variables=name_credential(rule, identifier, name),
        connection=leaver.connection,
        cause=terms["cause"] or f"everything of {leaver.subject}",
        ticket=terms["ticket"],
        owner=terms["owner"],
        sinks=tuple(terms["sinks"]) if intent is Intent.ROTATE else (),
        queue=ROTATION if intent is Intent.ROTATE else BULK,
    )
    try:
        check(runtime, order)
    except RevoqError as error:
        raise BadInput(f"{rule.id}, {identifier}: {error}") from None
    return Their(rule.id, identifier, name, turn, fingerprint_of(runtime, order), order)
