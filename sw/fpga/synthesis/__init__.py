"""Synthesis: a component goes through Yosys and comes back as counts of cells."""
