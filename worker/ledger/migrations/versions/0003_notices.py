"""Notices and the messages made of them, a few counters, and the indexes by which figures stay cheap."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003_notices"
down_revision = "0002_signed_heads"
branch_labels = None
depends_on = None

STANDS = sa.text("state IN ('parked', 'queued', 'running', 'waiting')")


def upgrade() -> None:
    op.create_table(
        "notices",
        sa.Column("key", sa.String(length=600), nullable=False),
        sa.Column("event", sa.String(length=24), nullable=False),
        sa.Column("about", sa.String(length=160), nullable=False),
        sa.Column("facts", sa.JSON(), nullable=False),
        sa.Column("says", sa.Text()),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("composed_at", sa.BigInteger()),
        sa.PrimaryKeyConstraint("key", name="pk_notices"),
    )
    op.create_index("ix_notices_composed_at", "notices", ["composed_at", "about"])
    op.create_table(
        "messages",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("receiver", sa.Text(), nullable=False),
        sa.Column("severity", sa.String(length=16), nullable=False),
        sa.Column("title", sa.Text(), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("tries", sa.Integer(), nullable=False),
        sa.Column("not_before", sa.BigInteger(), nullable=False),
        sa.Column("sent_at", sa.BigInteger()),
        sa.Column("given_up_at", sa.BigInteger()),
        sa.PrimaryKeyConstraint("id", name="pk_messages"),
    )
    op.create_index("ix_messages_due", "messages", ["sent_at", "given_up_at", "not_before"])
    op.create_table(
        "counters",
        sa.Column("name", sa.String(length=40), nullable=False),
        sa.Column("value", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_counters"),
    )
    op.create_index("ix_jobs_ended_at", "jobs", ["ended_at"])
    op.create_index("ix_steps_ended_at", "steps", ["ended_at"])
    op.create_index(
        "ix_jobs_standing",
        "jobs",
        ["state", "rule", "intent", "reason"],
        sqlite_where=STANDS,
        postgresql_where=STANDS,
    )
