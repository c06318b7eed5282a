"""Runs inside the simulator: every input of ``units.Minimum``, which has no clock."""

import cocotb
from cocotb.triggers import Timer

from tessera.sim.bench.streams import clock_and_reset, read, write


@cocotb.test()
async def every_pair_is_right(dut):
    """Compare all 1024 pairs."""
    await clock_and_reset(dut)
    for a in range(-16, 16):
        for b in range(-16, 16):
            write(dut.a, a)
            write(dut.b, b)
            await Timer(1, "ns")
            assert read(dut.y) == min(a, b)
