"""Runs inside the simulator: products of random and extreme operands, a set a cycle."""

import cocotb
import numpy as np

from tessera.hw.blocks.multiplier import Multiplier
from tessera.sim.bench.streams import clock_and_reset, parameters, rng
from tests.helpers.replay import replay


@cocotb.test()
async def products_are_exact(dut):
    await clock_and_reset(dut)
    settings, random, count = parameters(), rng(), 1000
    names = ["broadcast", *(f"stationary__{index}" for index in range(settings["elements"]))]
    operands = np.empty((len(names), count), np.int64)
    for index, values in enumerate(operands):
        low = -(1 << (settings["stationary_width" if index else "width"] - 1))
        values[:] = random.integers(low, -low, count)
        extreme = random.random(count) < 0.2
        values[extreme] = random.choice([low, -1, 0, 1, -low - 1], extreme.sum())
    outputs = [f"product__{index}" for index in range(settings["elements"])]
    seen = await replay(dut, dict(zip(names, operands, strict=True)), outputs, extra=Multiplier.LATENCY)
    for output, stationary in zip(outputs, operands[1:], strict=True):
        assert np.array_equal(seen[output][Multiplier.LATENCY :], operands[0] * stationary)
