"""Runs inside the simulator: Softmax against the golden model, tile after tile."""

import cocotb
import numpy as np
from cocotb.triggers import RisingEdge

from tessera.golden.integer.functions import attention_exponentials, query_scale
from tessera.hw.config import AcceleratorConfig
from tessera.hw.interfaces.memory import MEMORY_LATENCY
from tessera.sim.bench.streams import (
    StreamDriver,
    StreamMonitor,
    assert_interval,
    clock_and_reset,
    cycle,
    parameters,
    record,
    rng,
    wait_cycles,
)
from tests.helpers.port_bits import port_values

LOWEST, HIGHEST = -(1 << 17), (1 << 17) - 1


def tiles(config: AcceleratorConfig) -> list[np.ndarray]:
    """Scores (tokens, P) of several tiles: usual ones, and every kind of edge."""
    random, elements, most = rng("tiles"), config.elements, config.max_tokens
    spread = random.choice([0, 3, 1000, 20000, 131071], (7, elements))
    counts = [1, 2, config.lanes, config.lanes + 1, 37, most, 64]
    usual = [random.integers(-s, s + 1, (n, elements)) for s, n in zip(spread, counts, strict=True)]
    rising = np.arange(50)[:, None] * 700 - random.integers(0, 40000, elements)
    extremes = np.where(random.random((40, elements)) < 0.5, LOWEST, HIGHEST)
    return [
        *usual,
        rising,
        -rising,
        np.full((most, elements), HIGHEST),
        np.full((9, elements), LOWEST),
        extremes,
        np.zeros((16, elements), np.int64),
    ]


def writes(config: AcceleratorConfig, scores: np.ndarray, buffer: int) -> dict[str, np.ndarray]:
    """One write a key."""
    keys = np.arange(len(scores))
    constant = np.ones(len(scores), np.int64)
    return {
        "address": buffer * config.max_tokens + keys,
        "attention": constant,
        "buffer": buffer * constant,
        "first": (keys == 0) * 1,
        "data": scores,
    }


class Done:
    """Counts ``done`` pulses and keeps the query scales shown with each."""

    def __init__(self, dut) -> None:
        self.scales: list[int] = []
        self.cycles: list[int] = []
        self._dut = dut
        cocotb.start_soon(self._run())

    async def _run(self) -> None:
        while True:
            await RisingEdge(self._dut.clk)
            if self._dut.done.value == 1:
                self.scales.append(int(self._dut.query_scales.value))
                self.cycles.append(cycle())

    async def wait_for(self, count: int) -> None:
        """Until so many jobs are done."""
        for _ in range(20_000):
            if len(self.cycles) >= count:
                return
            await RisingEdge(self._dut.clk)
        raise AssertionError(f"{len(self.cycles)} of {count} jobs were done")


@cocotb.test()
async def tiles_are_exact(dut):
    """Scores of one tile are written while the previous one drains."""
    await clock_and_reset(dut)
    settings = parameters()
    config = AcceleratorConfig.from_dict(settings["config"])
    random, all_tiles = rng("constants"), tiles(config)
    multipliers = [65536, 0, 1, *random.integers(0, 65537, len(all_tiles) - 3)]
    shifts = [0, 63, 50, *random.integers(0, 64, len(all_tiles) - 3)]
    scores = StreamDriver(dut, "score_write", stall=settings["stall"])
    jobs = StreamDriver(dut, "job", stall=settings["stall"])
    monitor = StreamMonitor(dut, "exponentials", stall=settings["stall"])
    done = Done(dut)
    for index, tile in enumerate(all_tiles):
        await done.wait_for(index - 1)
        scores.send(writes(config, tile, index % 2))
        await scores.drained()
        job = {
            "buffer": index % 2,
            "keys": len(tile),
            "output_multiplier": multipliers[index],
            "output_shift": shifts[index],
        }
        jobs.send({name: np.array([value]) for name, value in job.items()})
    await done.wait_for(len(all_tiles))

    lanes, numerics = config.exponential_lanes, config.numerics
    for index, tile in enumerate(all_tiles):
        buffer, groups = index % 2, config.elements // lanes
        expected = attention_exponentials(tile.T, numerics).T
        got = await monitor.receive(len(tile) * groups)
        key, group = (grid.ravel() for grid in np.meshgrid(np.arange(len(tile)), np.arange(groups), indexing="ij"))
        first_word = config.attention_buffer(buffer) + config.query_words
        assert np.array_equal(got["data"], expected.reshape(-1, lanes)), f"exponentials of tile {index}"
        assert np.array_equal(got["group"], group), f"groups of tile {index}"
        assert np.array_equal(got["address"], first_word + key // config.lanes), f"addresses of tile {index}"
        assert np.array_equal(got["lane"], key % config.lanes), f"lanes of tile {index}"
        assert np.array_equal(got["clear"], key % config.lanes == 0), f"clearing in tile {index}"

        scales = port_values("query_scales", [done.scales[index]])
        span = slice(buffer * config.elements, (buffer + 1) * config.elements)
        want = query_scale(expected.T, int(multipliers[index]), int(shifts[index]), numerics)
        assert np.array_equal(scales["multiplier"][0, span], want.multiplier), f"multipliers of tile {index}"
        assert np.array_equal(scales["shift"][0, span], want.shift), f"shifts of tile {index}"
    monitor.assert_empty()


@cocotb.test()
async def a_beat_leaves_every_cycle(dut):
    """Throughput without stalls, and the fixed cost of a tile."""
    await clock_and_reset(dut)
    settings = parameters()
    config = AcceleratorConfig.from_dict(settings["config"])
    monitor, scores, jobs = (
        StreamMonitor(dut, "exponentials"),
        StreamDriver(dut, "score_write"),
        StreamDriver(dut, "job"),
    )
    done = Done(dut)
    tile = rng().integers(-2000, 2000, (100, config.elements))
    scores.send(writes(config, tile, 1))
    await scores.drained()
    fields = {"buffer": 1, "keys": len(tile), "output_multiplier": 40000, "output_shift": 20}
    jobs.send({name: np.array([value]) for name, value in fields.items()})
    await done.wait_for(1)
    assert_interval(monitor, 1)
    beats = len(tile) * config.elements // config.exponential_lanes
    assert len(monitor.cycles) == beats
    spent = done.cycles[0] - jobs.cycles[0] - beats - config.elements
    record(overhead=spent)
    assert spent == settings["overhead"], f"overhead is {spent} cycles"


@cocotb.test()
async def gate_logits_are_kept(dut):
    """Logits are stored and read back, and leave the maxima alone."""
    await clock_and_reset(dut)
    config = AcceleratorConfig.from_dict(parameters()["config"])
    scores = StreamDriver(dut, "score_write")
    count = config.score_words
    logits = rng().integers(LOWEST, HIGHEST + 1, (count, config.elements))
    zeros = np.zeros(count, np.int64)
    scores.send({"address": np.arange(count), "attention": zeros, "buffer": zeros, "first": zeros, "data": logits})
    await scores.drained()
    dut.score_read__enable.value = 1
    for word in (0, 1, count // 2, count - 1):
        dut.score_read__address.value = word
        await wait_cycles(dut, MEMORY_LATENCY + 1)
        assert np.array_equal(port_values("score_read__data", [int(dut.score_read__data.value)])[0], logits[word])
