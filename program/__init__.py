"""The contract between compiler, machine and verifier: commands, tensors, the memory image, and a run's records."""
