"""Plans of offboardings on the ledger: kept with their sealed orders, approved, applied once; no more."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from sqlalchemy import RowMapping, insert, or_, select, update

from rules.errors import BadInput, MoveRefused
from worker.ledger import audit, moves
from worker.ledger import statements as sql
from worker.ledger.database import Database
from worker.ledger.rows import SealedSecret
from worker.ledger.tables import approvals, plans, secrets

SHORTEST = 12
"""Characters of a hash that are enough to mean one plan."""


@dataclass(frozen=True, slots=True)
class PlanRow:
    """A row of `plans`."""

    id: str
    hash: str
    content: Mapping[str, Any]
    requester: str
    created_at: int
    shred_by: int
    batch: str | None


@dataclass(frozen=True, slots=True)
class Approval:
    """A row of `approvals`; without a signature nobody proved who it was."""

    plan: str
    approver: str
    signature: str | None
    approved_at: int


def keep(db: Database, plan: PlanRow, sealed: Sequence[SealedSecret]) -> None:
    """Write a plan down with the orders that it is about."""
    with db.begin() as conn:
        conn.execute(insert(plans).values(**asdict(plan)))
        if sealed:
            conn.execute(insert(secrets), [{**asdict(secret), "plan": plan.id} for secret in sealed])
        facts = {"plan": plan.id, "hash": plan.hash, "actor": moves.plain(plan.requester)}
        audit.append_global(conn, at=db.now(), event="plan →made", **facts)


def find(db: Database, hashed: str) -> PlanRow:
    """The plan with this hash, or the only one whose hash begins like this; else BadInput."""
    query = select(plans).where(plans.c.hash.startswith(hashed, autoescape=True)).limit(2)
    with db.read() as conn:
        rows = conn.execute(query).mappings().all() if len(hashed) >= SHORTEST else []
    if len(rows) != 1:
        raise BadInput(f"there is no plan {hashed[:64]!r}: `revoq offboard … --dry-run` makes one and prints its hash")
    return PlanRow(**rows[0])


def orders_of(db: Database, plan: str) -> list[SealedSecret]:
    """The sealed orders of a plan, in their order."""
    columns = [column for column in secrets.c if column.name not in {"credential", "job", "plan"}]
    query = select(*columns).where(secrets.c.plan == plan).order_by(secrets.c.id)
    with db.read() as conn:
        return [SealedSecret(**row) for row in conn.execute(query).mappings()]


def approve(db: Database, plan: str, approver: str, signature: str | None) -> None:
    """Write down who approved, and whether that was proved; a second time changes nothing."""
    with db.begin() as conn:
        at = db.now()
        same = (approvals.c.plan == plan, approvals.c.approver == approver)
        if conn.execute(select(approvals.c.approved_at).where(*same)).one_or_none() is not None:
            return
        values = {"plan": plan, "approver": approver, "signature": signature, "approved_at": at}
        conn.execute(insert(approvals).values(**values))
        facts = {"plan": plan, "actor": moves.plain(approver), "authenticated": signature is not None}
        audit.append_global(conn, at=at, event="plan approved", **facts)


def approvals_of(db: Database, plan: str) -> list[Approval]:
    """Who approved a plan."""
    query = select(approvals).where(approvals.c.plan == plan).order_by(approvals.c.approved_at)
    with db.read() as conn:
        return [Approval(**row) for row in conn.execute(query).mappings()]


def apply(db: Database, plan: str, batch: str, *, actor: str) -> None:
    """→applied, once: the batch that is there first has it, and may be loaded further after a crash."""
    with db.begin() as conn:
        at = db.now()
        row: RowMapping = conn.execute(sql.locking(select(plans).where(plans.c.id == plan))).mappings().one()
        if row["batch"] == batch:
            return
        mine = update(plans).where(plans.c.id == plan, or_(plans.c.batch.is_(None), plans.c.batch == batch))
        if conn.execute(mine.values(batch=batch)).rowcount == 0:
            raise MoveRefused(f"this plan was applied already, as {row['batch']}: a plan is applied once")
        audit.append_global(conn, at=at, event="plan →applied", plan=plan, batch=batch, actor=moves.plain(actor))


def finish(db: Database, plan: str) -> None:
    """Its orders are jobs now, with secrets of their own: those of the plan need not wait for their date."""
    with db.begin() as conn:
        conn.execute(
            update(secrets).where(secrets.c.plan == plan, secrets.c.shredded_at.is_(None)).values(shred_by=db.now())
        )
