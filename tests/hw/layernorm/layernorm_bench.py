"""Runs inside the simulator: LayerNorm against the golden model, with a residual memory in Python."""

from bisect import bisect_left
from collections import deque
from itertools import cycle as cycling
from itertools import product

import cocotb
import numpy as np
from cocotb.triggers import RisingEdge

from tessera.golden.integer.functions import layernorm
from tessera.golden.integer.parameters import QuantisedLayerNorm
from tessera.hw.config import AcceleratorConfig
from tessera.hw.interfaces.memory import RESIDUAL_LATENCY
from tessera.hw.isa import NormMode
from tessera.sim.bench.streams import StreamDriver, StreamMonitor, clock_and_reset, cycle, parameters, record, rng
from tests.helpers.port_bits import port_bits

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
    """Answers the read port with RESIDUAL_LATENCY, refuses at random, and lets rows become readable one by one.

    Parameters
    ----------
    dut:
        The design.
    stall:
        Probability that a read is refused.
    late:
        Rows become readable one by one, not all at once.
    """

    def __init__(self, dut, stall: float, *, late: bool) -> None:
        self._dut, self._stall, self._late, self._random = dut, stall, late, rng("residual")
        self._words: dict[int, int] = {}
        self._ready_after = 0
        self._stride = 1
        cocotb.start_soon(self._run())

    def hold(self, x: np.ndarray) -> None:
        """Replace the contents by rows of words of lanes, ``STRIDE_GAP`` words apart."""
        rows, words, lanes = x.shape
        self._stride = words + STRIDE_GAP
        bits = port_bits("residual_read__data", x.reshape(-1, lanes))
        addresses = [BASE + row * self._stride + word for row in range(rows) for word in range(words)]
        self._words = dict(zip(addresses, bits, strict=True))
        # Now faster, now slower than LayerNorm reads them.
        self._ready_after = 1 / int(self._random.integers(1, 4 * words + 20))

    async def _run(self) -> None:
        # What is driven after an edge is seen at the next one: that is the last of the cycles.
        dut, rows, begins = self._dut, 0xFFFF, False
        asked: deque[int | None] = deque([None] * (RESIDUAL_LATENCY - 1))
        while True:
            if self._late:
                more = int(self._random.random() < self._ready_after)
                rows = 0 if begins else min(rows + more, 0xFFFF)
            ready = int(self._random.random() >= self._stall)
            dut.residual_read_ready.value, dut.report__rows_ready.value = ready, rows
            await RisingEdge(dut.clk)
            begins = dut.job__valid.value == 1 and dut.job__ready.value == 1
            shown = asked.popleft()
            if shown is not None:
                dut.residual_read__data.value = self._words[shown]
            asked.append(None)
            if ready and dut.residual_read__enable.value == 1:
                asked[-1] = shown = int(dut.residual_read__address.value)
                row = (shown - BASE) // self._stride
                assert row < rows, f"row {row} was read when {rows} were ready"


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


def expected_writes(x, job, shifts, config) -> tuple[np.ndarray, np.ndarray]:
    """Addresses and data (lanes) of all words of a job, in order; a row's narrow words come first."""
    constants = ("mean_multiplier", "mean_shift", "epsilon", "scale_multiplier", "shift", "wide_shift", "mode")
    norm = QuantisedLayerNorm(**{name: job[name] for name in constants}, channel_shift=shifts)
    outputs = layernorm(x, norm, config.numerics)
    mask = (1 << config.numerics.activation_width) - 1
    parts = [(job["destination_base"], job["destination_stride"], outputs.activation & mask, job["words"])]
    if job["wide"]:
        parts.append((job["wide_base"], job["wide_stride"], split_wide(outputs.wide, config), 2 * job["words"]))
    data = np.concatenate([padded(values, words, config) for _, _, values, words in parts], axis=1)
    rows = np.arange(len(x))[:, None]
    addresses = np.concatenate([base + rows * stride + np.arange(words) for base, stride, _, words in parts], axis=1)
    return addresses, data


async def until_done(dut, writes: StreamMonitor, words_a_row: int) -> None:
    """Wait for ``done``; in each cycle ``rows_done`` must be the rows whose words were written before it."""
    written = len(writes.cycles)
    for _ in range(200_000):
        await RisingEdge(dut.clk)
        rows = int(dut.report__rows_done.value)
        before = bisect_left(writes.cycles, cycle()) - written
        assert rows == before // words_a_row, f"rows_done is {rows} after {before} words of {words_a_row} a row"
        if dut.report__done.value == 1:
            return
    raise AssertionError("LayerNorm does not end")


async def run_job(dut, config, ports, random, shape, wide, mode):
    """One job; returns how many cycles it took."""
    rows, channels = shape
    words = -(-channels // config.lanes)
    job_constants = constants(channels, random)
    x = rows_of(config, rows, channels, random)
    if rows > 1:
        job_constants["scale_multiplier"] = max(1, job_constants["scale_multiplier"])
    shifts = random.integers(0, 8, channels)
    # Padded lanes of the residual memory are deliberately not 0: they must not count.
    stored = random.integers(-1000, 1000, (rows, words * config.lanes))
    stored[:, :channels] = x
    ports["residual"].hold(stored.reshape(rows, words, config.lanes))
    chunks = -(-channels // config.chunk_bytes)
    bytes_sent = random.integers(0, 8, chunks * config.chunk_bytes)
    bytes_sent[:channels] = shifts
    ports["shifts"].send({"address": np.arange(chunks), "shifts": bytes_sent.reshape(chunks, -1)})
    await ports["shifts"].drained()
    job = {
        "source_base": BASE,
        "source_stride": words + STRIDE_GAP,
        "destination_base": 5,
        "destination_stride": words + 1,
        "wide_base": 20_000,
        "wide_stride": 2 * words,
        "rows": rows,
        "words": words,
        "channels": channels,
        "wide": int(wide),
        "mode": int(mode),
        **job_constants,
    }
    ports["job"].send({name: np.array([value]) for name, value in job.items()})
    await ports["job"].drained()
    started = cycle()
    addresses, data = expected_writes(x, job, shifts, config)
    await until_done(dut, ports["writes"], data.shape[1])
    spent = cycle() - started
    got = await ports["writes"].receive(addresses.size, timeout_cycles=1)
    assert (got["columns"] == (1 << config.columns) - 1).all()
    assert np.array_equal(got["address"], addresses.ravel()), f"addresses, {job}"
    wrong = np.argwhere(got["data"].reshape(data.shape) != data)
    assert not len(wrong), f"{len(wrong)} wrong, first at (row, word, lane) {wrong[0]}, {job}"
    ports["writes"].assert_empty()
    await payloads_without_valid(dut, random)
    ports["writes"].assert_empty()
    return spent


async def payloads_without_valid(dut, random) -> None:
    """Between jobs the job's fields may be anything; nothing is read because of them."""
    width = len(dut.job__payload)
    for _ in range(20):
        dut.job__payload.value = int.from_bytes(random.bytes(-(-width // 8)), "little") % (1 << width)
        await RisingEdge(dut.clk)
        assert dut.residual_read__enable.value == 0, "a row is read for a job that was not offered"


@cocotb.test()
async def rows_are_exact(dut):
    """Many shapes, one after the other, with everything that saturates; modes take turns."""
    await clock_and_reset(dut)
    settings = parameters()
    config = AcceleratorConfig.from_dict(settings["config"])
    random, (read_stall, write_stall) = rng(), settings.get("stalls", (0.0, 0.0))
    ports = {
        "residual": ResidualModel(dut, read_stall, late=read_stall > 0),
        "job": StreamDriver(dut, "job"),
        "shifts": StreamDriver(dut, "shift_write", stall=0.3),
        "writes": StreamMonitor(dut, "scratch_write", stall=write_stall),
    }
    chosen = settings.get("modes", list(NormMode))
    modes = {False: cycling(chosen), True: cycling([mode for mode in chosen if mode != NormMode.RECTIFIED_COPY])}
    spent = {}
    for shape, wide in product(settings["shapes"], (False, True)):
        spent["wide" if wide else "narrow"] = await run_job(dut, config, ports, random, shape, wide, next(modes[wide]))
    record(**spent)
