"""Runs inside the simulator: sums and products in registers against Python's, cycle by cycle."""

import cocotb

from tessera.sim.bench.streams import clock_and_reset, rng
from tests.helpers.replay import replay

EXTREMES = (-256, -255, -1, 0, 1, 255)


def _signed(value: int, width: int) -> int:
    value &= (1 << width) - 1
    return value - (value >> (width - 1) << width)


@cocotb.test()
async def values_are_right(dut):
    """Random and extreme operands; 4000 cycles are enough for the running sum to wrap where it is read as 34 bits."""
    await clock_and_reset(dut)
    random, cycles = rng(), 4000
    given = {name: random.integers(-256, 256, cycles) for name in "ab"}
    for name in "ab":
        chosen = random.random(cycles) < 0.5
        given[name][chosen] = random.choice(EXTREMES, chosen.sum())
    seen = await replay(dut, given, ["exact", "wrapping", "sliced", "positive"], extra=0)
    product = total = exact = wrapped = bits = unsigned_sum = wrapping = sliced = positive = 0
    for cycle in range(cycles):
        expected = {"exact": exact, "wrapping": wrapping, "sliced": sliced, "positive": positive}
        for name, value in expected.items():
            assert _signed(int(seen[name][cycle]), 1 if name == "sliced" else 40) == _signed(
                value, 1 if name == "sliced" else 40
            ), f"{name}, cycle {cycle}"
        a, b = int(given["a"][cycle]), int(given["b"][cycle])
        exact, wrapping, sliced, positive = total + product, wrapped - product, bits >> 9 & 1, unsigned_sum - bits
        total, product = _signed(product + _signed(expected["exact"], 34), 35), a * b
        wrapped, bits, unsigned_sum = _signed(a + b, 9), a + b, (a & 511) + (b & 511)
