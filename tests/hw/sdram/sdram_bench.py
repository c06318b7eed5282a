"""Runs inside the simulator: lets ``sdram_system.sv`` work until it is done, and hands over what it counted."""

from __future__ import annotations

import cocotb
from cocotb.triggers import Timer

from tessera.sim.bench.streams import parameters, record


@cocotb.test()
async def traffic(dut):
    dut.rst.value = 1
    await Timer(35, "ns")
    dut.rst.value = 0
    for _ in range(parameters().get("patience", 100_000)):
        await Timer(10, "us")
        if dut.done.value == 1:
            break
    else:
        raise AssertionError(f"{int(dut.finished.value)} bursts done after {int(dut.cycle.value)} cycles")
    record(**{name: int(getattr(dut, name).value) for name in ("cycle", "finished", "beats", "outside", "latency")})
