"""The house that decides: pure functions over rules, answers and records; nothing here touches clock, network or disk."""
