"""On-chip memories and the units that move data to and from DRAM."""
