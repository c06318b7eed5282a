"""Simulation of the RTL: Verilator builds, cocotb benches, the whole machine, whole boards, and models."""
