"""Real servers for the tests, each started on loopback and stopped by who started it; pretend ones are in `sandbox`."""
