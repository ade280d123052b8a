"""What the benchmarks say of their measurements; what they measure is not tested."""
