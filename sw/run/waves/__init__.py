"""Waves of single units of the simulated machine, and what viewers need to show them."""
