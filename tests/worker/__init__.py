"""Tests of the worker, one file for each of its own; what needs worker processes is in `acceptance`."""
