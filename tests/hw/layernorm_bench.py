"""Runs inside the simulator: LayerNorm against the golden model, with a residual memory in Python."""

import cocotb
import numpy as np
from cocotb.triggers import RisingEdge

from golden.integer.functions import layernorm
from hw.config import AcceleratorConfig
from sim.streams import StreamDriver, StreamMonitor, clock_and_reset, cycle, parameters, record, rng
from tests.hw.port_bits import port_bits

BASE, STRIDE_GAP = 100, 3


def constants(channels: int, random: np.random.Generator) -> dict[str, int]:
    """A job's constants: the mean's are what the compiler makes, the others random."""
    mean_shift = 15 + (channels - 1).bit_length()
    return {
        "mean_multiplier": (2 * (1 << mean_shift) + channels) // (2 * channels),
        "mean_shift": mean_shift,
        "epsilon": int(random.choice([0, 1, 4000, (1 << 32) - 1])),
        "scale_multiplier": int(random.choice([0, 1, 65536, *random.integers(0, 65537, 6)])),
        "shift": int(random.choice([*range(9), 63])),
        "wide_shift": int(random.choice([*range(5), 40])),
    }


def rows_of(config: AcceleratorConfig, rows: int, channels: int, random: np.random.Generator) -> np.ndarray:
    """Residual rows of many sizes, with constant, extreme and outlier rows among them."""
    residual = config.numerics.residual
    size = 2.0 ** random.uniform(0, residual.width - 1, (rows, 1))
    x = (random.uniform(-1, 1, (rows, channels)) * size).astype(np.int64)
    x += random.integers(-1000, 1001, (rows, 1))
    special = [
        np.zeros(channels, np.int64),
        np.full(channels, residual.minimum),
        np.full(channels, residual.maximum),
        np.where(np.arange(channels) % 2, residual.minimum, residual.maximum),
        np.where(np.arange(channels) == 0, residual.maximum, residual.minimum),
        np.arange(channels) % 2,
    ]
    for row, values in zip(random.permutation(rows), special, strict=False):
        x[row] = values
    return np.clip(x, residual.minimum, residual.maximum)


class ResidualModel:
    """Answers the read port with MEMORY_LATENCY."""

    def __init__(self, dut) -> None:
        self._dut = dut
        self._words: dict[int, int] = {}
        cocotb.start_soon(self._run())

    def hold(self, words: dict[int, np.ndarray]) -> None:
        """Replace the contents: lanes by address."""
        bits = port_bits("residual_read_data", np.array(list(words.values())))
        self._words = dict(zip(words, bits, strict=True))

    async def _run(self) -> None:
        # What is driven after an edge is seen at the next one: reading a cycle after the request makes two cycles.
        shown = None
        while True:
            await RisingEdge(self._dut.clk)
            if shown is not None:
                self._dut.residual_read_data.value = self._words[shown]
            enabled = self._dut.residual_read_enable.value == 1
            shown = int(self._dut.residual_read_address.value) if enabled else None


def split_wide(values: np.ndarray, config: AcceleratorConfig) -> np.ndarray:
    """Wide values to pairs of lanes, low bits first."""
    width = config.numerics.activation_width
    mask = (1 << width) - 1
    return np.stack([values & mask, values >> width & mask], axis=-1).reshape(len(values), -1)


def padded(values: np.ndarray, words: int, config: AcceleratorConfig) -> np.ndarray:
    """Rows filled up with zeros, as (rows, words, lanes)."""
    full = np.zeros((len(values), words * config.lanes), np.int64)
    full[:, : values.shape[1]] = values
    return full.reshape(len(values), words, config.lanes)


async def run_job(dut, config, ports, random, shape, wide):
    """One job; returns how many cycles it took."""
    rows, channels = shape
    words = -(-channels // config.lanes)
    stride, job_constants = words + STRIDE_GAP, constants(channels, random)
    x = rows_of(config, rows, channels, random)
    if rows > 1:
        job_constants["scale_multiplier"] = max(1, job_constants["scale_multiplier"])
    shifts = random.integers(0, 8, channels)
    # Padded lanes of the residual memory are deliberately not 0: they must not count.
    stored = random.integers(-1000, 1000, (rows, words * config.lanes))
    stored[:, :channels] = x
    memory = {
        BASE + row * stride + word: stored[row, word * config.lanes : (word + 1) * config.lanes]
        for row in range(rows)
        for word in range(words)
    }
    ports["residual"].hold(memory)
    chunks = -(-channels // config.chunk_bytes)
    bytes_sent = random.integers(0, 8, chunks * config.chunk_bytes)
    bytes_sent[:channels] = shifts
    ports["shifts"].send({"address": np.arange(chunks), "shifts": bytes_sent.reshape(chunks, -1)})
    await ports["shifts"].drained()
    job = {
        "source_base": BASE,
        "source_stride": stride,
        "destination_base": 5,
        "destination_stride": words + 1,
        "wide_base": 20_000,
        "wide_stride": 2 * words,
        "rows": rows,
        "words": words,
        "channels": channels,
        "wide": int(wide),
        **job_constants,
    }
    ports["job"].send({name: np.array([value]) for name, value in job.items()})
    await ports["job"].drained()
    started = cycle()
    for _ in range(100_000):
        await RisingEdge(dut.clk)
        if dut.done.value == 1:
            break
    spent = cycle() - started

    expected = layernorm(x, **job_constants, channel_shift=shifts, numerics=config.numerics)
    mask = (1 << config.numerics.activation_width) - 1
    wanted = [(5, words + 1, padded(expected.activation & mask, words, config))]
    if wide:
        wanted.append((20_000, 2 * words, padded(split_wide(expected.wide, config), 2 * words, config)))
    for base, row_stride, data in wanted:
        got = await ports["writes"].receive(data.shape[0] * data.shape[1], timeout_cycles=100)
        assert (got["columns"] == (1 << config.columns) - 1).all()
        addresses = base + np.arange(rows)[:, None] * row_stride + np.arange(data.shape[1])
        assert np.array_equal(got["address"], addresses.ravel()), f"addresses from {base}, {job}"
        wrong = np.argwhere(got["data"].reshape(data.shape) != data)
        assert not len(wrong), f"{len(wrong)} wrong, first at (row, word, lane) {wrong[0]} from {base}, {job}"
    ports["writes"].assert_empty()
    return spent


@cocotb.test()
async def rows_are_exact(dut):
    """Many shapes, one after the other, with everything that saturates."""
    await clock_and_reset(dut)
    settings = parameters()
    config = AcceleratorConfig.from_dict(settings["config"])
    random = rng()
    ports = {
        "residual": ResidualModel(dut),
        "job": StreamDriver(dut, "job"),
        "shifts": StreamDriver(dut, "shift_write", stall=0.3),
        "writes": StreamMonitor(dut, "scratch_write"),
    }
    for shape in settings["shapes"]:
        for wide in (False, True):
            spent = await run_job(dut, config, ports, random, shape, wide)
    record(spent=spent)
