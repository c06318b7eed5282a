"""Runs inside the simulator: Requantiser over edges, ties, shifts and formats."""

import cocotb
import numpy as np

from tessera.golden.integer.functions import requantise, saturate
from tessera.hw.compute.requantiser import Requantiser, ResultFormat
from tessera.hw.config import AcceleratorConfig
from tessera.sim.bench.streams import clock_and_reset, parameters, record, rng
from tests.helpers.replay import replay


def operands(config: AcceleratorConfig, random: np.random.Generator, count: int) -> dict[str, np.ndarray]:
    """Magnitudes of every size, extremes, and exact half-way cases of both signs; the sum always fits."""
    width, shape = config.numerics.accumulator_width, (count, config.requantise_lanes)
    low, high = -(1 << (width - 1)), (1 << (width - 1)) - 1
    total = random.integers(low, high + 1, shape) >> random.integers(0, width, shape)
    multiplier = random.integers(0, 65537, shape)
    shift = random.integers(0, 64, shape)
    extreme = random.random(shape) < 0.2
    total[extreme] = random.choice([low, low + 1, -1, 0, 1, high - 1, high], extreme.sum())
    multiplier[extreme] = random.choice([0, 1, 2, 32767, 32768, 65535, 65536], extreme.sum())
    # An odd total times 1 (or 2**16), shifted by 1 (or 17), lies half-way.
    tie = random.random(shape) < 0.2
    wide = random.integers(0, 2, shape)
    total[tie] |= 1
    multiplier[tie], shift[tie] = 65536 ** wide[tie], 1 + 16 * wide[tie]
    bias = random.integers(-(1 << 31), 1 << 31, shape) >> random.integers(0, 32, shape)
    fits = (total - bias >= low) & (total - bias <= high)
    bias[~fits] = 0
    return {"accumulator": total - bias, "bias": bias, "multiplier": multiplier, "shift": shift}


@cocotb.test()
async def results_are_exact(dut):
    """One group every cycle; all shifts and targets occur."""
    await clock_and_reset(dut)
    settings = parameters()
    config = AcceleratorConfig.from_dict(settings["config"])
    random, count = rng(), settings["groups"]
    inputs = operands(config, random, count)
    target = random.integers(0, len(ResultFormat), count)
    controls = {"target": target, "valid": np.ones(count, np.int64)}
    seen = await replay(dut, inputs | controls, ["value", "clipped"], extra=Requantiser.LATENCY)
    value, clipped = (seen[name][Requantiser.LATENCY :] for name in ("value", "clipped"))
    exact = requantise(*inputs.values())
    outcomes = set()
    for candidate in ResultFormat:
        rows = target == candidate.value
        want = saturate(exact[rows], candidate.number_format(config.numerics))
        assert np.array_equal(value[rows], want), f"{candidate}: {(value[rows] != want).sum()} results differ"
        bits = ((want != exact[rows]) << np.arange(config.requantise_lanes)).sum(axis=1)
        assert np.array_equal(clipped[rows], bits), f"{candidate}: clipped differs"
        outcomes |= {(candidate, bool(bit)) for bit in (want != exact[rows]).ravel()}
    assert len(outcomes) == 2 * len(ResultFormat), f"only {outcomes}"
    assert len(np.unique(inputs["shift"])) == 64
    record(ties=int(((exact != 0) & (inputs["shift"] == 1)).sum()))


@cocotb.test()
async def overflow_is_asserted(dut):
    """The largest accumulator plus a bias of 1 (run on its own: the assertion ends the simulation)."""
    await clock_and_reset(dut)
    config = AcceleratorConfig.from_dict(parameters()["config"])
    largest = (1 << (config.numerics.accumulator_width - 1)) - 1
    shape = (1, config.requantise_lanes)
    constants = {"accumulator": largest, "bias": 1, "multiplier": 1, "shift": 0}
    inputs = {name: np.full(shape, value) for name, value in constants.items()}
    one = np.ones(1, np.int64)
    await replay(dut, inputs | {"target": one, "valid": one}, ["value"], extra=2)
