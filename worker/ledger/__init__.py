"""The ledger: tables, the moves on them, the audit trail and what can be read of it; the truth about every job."""
