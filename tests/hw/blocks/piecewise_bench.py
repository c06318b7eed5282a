"""Runs inside the simulator: Piecewise against its table."""

import cocotb
import numpy as np

from tessera.golden.integer.functions import round_shift
from tessera.hw import tables
from tessera.hw.blocks.piecewise import Piecewise
from tessera.sim.bench.streams import clock_and_reset, parameters, rng
from tests.helpers.replay import replay


@cocotb.test()
async def values_are_exact(dut):
    """Every segment with every fraction, or a random share of them."""
    await clock_and_reset(dut)
    settings = parameters()
    table = getattr(tables, settings["table"])()
    random = rng()
    segments, fractions = len(table.base), 1 << table.fraction_bits
    index, fraction = (grid.ravel() for grid in np.meshgrid(np.arange(segments), np.arange(fractions), indexing="ij"))
    if len(index) > 20_000:
        edge = (fraction == 0) | (fraction == fractions - 1)
        keep = edge | (random.random(len(index)) < 20_000 / len(index))
        index, fraction = index[keep], fraction[keep]
    beyond = np.arange(segments, 1 << (segments - 1).bit_length())
    index, fraction = np.concatenate([index, beyond]), np.concatenate([fraction, beyond & (fractions - 1)])

    seen = await replay(dut, {"index": index, "fraction": fraction}, ["value"], extra=Piecewise.LATENCY)
    got = seen["value"][Piecewise.LATENCY :]
    base, slope = (np.pad(np.array(v), (0, len(beyond))) for v in (table.base, table.slope))
    want = base[index] + round_shift(slope[index] * fraction, table.fraction_bits)
    assert len(got) == len(want)
    wrong = np.flatnonzero(got != want)
    assert not len(wrong), (
        f"index {index[wrong[0]]} fraction {fraction[wrong[0]]}: {got[wrong[0]]}, not {want[wrong[0]]}"
    )
