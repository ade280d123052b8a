"""The house that decides: pure functions over rules, answers and records; no clock, network or disk is touched."""
