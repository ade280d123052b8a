"""Planted secrets: the provider that repeats them, the search for them, and the places that are searched."""
