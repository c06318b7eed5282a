"""Faults that are injected on purpose, each of which a check must catch."""
