"""Benchmarks: each prints ratios that were measured in one run on one machine; nothing here is a test."""
