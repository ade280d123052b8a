"""The ledger's first tables, and the triggers that keep its audit trail append-only."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

APPEND_ONLY = {
    "audit": "job = NEW.job AND number = NEW.number",
    "seals": "number = NEW.number OR (job = NEW.job AND audit_number = NEW.audit_number)",
}
"""The tables whose rows stay as they were written, each with what makes two rows one."""
REFUSAL = "the table % is append-only: % is refused, since what it says is evidence"


def upgrade() -> None:
    create_credentials_and_jobs()
    create_audit()
    create_accounts_and_batches()
    create_clock()
    if op.get_bind().dialect.name == "postgresql":
        refuse_changes_on_postgresql()
    else:
        refuse_changes_on_sqlite()


def create_credentials_and_jobs() -> None:
    op.create_table(
        "credentials",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("fingerprint", sa.String(length=64), nullable=False),
        sa.Column("fingerprint_key", sa.String(length=32), nullable=False),
        sa.Column("rule", sa.String(length=120), nullable=False),
        sa.Column("connection", sa.String(length=120), nullable=False),
        sa.Column("provider_id", sa.Text()),
        sa.Column("subject", sa.Text()),
        sa.Column("expires_at", sa.BigInteger()),
        sa.Column("first_seen", sa.BigInteger(), nullable=False),
        sa.Column("alive_at", sa.BigInteger()),
        sa.Column("alive_where", sa.Text()),
        sa.Column("dead_at", sa.BigInteger()),
        sa.Column("stage", sa.String(length=16)),
        sa.Column("staged_at", sa.BigInteger()),
        sa.Column("target", sa.String(length=40)),
        sa.PrimaryKeyConstraint("id", name="pk_credentials"),
        sa.UniqueConstraint("fingerprint", "rule", "connection", name="uq_credentials_fingerprint_rule_connection"),
    )
    op.create_index("ix_credentials_provider_id", "credentials", ["connection", "provider_id"])
    op.create_index("ix_credentials_target", "credentials", ["target"])
    op.create_table(
        "jobs",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("parent", sa.String(length=40)),
        sa.Column("batch", sa.String(length=40)),
        sa.Column("credential", sa.String(length=40), nullable=False),
        sa.Column("intent", sa.String(length=16), nullable=False),
        sa.Column("rule", sa.String(length=120), nullable=False),
        sa.Column("rule_digest", sa.String(length=64), nullable=False),
        sa.Column("connection", sa.String(length=120), nullable=False),
        sa.Column("plan", sa.JSON(), nullable=False),
        sa.Column("plan_hash", sa.String(length=64), nullable=False),
        sa.Column("inputs", sa.JSON(), nullable=False),
        sa.Column("options", sa.JSON(), nullable=False),
        sa.Column("account", sa.String(length=400), nullable=False),
        sa.Column("cost", sa.Integer(), nullable=False),
        sa.Column("queue", sa.String(length=32), nullable=False),
        sa.Column("priority", sa.Integer(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("verdict", sa.String(length=24)),
        sa.Column("reason", sa.String(length=24)),
        sa.Column("says", sa.Text()),
        sa.Column("candidates", sa.JSON()),
        sa.Column("drive", sa.Integer(), nullable=False),
        sa.Column("acted", sa.Boolean(), nullable=False),
        sa.Column("fence", sa.Integer(), nullable=False),
        sa.Column("lease_until", sa.BigInteger()),
        sa.Column("not_before", sa.BigInteger(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("first_seen", sa.BigInteger(), nullable=False),
        sa.Column("rung_at", sa.BigInteger()),
        sa.Column("rings", sa.Integer(), nullable=False),
        sa.Column("ended_at", sa.BigInteger()),
        sa.Column("ticket", sa.Text()),
        sa.Column("owner", sa.Text()),
        sa.Column("requester", sa.Text(), nullable=False),
        sa.Column("cause", sa.Text()),
        sa.Column("audit_number", sa.Integer(), nullable=False),
        sa.Column("audit_hash", sa.String(length=64), nullable=False),
        sa.ForeignKeyConstraint(["credential"], ["credentials.id"], name="fk_jobs_credential"),
        sa.PrimaryKeyConstraint("id", name="pk_jobs"),
    )
    op.create_index("ix_jobs_batch", "jobs", ["batch", "state", "not_before"])
    op.create_index("ix_jobs_credential", "jobs", ["credential"])
    op.create_index("ix_jobs_due", "jobs", ["state", "not_before"])
    op.create_index("ix_jobs_lease", "jobs", ["state", "lease_until"])
    op.create_index(
        "uq_jobs_open",
        "jobs",
        ["credential", "connection", "intent"],
        unique=True,
        sqlite_where=sa.text("state IN ('parked', 'queued', 'running', 'waiting')"),
        postgresql_where=sa.text("state IN ('parked', 'queued', 'running', 'waiting')"),
    )
    op.create_table(
        "plans",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("hash", sa.String(length=64), nullable=False),
        sa.Column("content", sa.JSON(), nullable=False),
        sa.Column("requester", sa.Text(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("shred_by", sa.BigInteger(), nullable=False),
        sa.Column("batch", sa.String(length=40)),
        sa.PrimaryKeyConstraint("id", name="pk_plans"),
        sa.UniqueConstraint("hash", name="uq_plans_hash"),
    )
    op.create_table(
        "secrets",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("credential", sa.String(length=40)),
        sa.Column("job", sa.String(length=40)),
        sa.Column("plan", sa.String(length=40)),
        sa.Column("kind", sa.String(length=160), nullable=False),
        sa.Column("fingerprint", sa.String(length=64), nullable=False),
        sa.Column("fingerprint_key", sa.String(length=32), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("algorithm", sa.String(length=16), nullable=False),
        sa.Column("key_id", sa.String(length=32), nullable=False),
        sa.Column("nonce", sa.LargeBinary()),
        sa.Column("ciphertext", sa.LargeBinary()),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("shred_by", sa.BigInteger(), nullable=False),
        sa.Column("shredded_at", sa.BigInteger()),
        sa.ForeignKeyConstraint(["credential"], ["credentials.id"], name="fk_secrets_credential"),
        sa.ForeignKeyConstraint(["job"], ["jobs.id"], name="fk_secrets_job"),
        sa.ForeignKeyConstraint(["plan"], ["plans.id"], name="fk_secrets_plan"),
        sa.PrimaryKeyConstraint("id", name="pk_secrets"),
    )
    op.create_index("ix_secrets_fingerprint", "secrets", ["fingerprint"])
    op.create_index("ix_secrets_job", "secrets", ["job"])
    op.create_index("ix_secrets_plan", "secrets", ["plan"])
    op.create_index("ix_secrets_shred_by", "secrets", ["shredded_at", "shred_by"])
    op.create_table(
        "steps",
        sa.Column("job", sa.String(length=40), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("drive", sa.Integer(), nullable=False),
        sa.Column("fence", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(length=120), nullable=False),
        sa.Column("purpose", sa.String(length=16), nullable=False),
        sa.Column("mutating", sa.Boolean(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("outcome", sa.String(length=16)),
        sa.Column("says", sa.Text()),
        sa.Column("request", sa.JSON(), nullable=False),
        sa.Column("taken", sa.JSON()),
        sa.Column("evidence", sa.JSON()),
        sa.Column("retry_after", sa.BigInteger()),
        sa.Column("started_at", sa.BigInteger(), nullable=False),
        sa.Column("ended_at", sa.BigInteger()),
        sa.ForeignKeyConstraint(["job"], ["jobs.id"], name="fk_steps_job"),
        sa.PrimaryKeyConstraint("job", "number", name="pk_steps"),
    )


def create_audit() -> None:
    op.create_table(
        "audit",
        sa.Column("job", sa.String(length=40), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("row", sa.LargeBinary(), nullable=False),
        sa.Column("hash", sa.String(length=64), nullable=False),
        sa.PrimaryKeyConstraint("job", "number", name="pk_audit"),
    )
    op.create_index("ix_audit_at", "audit", ["at"])
    op.create_table(
        "seals",
        sa.Column("number", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("job", sa.String(length=40), nullable=False),
        sa.Column("audit_number", sa.Integer(), nullable=False),
        sa.Column("hash", sa.String(length=64), nullable=False),
        sa.Column("head", sa.String(length=64), nullable=False),
        sa.Column("sealed_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("number", name="pk_seals"),
        sa.UniqueConstraint("job", "audit_number", name="uq_seals_job_audit_number"),
    )


def create_accounts_and_batches() -> None:
    op.create_table(
        "accounts",
        sa.Column("connection", sa.String(length=400), nullable=False),
        sa.Column("held_at", sa.BigInteger()),
        sa.Column("held_by", sa.Text()),
        sa.Column("held_why", sa.Text()),
        sa.Column("retry_at", sa.BigInteger()),
        sa.Column("tokens", sa.BigInteger()),
        sa.Column("refilled_at", sa.BigInteger()),
        sa.Column("failures", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("broken_until", sa.BigInteger()),
        sa.PrimaryKeyConstraint("connection", name="pk_accounts"),
    )
    op.create_table(
        "batches",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("requester", sa.Text(), nullable=False),
        sa.Column("plan", sa.String(length=40)),
        sa.Column("source", sa.String(length=64)),
        sa.Column("beat_at", sa.BigInteger()),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("opened_at", sa.BigInteger()),
        sa.Column("watched_from", sa.BigInteger()),
        sa.Column("says", sa.Text()),
        sa.Column("ended_at", sa.BigInteger()),
        sa.PrimaryKeyConstraint("id", name="pk_batches"),
    )
    op.create_table(
        "leavers",
        sa.Column("batch", sa.String(length=40), nullable=False),
        sa.Column("connection", sa.String(length=120), nullable=False),
        sa.Column("subject", sa.String(length=400), nullable=False),
        sa.Column("terms", sa.JSON(), nullable=False),
        sa.Column("turn", sa.String(length=16), nullable=False),
        sa.Column("round", sa.Integer(), nullable=False),
        sa.Column("known", sa.JSON(), nullable=False),
        sa.Column("unplanned", sa.JSON(), nullable=False),
        sa.Column("owned", sa.JSON(), nullable=False),
        sa.Column("residual", sa.JSON(), nullable=False),
        sa.Column("says", sa.JSON(), nullable=False),
        sa.Column("look_at", sa.BigInteger(), nullable=False),
        sa.Column("ended_at", sa.BigInteger()),
        sa.ForeignKeyConstraint(["batch"], ["batches.id"], name="fk_leavers_batch"),
        sa.PrimaryKeyConstraint("batch", "connection", "subject", name="pk_leavers"),
    )
    op.create_index("ix_leavers_look_at", "leavers", ["ended_at", "look_at"])
    op.create_table(
        "joined",
        sa.Column("batch", sa.String(length=40), nullable=False),
        sa.Column("job", sa.String(length=40), nullable=False),
        sa.ForeignKeyConstraint(["batch"], ["batches.id"], name="fk_joined_batch"),
        sa.ForeignKeyConstraint(["job"], ["jobs.id"], name="fk_joined_job"),
        sa.PrimaryKeyConstraint("batch", "job", name="pk_joined"),
    )
    op.create_table(
        "approvals",
        sa.Column("plan", sa.String(length=40), nullable=False),
        sa.Column("approver", sa.String(length=200), nullable=False),
        sa.Column("signature", sa.Text()),
        sa.Column("approved_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["plan"], ["plans.id"], name="fk_approvals_plan"),
        sa.PrimaryKeyConstraint("plan", "approver", name="pk_approvals"),
    )


def create_clock() -> None:
    op.create_table(
        "schedules",
        sa.Column("name", sa.String(length=120), nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("until", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_schedules"),
    )
    op.create_table(
        "slots",
        sa.Column("schedule", sa.String(length=120), nullable=False),
        sa.Column("due", sa.BigInteger(), nullable=False),
        sa.Column("closes", sa.BigInteger(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("intent", sa.String(length=16), nullable=False),
        sa.Column("rule", sa.String(length=120), nullable=False),
        sa.Column("connection", sa.String(length=120), nullable=False),
        sa.Column("requester", sa.Text(), nullable=False),
        sa.Column("look_at", sa.BigInteger(), nullable=False),
        sa.Column("says", sa.Text()),
        sa.Column("opened_at", sa.BigInteger(), nullable=False),
        sa.Column("listed_at", sa.BigInteger()),
        sa.Column("ended_at", sa.BigInteger()),
        sa.PrimaryKeyConstraint("schedule", "due", name="pk_slots"),
    )
    op.create_index("ix_slots_state", "slots", ["state", "schedule"])
    op.create_table(
        "slot_targets",
        sa.Column("schedule", sa.String(length=120), nullable=False),
        sa.Column("due", sa.BigInteger(), nullable=False),
        sa.Column("target", sa.Text(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("subject", sa.Text()),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("variables", sa.JSON(), nullable=False),
        sa.Column("role", sa.Text()),
        sa.Column("canary", sa.Boolean(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("born", sa.BigInteger()),
        sa.Column("used", sa.BigInteger()),
        sa.Column("not_before", sa.BigInteger(), nullable=False),
        sa.Column("job", sa.String(length=40)),
        sa.Column("says", sa.Text()),
        sa.Column("started_at", sa.BigInteger()),
        sa.Column("ended_at", sa.BigInteger()),
        sa.ForeignKeyConstraint(
            ["schedule", "due"], ["slots.schedule", "slots.due"], name="fk_slot_targets_schedule_due"
        ),
        sa.PrimaryKeyConstraint("schedule", "due", "target", name="pk_slot_targets"),
    )
    op.create_index("ix_slot_targets_state", "slot_targets", ["schedule", "state"])
    op.create_table(
        "rechecks",
        sa.Column("credential", sa.String(length=40), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("after", sa.String(length=40), nullable=False),
        sa.Column("due", sa.BigInteger(), nullable=False),
        sa.Column("lapsed_at", sa.BigInteger()),
        sa.Column("incident", sa.String(length=40)),
        sa.Column("job", sa.String(length=40)),
        sa.Column("opened_at", sa.BigInteger()),
        sa.Column("found", sa.String(length=16)),
        sa.Column("ended_at", sa.BigInteger()),
        sa.ForeignKeyConstraint(["credential"], ["credentials.id"], name="fk_rechecks_credential"),
        sa.PrimaryKeyConstraint("credential", "number", name="pk_rechecks"),
    )
    op.create_index("ix_rechecks_due", "rechecks", ["ended_at", "job", "due"])
    op.create_index("ix_rechecks_job", "rechecks", ["job"])
    op.create_index("ix_rechecks_after", "rechecks", ["after"])


def refuse_changes_on_postgresql() -> None:
    op.execute(
        f"""
        CREATE FUNCTION revoq_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            RAISE EXCEPTION '{REFUSAL}', TG_TABLE_NAME, TG_OP USING ERRCODE = 'restrict_violation';
        END
        $$
        """
    )
    for table in APPEND_ONLY:
        op.execute(
            f"CREATE TRIGGER {table}_append_only BEFORE UPDATE OR DELETE ON {table} "
            "FOR EACH ROW EXECUTE FUNCTION revoq_append_only()"
        )
        op.execute(
            f"CREATE TRIGGER {table}_not_emptied BEFORE TRUNCATE ON {table} "
            "FOR EACH STATEMENT EXECUTE FUNCTION revoq_append_only()"
        )


def refuse_changes_on_sqlite() -> None:
    """REPLACE deletes without asking a DELETE trigger, so an INSERT over a row is refused too."""
    for table, same_row in APPEND_ONLY.items():
        for verb in ("UPDATE", "DELETE"):
            op.execute(
                f"CREATE TRIGGER {table}_no_{verb.lower()} BEFORE {verb} ON {table} "
                f"BEGIN SELECT RAISE(ABORT, '{REFUSAL.replace('%', table, 1).replace('%', verb, 1)}'); END"
            )
        op.execute(
            f"CREATE TRIGGER {table}_no_replace BEFORE INSERT ON {table} "  # noqa: S608 - names of our own, from above
            f"WHEN EXISTS (SELECT 1 FROM {table} WHERE {same_row}) "
            f"BEGIN SELECT RAISE(ABORT, '{REFUSAL.replace('%', table, 1).replace('%', 'REPLACE', 1)}'); END"
        )
