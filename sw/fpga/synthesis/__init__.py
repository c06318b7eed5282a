"""Synthesis of components with Yosys, and counts of the resulting cells."""
