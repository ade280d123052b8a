"""A plan that was approved, held against what there is now, and applied once; making one is `planning`'s.

What is as it was goes ahead. What moved is parked for a person, what vanished is left to its job, which probes it; what
is new is told, and needs another plan.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from rules.errors import BadInput, MoveRefused, RevoqError
from rules.leaving import compare, refuse_many
from scheduler.offboard.loading import CHUNK, FIRST_ROUND, PRIORITY, Loaded, Survey, ring_batches
from scheduler.offboard.planning import look, open_orders
from scheduler.offboard.rounds import advance, preview
from scheduler.offboard.signatures import HOW, verify
from scheduler.offboard.subjects import Leaver, recall
from scheduler.submit import Checked, check, new_job
from worker.connections import NOBODY
from worker.ledger import batches, leavers, plans
from worker.ledger.plans import PlanRow
from worker.ledger.rows import NewJob
from worker.listing import list_credentials
from worker.runtime import Runtime


@dataclass
class Difference:
    """How the world is not as a plan has it, each with its place, rule, id and what is different."""

    moved: list[dict[str, Any]] = field(default_factory=list)
    vanished: list[dict[str, Any]] = field(default_factory=list)
    new: list[dict[str, Any]] = field(default_factory=list)

    def __bool__(self) -> bool:
        """Whether anything is different."""
        return bool(self.moved or self.vanished or self.new)


@dataclass(frozen=True, slots=True)
class Applied:
    """A batch that was opened from a plan."""

    plan: PlanRow
    loaded: Loaded
    difference: Difference
    approver: str
    authenticated: bool


# ── may it be ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def refuse_unplanned(runtime: Runtime, found: Survey, *, override: bool) -> None:
    """Refuse a batch that nobody planned where the settings ask for approval, or call it too large."""
    approval = runtime.settings.approval
    count = sum(found.acting.values())
    if approval is not None and count > approval.above:
        raise MoveRefused(
            f"{count} credentials, and the settings ask for approval above {approval.above}: make a plan with "
            "--dry-run, and apply that with --approve"
        )
    if not override:
        _refuse_too_many(runtime, found.acting)


def _refuse_too_many(runtime: Runtime, acting: Mapping[tuple[str, str], int]) -> None:
    says = too_many(runtime, acting)
    if says:
        raise MoveRefused("; ".join(says) + ". Say --override-limit if it is meant, or have its plan signed")


def too_many(runtime: Runtime, acting: Mapping[tuple[str, str], int]) -> list[str]:
    """What the settings' breakers say of so many credentials by connection and rule."""
    limits = runtime.settings.batch_limits
    totals: dict[str, int] = {}
    for (connection, _), count in acting.items():
        totals[connection] = totals.get(connection, 0) + count
    says = refuse_many(totals, {}, limits.most, None)
    if limits.most_percent is not None:
        for (connection, rule), count in sorted(acting.items()):
            living = _living(runtime, connection, rule)
            says += refuse_many({connection: count}, {connection: living}, None, limits.most_percent) if living else []
    return says


def _living(runtime: Runtime, connection: str, rule: str) -> int | None:
    """How many the provider lists for the whole account; None where it lists one person's, or none."""
    loaded = runtime.catalogue.get(rule)
    if connection == NOBODY:
        return None
    try:
        account = runtime.connections.account(connection, loaded)
        return len(list_credentials(account, loaded, None, {}).rows)
    except BadInput:
        return None


def approve(runtime: Runtime, plan: PlanRow, actor: str, signature: Path | None) -> tuple[str, bool]:
    """Who approves, and whether that is proved; raises where the settings ask for more."""
    approval = runtime.settings.approval
    count = len(plan.content["items"])
    demanded = approval is not None and count > approval.above
    if signature is not None:
        if approval is None or approval.allowed_signers is None:
            raise BadInput("a signature is checked against `approval: {allowed_signers: FILE}` of the settings: say it")
        signer = verify(signature, plan.hash, approval.allowed_signers)
        if demanded and approval.by_another and _is_same(signer, plan.requester):
            raise MoveRefused(f"{signer} made this plan, and the settings ask for approval by another")
        plans.approve(runtime.database, plan.id, signer, signature.read_text("utf-8"))
        return signer, True
    if demanded and approval is not None and approval.allowed_signers is not None:
        raise MoveRefused(
            f"{count} credentials, above {approval.above}: the approval has to be signed"
            f"{' by another than ' + plan.requester if approval.by_another else ''}: echo {plan.hash} | {HOW} > FILE, "
            "and then --signature FILE"
        )
    plans.approve(runtime.database, plan.id, actor, None)
    return actor, False


def _is_same(signer: str, requester: str) -> bool:
    """Whether two names are likely to be one person's: the host, or the domain, tells nothing."""
    return signer.partition("@")[0].casefold() == requester.partition("@")[0].casefold()


# ── apply ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def usable(runtime: Runtime, hashed: str) -> PlanRow:
    """The plan of a hash that can still be applied; else a sentence."""
    plan = plans.find(runtime.database, hashed)
    if plan.batch is not None and not _is_left(runtime, plan.batch):
        raise MoveRefused(f"this plan was applied already, as {plan.batch}: a plan is applied once")
    if runtime.database.now() >= plan.shred_by:
        raise MoveRefused("this plan is older than a day, and was destroyed: make another with --dry-run")
    return plan


def _is_left(runtime: Runtime, batch: str) -> bool:
    """Whether who applied it died over it, so that it may be gone on with."""
    return batches.find(runtime.database, batch).abandoned


def apply(
    runtime: Runtime, hashed: str, *, actor: str, strict: bool, signature: Path | None, override: bool = False
) -> Applied:
    """Approve a plan and do what it says, as far as it still is so. A signature lifts the limits of a batch."""
    plan = usable(runtime, hashed)
    difference = Difference()
    ready = list(_singles(runtime, plan, difference))
    people = [_person(runtime, plan, subject, difference) for subject in plan.content["subjects"]]
    if strict and difference:
        raise MoveRefused(_tell_strictly(difference))
    if signature is None and not override:
        _refuse_too_many(runtime, Counter((item["connection"], item["rule"]) for item in plan.content["items"]))
    approver, authenticated = approve(runtime, plan, actor, signature)
    loaded = _load(runtime, plan, ready, people, actor)
    return Applied(plan, loaded, difference, approver, authenticated)


def _singles(runtime: Runtime, plan: PlanRow, difference: Difference) -> Iterator[NewJob]:
    """The jobs of the rows and findings; one that moved is parked before anything."""
    items = [item for item in plan.content["items"] if item["turn"] is None]
    for item, order in zip(items, open_orders(runtime, plan), strict=True):
        try:
            checked = check(runtime, order)
        except RevoqError as error:
            # There is no job to be parked: what it would need is not there any more.
            difference.moved.append(_brief(item, f"it cannot be submitted any more: {error}"))
            continue
        says = _hold_against(runtime, item, checked, difference)
        yield replace(new_job(runtime, replace(checked, order=replace(order, moved=says))), priority=PRIORITY)


def _person(runtime: Runtime, plan: PlanRow, subject: Mapping[str, Any], difference: Difference) -> Leaver:
    """A subject, bound to what the plan has of theirs."""
    leaver = Leaver("", subject["connection"], subject["subject"], subject["terms"])
    planned = []
    for each in subject["terms"]["planned"]:
        item = plan.content["items"][each["item"]]
        says = _hold_against(runtime, item, check(runtime, recall(runtime, leaver, each).order), difference)
        planned.append({**each, "moved": says})
    there, _ = preview(runtime, leaver)
    told = {(each["rule"], each["id"]) for each in planned}
    new = [their for their in there if (their.rule, their.id) not in told]
    difference.new += [
        {"place": subject["place"], "rule": their.rule, "id": their.id, "says": f"{leaver.subject} has it by now"}
        for their in new
    ]
    terms = {**subject["terms"], "planned": planned}
    return replace(leaver, terms=terms, unplanned=[their.row for their in new])


def _hold_against(runtime: Runtime, item: Mapping[str, Any], checked: Checked, difference: Difference) -> str:
    """Look again; what is to be said of a job that moved, or nothing."""
    now = look(runtime, checked, item["place"], item["turn"])
    if item["turn"] is not None:
        # Of a subject's the id is what the list says, in the plan as here.
        now["id"] = item["id"]
    moved = compare(item, now)
    if moved is None:
        return ""
    (difference.vanished if moved.gone else difference.moved).append(_brief(item, moved.says))
    return "" if moved.gone else f"since it was planned: {moved.says}"


def _brief(item: Mapping[str, Any], says: str) -> dict[str, Any]:
    return {"place": item["place"], "rule": item["rule"], "id": item["id"], "says": says}


def _load(runtime: Runtime, plan: PlanRow, ready: list[NewJob], people: list[Leaver], actor: str) -> Loaded:
    database = runtime.database
    batch = batches.begin(database, name=plan.content["name"], source=plan.hash, actor=actor, plan=plan.id).id
    try:
        plans.apply(database, plan.id, batch, actor=actor)
        chunks = (ready[start : start + CHUNK] for start in range(0, len(ready), CHUNK))
        staged = [batches.stage(database, batch, chunk) for chunk in chunks]
        for leaver in people:
            leavers.register(database, replace(leaver, batch=batch))
    except MoveRefused:
        # Somebody else applied it in the meantime: this batch is nobody's.
        batches.cancel(database, batch, actor=actor, why="its plan was applied by another")
        raise
    except BaseException:
        batches.abandon(database, batch)
        raise
    batches.release(database, batch, actor=actor)
    plans.finish(database, plan.id)
    advance(runtime, batch, patience=FIRST_ROUND)
    opened, joined = sum(each.opened for each in staged), sum(each.joined for each in staged)
    return Loaded(batch, opened, joined, sum(each.repeated for each in staged), rung=ring_batches(runtime))


def _tell_strictly(difference: Difference) -> str:
    lines = [
        f"{word}: {each['rule']} {each['id'] or each['place']}: {each['says']}"
        for word, told in (("moved", difference.moved), ("vanished", difference.vanished), ("new", difference.new))
        for each in told
    ]
    return "\n".join([*lines, "the plan no longer holds, so nothing of it was done: make another with --dry-run"])
