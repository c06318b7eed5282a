"""Runs inside the simulator: Transposer against NumPy's transpose."""

import cocotb
import numpy as np

from tessera.hw.config import AcceleratorConfig
from tessera.sim.bench.streams import clock_and_reset, parameters, rng
from tests.helpers.replay import replay


@cocotb.test()
async def words_come_out_transposed(dut):
    """Words of random row counts, channels at random distances of at least P / R cycles."""
    await clock_and_reset(dut)
    settings = parameters()
    config = AcceleratorConfig.from_dict(settings["config"])
    random, words = rng(), settings["words"]
    p, t, top = config.elements, config.lanes, 1 << config.numerics.activation_width
    values = random.integers(0, top, (words, t, p))
    rows = random.integers(0, p + 1, words)
    base, stride = random.integers(0, 1 << 16, (2, words))

    spacing = p // config.requantise_lanes
    gaps = spacing + random.integers(0, 3, words * t) * (random.random(words * t) < settings["stall"])
    when = np.cumsum(gaps)
    cycles = int(when[-1]) + 1
    valid = np.zeros(cycles, np.int64)
    valid[when] = 1
    stimulus = {"data": np.zeros((cycles, p), np.int64)}
    stimulus["data"][when] = values.reshape(-1, p)
    for name, fields in {"address": base, "row_stride": stride, "rows": rows}.items():
        stimulus[name] = np.zeros(cycles, np.int64)
        stimulus[name][when] = np.repeat(fields, t)
    stimulus["flush"] = np.zeros(cycles, np.int64)
    stimulus["flush"][when] = np.tile(np.arange(t) == t - 1, words)
    # A last cycle without a channel.
    valid = np.append(valid, 0)
    stimulus = {name: np.concatenate([field, np.zeros_like(field[:1])]) for name, field in stimulus.items()}
    seen = await replay(
        dut,
        {"channel__valid": valid, "channel__payload": stimulus},
        ["write__valid", "write__payload", "busy"],
        extra=p,
    )
    shown = seen["write__valid"] == 1
    assert np.array_equal(seen["busy"], seen["write__valid"])
    written = {name: field[shown] for name, field in seen["write__payload"].items()}
    want_address = np.concatenate([(base[w] + np.arange(rows[w]) * stride[w]) & 0xFFFF for w in range(words)])
    want_data = np.concatenate([values[w].T[: rows[w]] for w in range(words)])
    want_cycle = np.concatenate([when[w * t + t - 1] + 1 + np.arange(rows[w]) for w in range(words)])
    assert np.array_equal(np.flatnonzero(shown), want_cycle)
    assert np.array_equal(written["address"], want_address)
    assert np.array_equal(written["data"], want_data)
    assert (written["columns"] == (1 << config.columns) - 1).all()
