"""Towards memory and host: AXI4 masters, control registers, counters, watchdog."""
