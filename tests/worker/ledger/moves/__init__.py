"""Tests of the moves: each in one transaction with its audit row, guarded by state and fence, and never by luck."""
