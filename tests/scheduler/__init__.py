"""Tests of the house that starts."""
