"""The ledger's tables over time, for Alembic; what they look like now is in `worker.ledger.tables`."""
