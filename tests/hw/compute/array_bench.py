"""Runs inside the simulator: ComputeArray against NumPy's dot products."""

import cocotb
import numpy as np
from cocotb.triggers import RisingEdge

from tessera.hw.config import AcceleratorConfig
from tessera.hw.interfaces.memory import MEMORY_LATENCY
from tessera.sim.bench.streams import clock_and_reset, parameters, record, rng
from tests.helpers.port_bits import port_bits, port_values, scalar_fields


def edge_lanes(random: np.random.Generator, width: int, shape: tuple[int, ...]) -> np.ndarray:
    """Raw lanes (unsigned) among which the extremes of both signednesses abound."""
    top = 1 << width
    edges = np.array([0, 1, top - 1, top // 2, top // 2 - 1])
    kind = random.integers(0, 3, shape[:-1] + (1,))
    same = np.broadcast_to(random.choice(edges, shape[:-1] + (1,)), shape)
    return np.where(kind == 0, random.integers(0, top, shape), np.where(kind == 1, random.choice(edges, shape), same))


def operands(raw: np.ndarray, width: int, wide: bool, is_unsigned: bool) -> np.ndarray:
    """What the array multiplies: one value a lane, or one a pair of lanes when wide."""
    if wide:
        value = (raw[..., 1::2] << width | raw[..., ::2]) & 0xFFFF
        return value - ((value >> 15) << 16)
    return raw if is_unsigned else raw - ((raw >> (width - 1)) << width)


@cocotb.test()
async def dot_products_are_exact(dut):
    """Steps of 1 to 9 beats, back to back or with pauses, every flag; the value and the cycle of each result."""
    await clock_and_reset(dut)
    settings = parameters()
    config = AcceleratorConfig.from_dict(settings["config"])
    width, p, t, random = config.numerics.activation_width, config.elements, config.lanes, rng()
    words = edge_lanes(random, width, (p, config.bank_words, t))
    index = np.indices((p, config.bank_words)).reshape(2, -1)
    dut.hold__valid.value = 1
    held = {"element": index[0], "address": index[1], "data": words.reshape(-1, t)}
    for bits in port_bits("hold__payload", held):
        dut.hold__payload.value = bits
        await RisingEdge(dut.clk)
    dut.hold__valid.value = 0

    lengths = random.integers(1, 10, settings["steps"])
    lengths[: settings["steps"] // 4] = 1
    beats = int(lengths.sum())
    ends = np.cumsum(lengths)
    fields = {
        "first": np.isin(np.arange(beats), ends - lengths).astype(int),
        "last": np.isin(np.arange(beats), ends - 1).astype(int),
        "padded": (random.random(beats) < 0.2).astype(int),
        "wide": np.repeat(random.integers(0, 2, len(lengths)), lengths),
        "broadcast_unsigned": random.integers(0, 2, beats),
        "stationary_unsigned": random.integers(0, 2, beats),
        "stationary_address": random.integers(0, config.bank_words, beats),
    }
    broadcast = edge_lanes(random, width, (beats, t))
    padding = int(random.integers(0, 1 << width))
    constants = dict.fromkeys(scalar_fields("constants", 0), np.array([0])) | {"padding": np.array([padding])}
    dut.constants.value = port_bits("constants", constants)[0]
    seen = np.where(fields["padded"][:, None], padding, broadcast)
    products = np.zeros((beats, p), dtype=np.int64)
    for k in range(beats):
        wide, unsigned = bool(fields["wide"][k]), (fields["stationary_unsigned"][k], fields["broadcast_unsigned"][k])
        rows = operands(words[:, fields["stationary_address"][k]], width, wide, bool(unsigned[0]))
        products[k] = rows @ operands(seen[k], width, wide, bool(unsigned[1]))
    expected = np.add.reduceat(products, ends - lengths, axis=0)
    half = 1 << (config.numerics.accumulator_width - 1)
    wrapped = (expected + half) % (2 * half) - half

    beat_bits, broadcast_bits = port_bits("beat__payload", fields), port_bits("broadcast", broadcast)
    filler = port_bits("broadcast", edge_lanes(random, width, (64, t)))
    sent, results, due, at = 0, [], [], []
    arriving = [-1] * MEMORY_LATENCY
    for now in range(2 * beats + 100):
        pause = sent == beats or (sent > beats // 2 and random.random() < 0.3)
        dut.beat__valid.value = int(not pause)
        dut.beat__payload.value = beat_bits[0 if pause else sent]
        dut.broadcast.value = broadcast_bits[arriving[0]] if arriving[0] >= 0 else filler[now % 64]
        arriving = [*arriving[1:], -1 if pause else sent]
        if not pause:
            if fields["last"][sent]:
                due.append(now + settings["latency"])
            sent += 1
        await RisingEdge(dut.clk)
        if dut.result__valid.value == 1:
            results.append(int(dut.result__payload.value))
            at.append(now)
    assert at == due, "results did not come LATENCY cycles after the last beats"
    got = port_values("result__payload", results)
    wrong = np.argwhere(got != wrapped)
    assert not len(wrong), f"step, element {wrong[0]}: {got[tuple(wrong[0])]}, expected {wrapped[tuple(wrong[0])]}"
    record(steps=len(results), wrapped=int((wrapped != expected).sum()))
