"""What changed between two runs, two benches or two evaluations."""
