"""The ledger's tables over time, for Alembic; what they look like now is in `worker.ledger.tables`."""

REVISIONS = ("0001", "0002_signed_heads", "0003_notices")
"""The versions that the tables have had, oldest first; the last one is what this code works with."""
