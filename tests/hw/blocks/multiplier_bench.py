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
    low, high = -(1 << (settings["width"] - 1)), (1 << (settings["width"] - 1)) - 1
    names = ["broadcast", *(f"stationary__{index}" for index in range(settings["elements"]))]
    operands = random.integers(low, high, (len(names), count), endpoint=True)
    extreme = random.random(operands.shape) < 0.2
    operands = np.where(extreme, random.choice([low, -1, 0, 1, high], operands.shape), operands)
    outputs = [f"product__{index}" for index in range(settings["elements"])]
    seen = await replay(dut, dict(zip(names, operands, strict=True)), outputs, extra=Multiplier.LATENCY)
    for output, stationary in zip(outputs, operands[1:], strict=True):
        assert np.array_equal(seen[output][Multiplier.LATENCY :], operands[0] * stationary)
