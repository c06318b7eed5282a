"""Runs inside the simulator: the example bench for ``units.Scale``."""

import cocotb
import numpy as np

from tessera.sim.bench.streams import (
    StreamDriver,
    StreamMonitor,
    assert_interval,
    assert_latency,
    clock_and_reset,
    parameters,
    read,
    record,
    rng,
    write,
)


@cocotb.test()
async def products_are_exact(dut):
    """Send random beats with random pauses on both sides and compare every product."""
    await clock_and_reset(dut)
    settings = parameters()
    driver = StreamDriver(dut, "i", stall=settings["stall"])
    monitor = StreamMonitor(dut, "o", stall=settings["stall"])
    lanes, count = len(driver.leaves) and driver.leaves[0]["dims"][0], settings["beats"]
    x = rng().integers(-128, 128, (count, lanes))
    last = rng("last").integers(0, 2, count)
    write(dut.factor, settings["factor"])
    driver.send({"lanes": x, "last": last})
    y = await monitor.receive(count)
    await driver.drained()
    assert read(dut.factor) == settings["factor"]
    monitor.assert_empty()
    assert np.array_equal(y["lanes"], x * settings["expected_factor"])
    assert np.array_equal(y["last"], last)
    if settings["stall"] == 0:
        assert_latency(driver, monitor, settings["latency"])
        assert_interval(monitor, 1)
    record(last_product=int(y["lanes"][-1, -1]), beats=count)
