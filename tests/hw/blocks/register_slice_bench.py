"""Runs inside the simulator: a stream through the slice; ready must not follow the other side within a cycle."""

import cocotb
import numpy as np
from cocotb.triggers import ReadOnly, RisingEdge, Timer

from tessera.hw.blocks.register_slice import RegisterSlice
from tessera.sim.bench.streams import StreamDriver, StreamMonitor, clock_and_reset, parameters, rng


@cocotb.test()
async def nothing_is_lost_or_late(dut):
    await clock_and_reset(dut)
    stall, interval, count = parameters()["stall"], parameters()["interval"], 500
    driver, monitor = StreamDriver(dut, "source", stall=stall), StreamMonitor(dut, "target", stall=stall)
    sent = rng().integers(0, 256, count)
    driver.send(sent)
    cycles = 0

    async def count_cycles():
        nonlocal cycles
        while True:
            await RisingEdge(dut.clk)
            cycles += 1

    counting = cocotb.start_soon(count_cycles())
    assert np.array_equal(await monitor.receive(count), sent)
    counting.cancel()
    assert stall or cycles <= interval * count + RegisterSlice.LATENCY + 2


@cocotb.test()
async def neither_side_sees_the_other(dut):
    await clock_and_reset(dut)
    random = rng()
    for _ in range(200):
        await RisingEdge(dut.clk)
        seen = set()
        for valid, ready in ((0, 0), (1, 0), (0, 1), (1, 1)):
            dut.source__valid.value, dut.target__ready.value = valid, ready
            await Timer(1, "step")
            await ReadOnly()
            seen.add((int(dut.source__ready.value), int(dut.target__valid.value)))
            await Timer(1, "step")
        assert len(seen) == 1
        dut.source__valid.value, dut.target__ready.value = (int(bit) for bit in random.integers(0, 2, 2))
