"""On-chip memories, and the unit that stores rows to DRAM."""
