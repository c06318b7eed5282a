"""Runs inside the simulator: Exp2 against the golden model."""

import cocotb
import numpy as np

from tessera.golden.integer.functions import exp2
from tessera.hw.blocks.exp2 import Exp2
from tessera.hw.formats import Numerics
from tessera.sim.bench.streams import (
    StreamDriver,
    StreamMonitor,
    assert_interval,
    assert_latency,
    clock_and_reset,
    parameters,
)


@cocotb.test()
async def every_distance(dut):
    """All distances below 2**17 in a row, then the largest ones."""
    await clock_and_reset(dut)
    driver, monitor = StreamDriver(dut, "argument"), StreamMonitor(dut, "result")
    distances = np.concatenate([np.arange(1 << 17), np.arange((1 << 18) - 64, (1 << 18) + 64), [(1 << 19) - 1]])
    driver.send(distances)
    results = await monitor.receive(len(distances), timeout_cycles=1_000_000)
    expected = exp2(distances, parameters()["width"], Numerics())
    wrong = np.flatnonzero(results != expected)
    assert not len(wrong), f"2**-{distances[wrong[0]]}/1024: got {results[wrong[0]]}, expected {expected[wrong[0]]}"
    assert_latency(driver, monitor, Exp2.LATENCY)
    assert_interval(monitor, 1)
