"""AXI4 masters towards the memory: bursts, prefetching, and the check of the address window."""
