"""The tests, which mirror the three houses; `acceptance` comes in through the operator's door."""
