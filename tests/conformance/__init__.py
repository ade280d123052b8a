"""One suite for every kind of a thing: whatever is added has to pass it."""
