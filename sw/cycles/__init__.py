"""Cycles of a frame: the lower bound, the analytical model, and the breakdown of a run by cause."""
