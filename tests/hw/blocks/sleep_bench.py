"""Runs inside the simulator: a sleeping unit against what it should do, cycle by cycle."""

import cocotb
import numpy as np

from tessera.sim.bench.streams import clock_and_reset, rng
from tests.helpers.replay import replay


@cocotb.test()
async def registers_hold_and_resets_arrive(dut):
    """Random enables and resets; the memory's word of the address before, as of its last enabled read."""
    await clock_and_reset(dut)
    random, cycles = rng(), 4000
    given = {name: random.integers(0, 2, cycles) for name in ("awake", "step")}
    given["clear"] = (random.random(cycles) < 0.1).astype(np.int64)
    seen = await replay(dut, given, ["count", "word"], extra=0)
    count, word, memory = 3, None, {}
    for cycle in range(cycles):
        assert seen["count"][cycle] == count, f"cycle {cycle}"
        assert word is None or seen["word"][cycle] == word, f"cycle {cycle}"
        awake, step, clear = (given[name][cycle] for name in ("awake", "step", "clear"))
        following = (count + step) % 16
        if awake:
            word = memory.get(count, 0)
            memory[count] = following
            count = following
        if clear:
            count = 3
