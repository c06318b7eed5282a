"""Runs inside the simulator: a hand-written top, its memory through the back door, and its C++ function."""

import time

import cocotb
from cocotb.clock import Clock
from cocotb.triggers import RisingEdge

from tessera.sim.bench.streams import parameters, read, record, wait_cycles, write


@cocotb.test()
async def product_is_doubled(dut):
    """Load an operand through the back door and read the result of design and C++ function."""
    Clock(dut.clk, 10, unit="ns").start(start_high=False)
    dut.rst.value = 1
    write(dut.factor, -9)
    dut.operands[2].value = 100
    await RisingEdge(dut.clk)
    dut.rst.value = 0
    await wait_cycles(dut, 4)
    assert read(dut.doubled, signed=True) == 2 * -9 * 100
    start = time.perf_counter()
    await wait_cycles(dut, parameters()["cycles"])
    record(cycles_per_second=parameters()["cycles"] / (time.perf_counter() - start))
