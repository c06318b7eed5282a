"""Runs inside the simulator: Scratchpad against an array of words, both ports busy."""

import cocotb
import numpy as np

from tessera.hw.config import AcceleratorConfig
from tessera.hw.interfaces.memory import BEYOND_LATENCY
from tessera.hw.memory.scratchpad import Scratchpad
from tessera.sim.bench.streams import StreamDriver, StreamMonitor, clock_and_reset, parameters, record, rng
from tests.helpers.replay import replay

STROBES = ["load__ready", "load_data__valid", "load_data__payload", "broadcast_data"]
ERRORS = ["range_error__valid", "range_error__payload"]


def settings_of() -> tuple[dict, AcceleratorConfig]:
    """The run's parameters and configuration."""
    settings = parameters()
    return settings, AcceleratorConfig.from_dict(settings["config"])


def write_fields(config: AcceleratorConfig, random: np.random.Generator, address: np.ndarray) -> dict:
    """Random columns and data for given addresses."""
    count = len(address)
    return {
        "address": address,
        "columns": random.integers(0, 1 << config.columns, count),
        "data": random.integers(0, 1 << config.numerics.activation_width, (count, config.lanes)),
    }


@cocotb.test()
async def every_access_is_exact(dut):
    """Random writes with column masks; loads wait for them, broadcasts do not; addresses meet often."""
    await clock_and_reset(dut)
    settings, config = settings_of()
    random, cycles = rng(), settings["cycles"]
    places = np.concatenate([np.arange(8), [config.scratchpad_words - 1]])
    write = write_fields(config, random, random.choice(places, cycles))
    writes = random.random(cycles) < settings["write_pressure"]
    load, broadcast = random.choice(places, (2, cycles))
    loads, broadcasts = random.random((2, cycles)) < 0.7
    # A refused load stays on show, as streams demand.
    for cycle in range(1, cycles):
        if loads[cycle - 1] and writes[cycle - 1]:
            load[cycle], loads[cycle] = load[cycle - 1], True
    # The word of a running write must not be broadcast.
    broadcasts &= ~(writes & (broadcast == write["address"]))
    inputs = {
        "write__valid": writes,
        "write__payload": write,
        "load__valid": loads,
        "load__payload": load,
        "broadcast__valid": broadcasts,
        "broadcast__payload": broadcast,
    }
    seen = await replay(dut, inputs, STROBES + ERRORS)

    words = np.zeros((config.scratchpad_words, config.lanes), np.int64)
    loaded, shown = [], []
    for cycle in range(cycles):
        loaded.append(words[load[cycle]].copy())
        shown.append(words[broadcast[cycle]].copy())
        if writes[cycle]:
            mask = (int(write["columns"][cycle]) >> np.arange(config.columns)) & 1
            lanes = np.repeat(mask, config.elements) == 1
            words[write["address"][cycle], lanes] = write["data"][cycle, lanes]
    latency = Scratchpad.LATENCY
    accepted = loads & ~writes
    assert np.array_equal(seen["load__ready"], ~writes)
    assert np.array_equal(seen["load_data__valid"][latency:], accepted[:-latency])
    took = np.flatnonzero(accepted[:-latency])
    assert np.array_equal(seen["load_data__payload"][took + latency], np.array(loaded)[took])
    read = np.flatnonzero(broadcasts[:-latency])
    assert np.array_equal(seen["broadcast_data"][read + latency], np.array(shown)[read])
    assert not seen["range_error__valid"].any()
    record(loads=int(accepted.sum()), refused=int((loads & writes).sum()), broadcasts=int(broadcasts.sum()))


@cocotb.test()
async def loads_keep_order(dut):
    """The stream helper's driver, while writes come at random: every address answered once, in order."""
    await clock_and_reset(dut)
    settings, config = settings_of()
    random, count = rng(), 64
    data = random.integers(0, 1 << config.numerics.activation_width, (count, config.lanes))
    everything = np.full(count, (1 << config.columns) - 1)
    fill = {"address": np.arange(count), "columns": everything, "data": data}
    await replay(dut, {"write__valid": np.ones(count, np.int64), "write__payload": fill}, [])
    dut.write__valid.value = 0
    driver, monitor = StreamDriver(dut, "load", stall=0.2), StreamMonitor(dut, "load_data")
    order = random.integers(0, count, 500)
    driver.send(order)
    far = write_fields(config, random, np.full(1000, config.scratchpad_words - 1))
    await replay(dut, {"write__valid": random.integers(0, 2, 1000), "write__payload": far}, [])
    dut.write__valid.value = 0
    assert np.array_equal(await monitor.receive(len(order)), data[order])
    await driver.drained()
    monitor.assert_empty()


@cocotb.test()
async def addresses_beyond_are_reported(dut):
    """Each port in turn, then two at once; a refused write changes nothing."""
    await clock_and_reset(dut)
    _, config = settings_of()
    beyond = config.scratchpad_words
    inside = beyond - 1
    # Columns: write, its address, load, its address, broadcast, its address, reported address (or -1).
    cases = np.array(
        [
            [1, 0, 0, 0, 0, 0, -1],
            [1, inside, 1, beyond, 1, 0, -1],  # the load is not accepted, hence not used
            [1, beyond, 0, 0, 0, 0, beyond],
            [0, 0, 1, beyond + 1, 0, 0, beyond + 1],
            [0, 0, 0, beyond, 1, beyond + 2, beyond + 2],
            [1, beyond + 3, 0, 0, 1, beyond + 4, beyond + 3],
            [0, beyond, 0, beyond, 0, beyond, -1],
            [0, 0, 1, 0, 1, inside, -1],
            [1, 65535, 0, 0, 0, 0, 65535],
        ]
    )
    # Zeros for word 0, then all ones: a write that wraps to word 0 would show.
    count = len(cases)
    ones = np.full((count, config.lanes), (1 << config.numerics.activation_width) - 1)
    ones[0] = 0
    columns = np.full(count, (1 << config.columns) - 1)
    inputs = {
        "write__valid": cases[:, 0],
        "write__payload": {"address": cases[:, 1], "columns": columns, "data": ones},
        "load__valid": cases[:, 2],
        "load__payload": cases[:, 3],
        "broadcast__valid": cases[:, 4],
        "broadcast__payload": cases[:, 5],
    }
    seen = await replay(dut, inputs, ERRORS + STROBES, extra=3 + Scratchpad.LATENCY)
    reported = np.where(seen["range_error__valid"] == 1, seen["range_error__payload"], -1)
    assert np.array_equal(reported[BEYOND_LATENCY : count + BEYOND_LATENCY], cases[:, 6]), reported
    assert not seen["load_data__payload"][7 + Scratchpad.LATENCY].any()
    assert (seen["broadcast_data"][7 + Scratchpad.LATENCY] == ones[1]).all()


@cocotb.test()
async def collision_is_asserted(dut):
    """A word written and broadcast in one cycle (run on its own: the assertion ends the simulation)."""
    await clock_and_reset(dut)
    _, config = settings_of()
    one = np.ones(1, np.int64)
    inputs = {
        "write__valid": one,
        "write__payload": write_fields(config, rng(), one) | {"columns": one},
        "broadcast__valid": one,
        "broadcast__payload": one,
    }
    await replay(dut, inputs, [], extra=2)
