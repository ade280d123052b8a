"""What an offboarding would do, looked up item by item and kept as a plan with a hash; nothing is changed by it.

The orders of a plan are sealed beside it, so that who applies it needs neither the file nor what it refers to.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from rules.decision import Finish, Park
from rules.errors import BadInput
from rules.leaving import estimate
from rules.lifecycle import Intent
from rules.secret import Secret
from rules.units import SECOND
from scheduler.cli.rehearsing import says_of, would
from scheduler.offboard.loading import AnySource, Step, Survey, results_of
from scheduler.offboard.orders import Asked, Clerk, Leaving, Ready
from scheduler.offboard.rounds import preview
from scheduler.offboard.subjects import Leaver, residue
from scheduler.submit import Checked, Order, check, fingerprint_of, rehearse
from worker.envelopes import open_row, seal_row
from worker.ledger import audit, plans
from worker.ledger.plans import PlanRow
from worker.ledger.rows import SealedSecret
from worker.runtime import Runtime

KEPT_FOR = 24 * 3600.0
"""Seconds after which a plan that nobody applied is destroyed."""
AT_ONCE = 200
"""Orders in one envelope."""
KIND = "orders"


@dataclass
class Draft:
    """A plan while it is made."""

    items: list[dict[str, Any]] = field(default_factory=list)
    orders: list[Order] = field(default_factory=list)
    subjects: list[dict[str, Any]] = field(default_factory=list)
    requests: Counter[str] = field(default_factory=Counter)


def make(runtime: Runtime, source: AnySource, asked: Asked, found: Survey, step: Step = lambda _: None) -> PlanRow:
    """Look everything up, and keep what a batch would do now; the file has been surveyed."""
    draft = Draft()
    for result in results_of(Clerk(runtime, asked, source.folder), source, found.format):
        if isinstance(result, Leaving):
            _take_subject(runtime, draft, result.place, result.leaver)
        elif isinstance(result, Ready):
            draft.items.append(look(runtime, result.checked, result.place))
            draft.orders.append(result.checked.order)
            _count(draft, result.checked)
        step(len(draft.items))
    if source.digest != found.digest:
        raise BadInput(f"{source.path} changed between its check and its plan: nothing is kept; try again")
    return _keep(runtime, draft, source, asked, found)


def look(runtime: Runtime, checked: Checked, place: str, turn: str | None = None) -> dict[str, Any]:
    """One item: which credential it is, and what a job would do with it now."""
    order, rule = checked.order, checked.loaded.rule
    rehearsed = rehearse(runtime, checked) if order.intent is not Intent.ROTATE else None
    decision = rehearsed.decision if rehearsed is not None else None
    known = dict(order.variables)
    for taken in rehearsed.taken if rehearsed is not None else ():
        known.update({name: str(value) for name, value in taken.result.taken.items()})
    return {
        "place": place,
        "rule": rule.id,
        "connection": order.connection,
        "intent": order.intent.value,
        "fingerprint": fingerprint_of(runtime, order),
        "id": known.get(rule.credential.id or ""),
        "subject": known.get(rule.credential.subject or ""),
        "turn": turn,
        "would": would(decision) if decision is not None else "act",
        "verdict": decision.verdict.value if isinstance(decision, Finish) else None,
        "reason": decision.reason.value if isinstance(decision, Park) else None,
        "says": says_of(decision) if decision is not None else None,
        "plan": checked.plan.hash,
        "joins": rehearsed.joins if rehearsed is not None else None,
    }


def open_orders(runtime: Runtime, plan: PlanRow) -> Iterator[Order]:
    """The orders that were sealed with a plan, in its order."""
    now = runtime.database.now()
    for row in sorted(plans.orders_of(runtime.database, plan.id), key=lambda row: int(row.kind.partition(":")[2])):
        for fields in json.loads(open_row(runtime.safe, row, owner=plan.id, now=now).reveal()):
            secret = fields.pop("secret")
            intent = Intent(fields.pop("intent"))
            yield Order(**fields, intent=intent, secret=None if secret is None else Secret(secret))


def _take_subject(runtime: Runtime, draft: Draft, place: str, leaver: Leaver) -> None:
    ordered, beside = preview(runtime, leaver)
    planned = []
    for their in ordered:
        checked = check(runtime, their.order)
        item = look(runtime, checked, place, their.turn.value) | {"id": their.id, "subject": leaver.subject}
        draft.items.append(item)
        _count(draft, checked)
        planned.append(
            {
                "rule": their.rule,
                "id": their.id,
                "name": their.name,
                "turn": their.turn.value,
                "intent": their.order.intent.value,
                "item": len(draft.items) - 1,
            }
        )
    draft.subjects.append(
        {
            "place": place,
            "connection": leaver.connection,
            "subject": leaver.subject,
            "terms": {**leaver.terms, "planned": planned},
            "owned": beside.owned,
            "says": beside.says,
            "residual": residue(runtime, leaver),
        }
    )


def _count(draft: Draft, checked: Checked) -> None:
    draft.requests[checked.loaded.rule.id] += len(checked.plan.steps)


def _keep(runtime: Runtime, draft: Draft, source: AnySource, asked: Asked, found: Survey) -> PlanRow:
    database = runtime.database
    now = database.now()
    rules = {name: runtime.catalogue.get(name).rule for name in sorted({item["rule"] for item in draft.items})}
    content = {
        "version": 1,
        "made_at": now,
        "requester": asked.requester,
        "name": source.path.name,
        "digest": source.digest,
        "items": draft.items,
        "subjects": draft.subjects,
        "counts": _counts(draft.items),
        "without_rule": [
            {"kind": kind, "says": says, "count": count, "places": found.without_rule[kind, says]}
            for (kind, says), count in found.counts.items()
        ],
        "skipped": [{"place": mistake.place, "says": mistake.says} for mistake in found.mistakes],
        "also_kills": {name: rule.also_kills for name, rule in rules.items() if rule.also_kills},
        "residual": {name: rule.residual for name, rule in rules.items() if rule.residual},
        "seconds": round(estimate(draft.requests, rules)),
    }
    row = PlanRow(
        id=database.new_id("plan"),
        hash=hash_of(content),
        content=content,
        requester=asked.requester,
        created_at=now,
        shred_by=now + int(KEPT_FOR * SECOND),
        batch=None,
    )
    plans.keep(database, row, list(_seal(runtime, row.id, draft.orders, now)))
    return row


def hash_of(content: dict[str, Any]) -> str:
    """SHA-256 over the plan as canonical JSON."""
    return hashlib.sha256(audit.canonical(content)).hexdigest()


def _counts(items: Sequence[dict[str, Any]]) -> dict[str, dict[str, int]]:
    """By provider, how many would come to what."""
    told: dict[str, dict[str, int]] = {}
    for item in items:
        ends = item["verdict"] or item["reason"] or item["would"]
        of_provider = told.setdefault(item["rule"].partition(".")[0], {})
        of_provider[ends] = of_provider.get(ends, 0) + 1
    return told


def _seal(runtime: Runtime, plan: str, orders: Sequence[Order], now: int) -> Iterator[SealedSecret]:
    for number, start in enumerate(range(0, len(orders), AT_ONCE)):
        text = json.dumps([_written(order) for order in orders[start : start + AT_ONCE]])
        yield seal_row(runtime.safe, Secret(text), owner=plan, kind=f"{KIND}:{number}", now=now, shred_after=KEPT_FOR)


def _written(order: Order) -> dict[str, Any]:
    names = ("rule", "requester", "connection", "cause", "ticket", "owner", "probe", "finding", "queue")
    return {
        **{name: getattr(order, name) for name in names},
        "intent": order.intent.value,
        "variables": dict(order.variables),
        "secret": None if order.secret is None else order.secret.reveal(),
    }
