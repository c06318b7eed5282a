"""Runs inside the simulator: Reciprocal and ReciprocalSquareRoot against the golden model."""

import cocotb
import numpy as np

from tessera.golden.integer import functions
from tessera.sim.bench.streams import (
    StreamDriver,
    StreamMonitor,
    assert_interval,
    assert_latency,
    clock_and_reset,
    parameters,
    rng,
)


def arguments(width: int) -> list[int]:
    """Small numbers, the neighbours of every power of two, and random numbers of every size."""
    largest = (1 << width) - 1
    edges = [(1 << bit) + offset for bit in range(width + 1) for offset in range(-3, 4)]
    random = rng()
    sizes = random.integers(1, width + 1, 5000)
    scattered = [int.from_bytes(random.bytes(16), "little") >> (128 - int(size)) for size in sizes]
    return [value for value in [*range(1, 3000), *edges, *scattered] if 1 <= value <= largest]


@cocotb.test()
async def edges_and_random_numbers(dut):
    await clock_and_reset(dut)
    settings = parameters()
    driver, monitor = StreamDriver(dut, "argument"), StreamMonitor(dut, "result")
    values = arguments(settings["width"])
    driver.send_raw(values)
    results = await monitor.receive(len(values))
    expected = getattr(functions, settings["function"])(np.array(values, dtype=object))
    for name in ("mantissa", "exponent"):
        wrong = np.flatnonzero(results[name] != getattr(expected, name))
        assert not len(wrong), (
            f"{name} of {values[wrong[0]]}: {results[name][wrong[0]]}, not {getattr(expected, name)[wrong[0]]}"
        )
    assert_latency(driver, monitor, settings["latency"])
    assert_interval(monitor, 1)
