"""What the weight stream must deliver: blocks laid out in memory, and their contents by NumPy."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from tessera.hw.config import AcceleratorConfig
from tessera.hw.interfaces.jobs import StreamKind


@dataclass
class Expected:
    """Everything that leaves the unit, in order: arrays of one entry per beat, as ``sim/bench/packing.py`` gives."""

    fill: list = field(default_factory=list)
    parameters: list = field(default_factory=list)
    scratch_write: list = field(default_factory=list)
    residual_write: list = field(default_factory=list)
    shift_write: list = field(default_factory=list)
    table_write: list = field(default_factory=list)
    list_write: list = field(default_factory=list)
    tiles: int = 0


def random_jobs(config: AcceleratorConfig, random: np.random.Generator, count: int, start: int) -> list[dict]:
    """Jobs of all kinds, one after another in memory, 64-byte aligned; some with padding in the block's length."""
    jobs, address = [], start
    unit = config.chunk_bytes
    for _ in range(count):
        kind = int(random.choice(list(StreamKind), p=(0.55, 0.12, 0.12, 0.07, 0.07, 0.07)))
        job = {"kind": kind, "address": address, "channels": 0, "tiles": 0, "words": 0, "base": 0, "wide": 0}
        if kind == StreamKind.WEIGHTS:
            tiles = int(random.integers(0, 4))
            job["channels"] = config.elements * int(random.integers(0 if tiles else 1, 4))
            job["tiles"], job["words"] = tiles, int(random.integers(1, 9))
            job["wide"] = int(random.integers(2))
            size = -(-8 * job["channels"] // unit) * unit
            size += tiles * job["words"] * config.elements * config.lanes
        elif kind in (StreamKind.SHIFTS, StreamKind.TABLE):
            job["channels"] = config.lanes * int(random.integers(1, 9))
            size = job["channels"]
        else:
            job["words"], job["base"] = int(random.integers(1, 30)), int(random.integers(0, 4000))
            per_word = {StreamKind.STAGE: config.lanes, StreamKind.RESIDUAL: 4 * config.lanes, StreamKind.LIST: unit}
            size = job["words"] * per_word[StreamKind(kind)]
        job["bytes"] = (-(-size // unit) + int(random.integers(0, 3) == 0) * int(random.integers(1, 4))) * unit
        jobs.append(job)
        address += -(-job["bytes"] // 64) * 64
    return jobs


def _weights(config: AcceleratorConfig, block: np.ndarray, job: dict, expected: Expected) -> None:
    unit, mask = config.chunk_bytes, (1 << config.numerics.activation_width) - 1
    head = -(-8 * job["channels"] // unit) * unit
    sets = block[: 8 * job["channels"]].view("<u8").reshape(-1, config.entries_per_chunk).astype(np.uint64)
    expected.parameters += [{"bits": row} for row in sets]
    shape = (job["tiles"], job["words"], config.elements // config.words_per_chunk, config.words_per_chunk)
    data = block[head : head + job["tiles"] * job["words"] * config.elements * config.lanes]
    if job["wide"]:
        values = data.view("<i2").astype(np.int64)
        lanes = np.stack((values, values >> config.numerics.activation_width), axis=-1)
    else:
        lanes = data.view("i1").astype(np.int64)
    lanes = (lanes & mask).reshape(*shape, config.lanes)
    for tile in range(job["tiles"]):
        base = (expected.tiles % 2) * config.weight_tile_words
        expected.tiles += 1
        expected.fill += [
            {"group": group, "address": base + word, "data": lanes[tile, word, group]}
            for word in range(shape[1])
            for group in range(shape[2])
        ]


def deliver(config: AcceleratorConfig, memory: bytes, job: dict, expected: Expected) -> None:
    """Append what one job must deliver."""
    block = np.frombuffer(memory, np.uint8)[job["address"] : job["address"] + job["bytes"]].copy()
    columns, base = (1 << config.columns) - 1, job["base"]
    if job["kind"] == StreamKind.WEIGHTS:
        _weights(config, block, job, expected)
    elif job["kind"] == StreamKind.STAGE:
        mask = (1 << config.numerics.activation_width) - 1
        words = block[: job["words"] * config.lanes].view("i1").astype(np.int64).reshape(-1, config.lanes) & mask
        expected.scratch_write += [
            {"address": base + index, "columns": columns, "data": word} for index, word in enumerate(words)
        ]
    elif job["kind"] == StreamKind.RESIDUAL:
        width = config.numerics.residual_width
        words = block[: 4 * job["words"] * config.lanes].view("<u4").astype(np.int64).reshape(-1, config.lanes)
        words = ((words & ((1 << width) - 1)) ^ (1 << (width - 1))) - (1 << (width - 1))
        expected.residual_write += [
            {"address": base + index, "columns": columns, "data": word} for index, word in enumerate(words)
        ]
    elif job["kind"] == StreamKind.TABLE:
        words = block[: -(-job["channels"] // config.chunk_bytes) * config.chunk_bytes].view("<u4").astype(np.int64)
        for index, entries in enumerate(words.reshape(-1, config.chunk_bytes // 4)):
            bits = {"entries.base": entries & 0x3FFFF, "entries.slope": entries >> 18 & 0x1FFF}
            expected.table_write.append({"address": index} | bits)
    elif job["kind"] == StreamKind.LIST:
        rows = block[: job["words"] * config.chunk_bytes].reshape(job["words"], -1)[:, :2].copy().view("<u2")[:, 0]
        expected.list_write += [{"address": base + index, "row": int(row)} for index, row in enumerate(rows)]
    else:
        chunks = -(-job["channels"] // config.chunk_bytes)
        shifts = block[: chunks * config.chunk_bytes].reshape(chunks, -1) & 7
        expected.shift_write += [{"address": index, "shifts": row} for index, row in enumerate(shifts)]
