"""Boards: pins, clocks and resets, and the system that joins accelerator, memory and host link."""
