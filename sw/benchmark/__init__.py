"""What ``tessera bench`` measures, a file for each subject; ``sw.bench`` runs them and writes the results."""
