"""Figures for Prometheus: the collector that reads the ledger, a dashboard for Grafana, and rules for alerts."""
