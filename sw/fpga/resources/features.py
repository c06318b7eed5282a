"""Features of each unit: the counts of bits and parts with which its look-up tables and flip-flops grow.

The RTL builds these bits and parts. A coefficient is therefore the cost of one of them and cannot be negative
(:mod:`tessera.sw.fpga.resources.calibration`). ``fixed`` is the part of a unit's cost that no configuration changes.
Rows, columns and ports of the large memories come from the RTL (:mod:`tessera.sw.fpga.resources.inventory`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tessera.hw.boards.board import Board
from tessera.hw.config import AcceleratorConfig
from tessera.hw.ecp5.platform import Ecp5
from tessera.sw.fpga.resources.inventory import RtlMemory, machine_inventory

Features = dict[str, float]
"""How much there is of each kind of part, by its name."""


def _bits(count: int) -> int:
    """Bits of a counter up to ``count - 1``."""
    return (count - 1).bit_length()


class _Sizes:
    """Names for what several units' features are made of."""

    def __init__(self, config: AcceleratorConfig) -> None:
        numerics = config.numerics
        self.memories = machine_inventory(config).memories
        self.activation, self.residual = numerics.activation_width, numerics.residual_width
        self.word = config.lanes * self.activation
        self.residual_word = config.lanes * self.residual
        self.bus = 8 * config.memory_bytes
        self.chunk = 8 * config.chunk_bytes
        self.chunk_lanes = config.chunk_bytes * self.activation
        self.tokens = _bits(config.max_tokens)
        self.experts = _bits(config.max_experts)
        # Lanes of LayerNorm that normalise, and those that only make statistics.
        self.norm_lanes = config.layernorm_lanes * (2 if config.layernorm_row_buffer else 1)
        self.wide_lanes = self.norm_lanes if self.residual > Ecp5.FACTOR_BITS else 0


def _large(memories: Sequence[RtlMemory], columns: int) -> Features:
    """Scratchpad or residual memory: registers before and behind each row of block RAMs, and what joins the rows."""
    largest = max(memories, key=lambda memory: memory.words)
    rows, readers, word = len(memories) // columns, largest.read_ports, columns * largest.width
    return {
        "fixed": 1,
        "word": word,
        "word a row": readers * rows * word,
        "further rows": readers * -(-(rows - 1) // 3) * word,
        "address a row": rows * _bits(largest.words),
        "columns of rows": rows * columns,
    }


def _top(c: AcceleratorConfig, s: _Sizes) -> Features:
    return {"fixed": 1, "word": s.word}


def _registers(c: AcceleratorConfig, s: _Sizes) -> Features:
    return {"fixed": 1, "command": _bits(c.max_commands)}


def _bus(c: AcceleratorConfig, s: _Sizes) -> Features:
    return {"fixed": 1, "bus": s.bus}


def _stream(c: AcceleratorConfig, s: _Sizes) -> Features:
    return {
        "fixed": 1,
        "bus": s.bus,
        "chunk": s.chunk,
        "chunk's lanes": s.chunk_lanes,
        "word": s.word,
        "residual word": s.residual_word,
    }


def _image(c: AcceleratorConfig, s: _Sizes) -> Features:
    picked = min(c.memory_bytes, c.lanes)
    return {
        "fixed": 1,
        "bus": s.bus,
        "word of bytes": 8 * c.lanes,
        "word": s.word,
        "pixels picked": 8 * picked * (1 + _bits(c.memory_bytes)),
        "places of pixels": 8 * c.lanes * _bits(picked),
    }


def _store(c: AcceleratorConfig, s: _Sizes) -> Features:
    return {"fixed": 1, "bus": s.bus, "residual word": s.residual_word}


def _scratchpad(c: AcceleratorConfig, s: _Sizes) -> Features:
    return _large(s.memories["scratchpad"], c.columns)


def _residual(c: AcceleratorConfig, s: _Sizes) -> Features:
    return _large(s.memories["residual"], c.columns)


def _engine(c: AcceleratorConfig, s: _Sizes) -> Features:
    return {"fixed": 1, "word": s.word, "elements": c.elements, "token": s.tokens, "expert": s.experts}


def _array(c: AcceleratorConfig, s: _Sizes) -> Features:
    products, width = c.elements * c.lanes, max(32, 2 * s.activation + 3)
    return {
        "fixed": 1,
        "elements": c.elements,
        "products": products,
        "banks' words": c.elements * s.word,
        "adders' bits": c.elements * (c.lanes - 1) * width,
        "placed exponentials": c.exponential_lanes * s.word,
        "accumulators": c.elements * c.numerics.accumulator_width,
        "word": s.word,
        "filled words": s.chunk_lanes,
    }


def _parameters(c: AcceleratorConfig, s: _Sizes) -> Features:
    return {"fixed": 1, "sets read": c.requantise_lanes, "chunk": s.chunk, "entry": _bits(c.parameter_entries)}


def _writeback(c: AcceleratorConfig, s: _Sizes) -> Features:
    r, p, width = c.requantise_lanes, c.elements, c.numerics.accumulator_width
    return {
        "fixed": 1,
        "lanes": r,
        "lanes' bits": r * width,
        "accumulators": p * width,
        "residual values": p * s.residual,
        "residual word": s.residual_word,
        "transposed words": p * s.word,
        "word": s.word,
        "query scales": p * r,
    }


def _softmax(c: AcceleratorConfig, s: _Sizes) -> Features:
    return {
        "fixed": 1,
        "queries": c.elements,
        "sums": c.elements * (s.activation + s.tokens),
        "lanes": c.exponential_lanes,
        "lanes' bits": c.exponential_lanes * s.activation,
    }


def _gate(c: AcceleratorConfig, s: _Sizes) -> Features:
    return {
        "fixed": 1,
        "queues": c.max_experts,
        "lengths": c.max_experts * s.tokens,
        "places": c.max_top_k,
        "scores": c.elements,
        "expert": s.experts,
    }


def _layernorm(c: AcceleratorConfig, s: _Sizes) -> Features:
    row_buffer = int(c.layernorm_row_buffer)
    return {
        "fixed": 1,
        "lanes": s.norm_lanes,
        "wide lanes": s.wide_lanes,
        "row buffer": row_buffer,
        "residual word": s.residual_word,
        "buffered word": s.residual_word * row_buffer,
        "word": s.word,
        "chunk": s.chunk,
        "residual bits": s.residual - Ecp5.FACTOR_BITS,
    }


def _sequencer(c: AcceleratorConfig, s: _Sizes) -> Features:
    return {"fixed": 1, "bus": s.bus, "queues": c.max_experts, "lengths": c.max_experts * s.tokens}


def _scratch_arbiter(c: AcceleratorConfig, s: _Sizes) -> Features:
    return {"fixed": 1, "word": s.word}


def _residual_arbiter(c: AcceleratorConfig, s: _Sizes) -> Features:
    return {"fixed": 1, "residual word": s.residual_word}


_UNITS: dict[str, Callable[[AcceleratorConfig, _Sizes], Features]] = {
    "top": _top,
    "registers": _registers,
    "read_master": _bus,
    "stream": _stream,
    "image": _image,
    "store": _store,
    "scratchpad": _scratchpad,
    "residual": _residual,
    "engine": _engine,
    "array": _array,
    "parameters": _parameters,
    "writeback": _writeback,
    "softmax": _softmax,
    "gate": _gate,
    "layernorm": _layernorm,
    "sequencer": _sequencer,
    "scratch_arbiter": _scratch_arbiter,
    "residual_arbiter": _residual_arbiter,
}

MACHINE_UNITS: Sequence[str] = tuple(_UNITS)
"""The machine's units, as ``tessera synth`` counts them."""


def features(config: AcceleratorConfig) -> dict[str, Features]:
    """Features of each unit of the machine."""
    sizes = _Sizes(config)
    return {unit: of(config, sizes) for unit, of in _UNITS.items()}


def board_features(board: Board, memory_bytes: int) -> dict[str, tuple[str, Features]]:
    """Of what a board has beside the machine: for each unit the name of its coefficients, and features."""
    bus: Features = {"fixed": 1, "bus": 8 * memory_bytes}
    kind = "on_chip" if isinstance(board.memory, int) else "sdram"
    return {"host_link": ("host_link", bus), "memory": (f"memory.{kind}", bus), "board": (f"board.{kind}", bus)}
