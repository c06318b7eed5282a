"""Runs inside the simulator: StationaryBanks against an array of words, with all three writers at once."""

import cocotb
import numpy as np
from cocotb.triggers import RisingEdge

from tessera.hw.compute.bank import StationaryBanks
from tessera.hw.config import AcceleratorConfig
from tessera.sim.bench.streams import clock_and_reset, parameters, record, rng
from tests.helpers.port_bits import port_bits, port_values


def random_writes(config: AcceleratorConfig, random: np.random.Generator, count: int) -> dict[str, dict]:
    """Random payloads of each writer, at few addresses so that they meet; exponentials keep to words of their own."""
    top, t = 1 << config.numerics.activation_width, config.lanes
    addresses = random.choice([0, 1, 2, config.bank_words // 2, config.bank_words - 1], (3, count))
    groups = random.integers(0, config.elements // config.exponential_lanes, count)
    clear = random.random(count) < 0.3
    for group in range(config.elements // config.exponential_lanes):
        mine = np.flatnonzero(groups == group)
        clear[mine[0]] = True
        begun = np.maximum.accumulate(np.where(clear[mine], np.arange(len(mine)), 0))
        addresses[2][mine] = random.choice([3, 4, config.bank_words - 2], len(mine))[begun]
    g, e, p = config.words_per_chunk, config.exponential_lanes, config.elements
    return {
        "fill": {
            "group": random.integers(0, p // g, count),
            "address": addresses[0],
            "data": random.integers(0, top, (count, g, t)),
        },
        "hold": {
            "element": random.integers(0, p, count),
            "address": addresses[1],
            "data": random.integers(0, top, (count, t)),
        },
        "exponentials": {
            "group": groups,
            "address": addresses[2],
            "lane": random.integers(0, t, count),
            "clear": clear.astype(int),
            "data": random.integers(0, top, (count, e)),
        },
    }


def write(words: np.ndarray, name: str, entry: dict[str, np.ndarray]) -> None:
    """Do one write in the model: words[element, address, lane]."""
    count = {"hold": 1, "fill": len(entry["data"]), "exponentials": len(entry["data"])}[name]
    first = int(entry["element"]) if name == "hold" else int(entry["group"]) * count
    block = words[first : first + count, int(entry["address"])]
    if name == "exponentials":
        if entry["clear"]:
            block[:] = 0
        block[:, int(entry["lane"])] = entry["data"]
    else:
        block[:] = entry["data"]


@cocotb.test()
async def every_write_lands_once(dut):
    """Random writers, priorities, and a read of every element each cycle."""
    await clock_and_reset(dut)
    settings = parameters()
    config = AcceleratorConfig.from_dict(settings["config"])
    random, cycles = rng(), settings["cycles"]
    payloads = random_writes(config, random, cycles)
    bits = {name: port_bits(f"{name}__payload", fields) for name, fields in payloads.items()}
    words = np.full((config.elements, config.bank_words, config.lanes), -1)
    position, shown = dict.fromkeys(bits, 0), dict.fromkeys(bits, False)
    asked: list[int] = []
    expected: list[np.ndarray] = []
    refused = dict.fromkeys(bits, 0)
    for _ in range(cycles):
        address = int(random.choice([0, 1, 2, 3, 4, config.bank_words - 2, config.bank_words - 1]))
        dut.read__address.value = address
        for name in bits:
            # A refused write stays on show, as streams demand; a held row is never refused.
            shown[name] = shown[name] or random.random() < 0.4
            getattr(dut, f"{name}__valid").value = int(shown[name])
            getattr(dut, f"{name}__payload").value = bits[name][position[name]]
        await RisingEdge(dut.clk)
        asked.append(address)
        if len(asked) > StationaryBanks.LATENCY:
            got = port_values("read__data", [int(dut.read__data.value)])[0]
            want = expected[len(asked) - 1 - StationaryBanks.LATENCY]
            assert np.array_equal(np.where(want < 0, -1, got), want), f"read {got}, expected {want}"
        if len(asked) > StationaryBanks.READ_DELAY:
            expected.append(words[:, asked[-1 - StationaryBanks.READ_DELAY]].copy())
        free = True
        for name in ("hold", "exponentials", "fill"):
            if not shown[name]:
                continue
            entry = {field: values[position[name]] for field, values in payloads[name].items()}
            if name != "hold":
                assert bool(getattr(dut, f"{name}__ready").value) == free, f"{name} ready is not {free}"
            if free:
                write(words, name, entry)
                position[name] += 1
                shown[name] = False
            else:
                refused[name] += 1
            free = False
    record(refused=refused)
