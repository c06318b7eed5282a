"""Runs inside the simulator: ResidualMemory against an array of words."""

import cocotb
import numpy as np

from tessera.hw.config import AcceleratorConfig
from tessera.hw.interfaces.memory import BEYOND_LATENCY
from tessera.hw.memory.residual import ResidualMemory
from tessera.sim.bench.streams import clock_and_reset, parameters, record, rng
from tests.helpers.replay import replay


@cocotb.test()
async def every_access_is_exact(dut):
    """Random reads and masked writes, some beyond the end; a column is not compared in the cycle of its write."""
    await clock_and_reset(dut)
    settings = parameters()
    config = AcceleratorConfig.from_dict(settings["config"])
    random, cycles, end = rng(), settings["cycles"], config.residual_words
    half = 1 << (config.numerics.residual_width - 1)
    places = np.concatenate([np.arange(8), [end - 1, end, 65535]])
    read, write = random.choice(places, (2, cycles))
    reads, writes = random.random((2, cycles)) < 0.7
    columns = random.integers(0, 1 << config.columns, cycles)
    data = random.integers(-half, half, (cycles, config.lanes))
    inputs = {
        "read__enable": reads,
        "read__address": read,
        "write__valid": writes,
        "write__payload": {"address": write, "columns": columns, "data": data},
    }
    seen = await replay(dut, inputs, ["read__data", "range_error__valid", "range_error__payload"], extra=BEYOND_LATENCY)

    latency, compared = ResidualMemory.LATENCY, 0
    words = np.zeros((end, config.lanes), np.int64)
    for cycle in range(cycles - latency):
        lanes = np.repeat((int(columns[cycle]) >> np.arange(config.columns)) & 1, config.elements) == 1
        if reads[cycle] and read[cycle] < end:
            defined = ~(lanes & (writes[cycle] and write[cycle] == read[cycle]))
            got, want = seen["read__data"][cycle + latency], words[read[cycle]]
            assert np.array_equal(got[defined], want[defined]), f"word {read[cycle]}: {got}, not {want}"
            compared += int(defined.sum())
        if writes[cycle] and write[cycle] < end:
            words[write[cycle], lanes] = data[cycle, lanes]
    bad_write, bad_read = writes & (write >= end), reads & (read >= end)
    assert np.array_equal(seen["range_error__valid"][BEYOND_LATENCY:], bad_write | bad_read)
    reported = np.where(bad_write, write, read)[bad_write | bad_read]
    assert np.array_equal(seen["range_error__payload"][BEYOND_LATENCY:][bad_write | bad_read], reported)
    record(compared=compared, both=int((bad_write & bad_read).sum()))
