"""The benchmark: one file per subject that ``tessera bench`` measures, and the runner that writes the results."""
