"""What Alembic runs: the migrations, inside the transaction that `worker.ledger.database.upgrade` has opened."""

from __future__ import annotations

from alembic import context

from worker.ledger.tables import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata)
with context.begin_transaction():
    context.run_migrations()
