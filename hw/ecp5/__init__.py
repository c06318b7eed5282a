"""Blocks of Lattice's ECP5: multipliers, block RAMs and the PLL."""
