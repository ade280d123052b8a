"""Signed heads of the audit trail, what sinks have of them, and the one way by which audit rows leave: a seam."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002_signed_heads"
down_revision = "0001"
branch_labels = None
depends_on = None

APPEND_ONLY = {"heads": "number = NEW.number", "seams": "first = NEW.first"}
"""The new tables whose rows stay as they were written, each with what makes two rows one."""
REFUSAL = "the table % is append-only: % is refused, since what it says is evidence"
LEFT = (
    "EXISTS (SELECT 1 FROM seals JOIN seams ON seals.number BETWEEN seams.first AND seams.last "
    "WHERE seals.job = OLD.job AND seals.audit_number = OLD.number)"
)
"""A row may go when a seam says that it has left with an archive; whether that seam was signed, a check finds out."""


def upgrade() -> None:
    op.create_table(
        "heads",
        sa.Column("number", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("statement", sa.LargeBinary(), nullable=False),
        sa.Column("signature", sa.String(length=128), nullable=False),
        sa.PrimaryKeyConstraint("number", name="pk_heads"),
    )
    op.create_table(
        "seams",
        sa.Column("first", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("last", sa.BigInteger(), nullable=False),
        sa.Column("head", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["head"], ["heads.number"], name="fk_seams_head"),
        sa.PrimaryKeyConstraint("first", name="pk_seams"),
    )
    op.create_table(
        "deliveries",
        sa.Column("sink", sa.String(length=120), nullable=False),
        sa.Column("number", sa.BigInteger(), nullable=False),
        sa.Column("delivered_at", sa.BigInteger()),
        sa.Column("failed_at", sa.BigInteger()),
        sa.Column("says", sa.Text()),
        sa.PrimaryKeyConstraint("sink", name="pk_deliveries"),
    )
    if op.get_bind().dialect.name == "postgresql":
        guard_on_postgresql()
    else:
        guard_on_sqlite()


def guard_on_postgresql() -> None:
    for table in APPEND_ONLY:
        op.execute(
            f"CREATE TRIGGER {table}_append_only BEFORE UPDATE OR DELETE ON {table} "
            "FOR EACH ROW EXECUTE FUNCTION revoq_append_only()"
        )
        op.execute(
            f"CREATE TRIGGER {table}_not_emptied BEFORE TRUNCATE ON {table} "
            "FOR EACH STATEMENT EXECUTE FUNCTION revoq_append_only()"
        )
    op.execute(
        f"""
        CREATE FUNCTION revoq_archived_only() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            IF TG_OP = 'DELETE' THEN
                IF {LEFT} THEN
                    RETURN OLD;
                END IF;
            END IF;
            RAISE EXCEPTION '{REFUSAL}', TG_TABLE_NAME, TG_OP USING ERRCODE = 'restrict_violation';
        END
        $$
        """
    )
    op.execute("DROP TRIGGER audit_append_only ON audit")
    op.execute(
        "CREATE TRIGGER audit_append_only BEFORE UPDATE OR DELETE ON audit "
        "FOR EACH ROW EXECUTE FUNCTION revoq_archived_only()"
    )


def guard_on_sqlite() -> None:
    """REPLACE deletes without asking a DELETE trigger, so an INSERT over a row is refused too."""
    for table, same_row in APPEND_ONLY.items():
        refuse(table, "update", "UPDATE")
        refuse(table, "delete", "DELETE")
        refuse(table, "replace", "INSERT", f"EXISTS (SELECT 1 FROM {table} WHERE {same_row})")  # noqa: S608 - our own
    op.execute("DROP TRIGGER audit_no_delete")
    refuse("audit", "delete", "DELETE", f"NOT {LEFT}")


def refuse(table: str, what: str, verb: str, when: str = "true") -> None:
    says = REFUSAL.replace("%", table, 1).replace("%", what.upper(), 1)
    op.execute(
        f"CREATE TRIGGER {table}_no_{what} BEFORE {verb} ON {table} WHEN {when} "
        f"BEGIN SELECT RAISE(ABORT, '{says}'); END"
    )
