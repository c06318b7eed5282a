"""The self-test: it injects faults, each of which a check must catch."""
