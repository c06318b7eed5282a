"""Cycles of a frame: the bound, the analytical model, and where a run's cycles went."""
