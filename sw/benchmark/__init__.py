"""What ``tessera bench`` measures, a file for each subject; ``sw.benchmark.run`` runs them and writes the results."""
