"""Runs inside the simulator: ParameterStore as jobs see it."""

import cocotb
import numpy as np
from cocotb.triggers import RisingEdge

from tessera.hw.compute.parameters import ParameterStore
from tessera.hw.config import AcceleratorConfig
from tessera.sim.bench.streams import StreamDriver, clock_and_reset, parameters, record, rng
from tests.helpers.replay import replay

FIELDS = ("bias", "multiplier", "shift")


def random_sets(random: np.random.Generator, count: int) -> dict[str, np.ndarray]:
    """Parameter sets as they lie in memory; the reserved bits are random too."""
    sets = {"bias": random.integers(-(1 << 31), 1 << 31, count)}
    widths = {"multiplier": 17, "reserved": 7, "shift": 6, "unused": 2}
    return sets | {name: random.integers(0, 1 << width, count) for name, width in widths.items()}


@cocotb.test()
async def jobs_see_their_own_sets(dut):
    """Jobs of random length, written ahead as far as the ring has room; every set of each is read, in any order."""
    await clock_and_reset(dut)
    settings = parameters()
    config = AcceleratorConfig.from_dict(settings["config"])
    random, group, chunk = rng(), config.requantise_lanes, config.entries_per_chunk
    lengths = group * random.integers(1, config.parameter_entries // group + 1, settings["jobs"])
    lengths[: len(lengths) // 2] = group * random.integers(1, 4, len(lengths) // 2)
    starts = np.concatenate([[0], np.cumsum(lengths)])
    sets = random_sets(random, int(starts[-1]))
    driver = StreamDriver(dut, "write", stall=settings["stall"])
    driver.send({name: values.reshape(-1, chunk) for name, values in sets.items()})
    full = 0
    for start, length in zip(starts, lengths, strict=False):
        while len(driver.cycles) * chunk < start + length:
            await RisingEdge(dut.clk)
        index = np.concatenate([random.permutation(length), random.integers(0, length, 3)])
        numbers = (start + index) % (1 << 16)
        seen = await replay(dut, {"read__address": numbers}, ["read__data"], extra=ParameterStore.LATENCY)
        at = start + index[:, None] // group * group + np.arange(group)
        for name in FIELDS:
            got = seen["read__data"][name][ParameterStore.LATENCY :]
            assert np.array_equal(got, sets[name][at]), f"job at set {start}: {name} differs"
        assert not seen["read__data"]["reserved"].any() and not seen["read__data"]["unused"].any()
        ahead = len(driver.cycles) * chunk - start
        assert ahead <= config.parameter_entries
        full += int(ahead == config.parameter_entries)
        release = {"account__release__valid": np.array([1]), "account__release__payload": np.array([length])}
        await replay(dut, release, [])
        dut.account__release__valid.value = 0
    await driver.drained()
    record(full=full)


@cocotb.test()
async def excess_release_is_asserted(dut):
    """Sets released that never came (run on its own: the assertion ends the simulation)."""
    await clock_and_reset(dut)
    config = AcceleratorConfig.from_dict(parameters()["config"])
    value = np.array([config.requantise_lanes])
    await replay(dut, {"account__release__valid": np.array([1]), "account__release__payload": value}, [], extra=2)
