"""Simulation of the RTL: Verilator builds, cocotb benches, memory models, tracing."""
