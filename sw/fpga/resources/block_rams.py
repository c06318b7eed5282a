"""One memory of the machine on an ECP5: whether Yosys makes it of block RAM or of look-up tables, and of how many.

Arithmetic, where Yosys needs minutes: its own choice by cost (``memory_libmap``, with the costs of its library for this
family), which ``tests/hw/test_memory_shapes.py`` holds against what it chose.
"""

from __future__ import annotations

from tessera.sw.fpga.resources.inventory import RtlMemory
from tessera.sw.fpga.synthesis.cost import FAMILIES

_SHAPES = ((16384, 1), (8192, 2), (4096, 4), (2048, 9), (1024, 18), (512, 36))
"""Words and bits of a DP16KD; the last only with one port to write and one to read."""
_BYTE = 9
"""Bits of a block RAM's word that have a write enable of their own."""
_LUT_WORDS, _LUT_BITS = 16, 4
"""Words and bits of a TRELLIS_DPR16X4."""
_LUT_CELLS = FAMILIES["ecp5"].cells["TRELLIS_DPR16X4"]["lut"]
"""Look-up tables of one."""
_BLOCK_COST, _LUT_COST = 128.0, 4.0
"""Of one of each, to Yosys."""
_MULTIPLEXER_COST = 0.5
"""Of a bit of a word for each further row of blocks, whose words a multiplexer joins."""
_OLD_WORD_COST = 10.0
"""About what it costs that a block returns the old word of one that is written, which look-up table RAM does anyhow."""
_LARGEST_LOGIC_TABLE = 32
"""Words of a table of constants that is still made of plain logic."""


def block_rams(memory: RtlMemory) -> int:
    """Block RAMs of a memory; 0 if it is made of look-up tables.

    Raises
    ------
    ValueError
        A kind of memory that the machine has none of, so that Yosys' choice was never looked at.
    """
    return _copies(memory) * _shape(memory)[1] if _in_blocks(memory) else 0


def lut_ram(memory: RtlMemory) -> int:
    """Look-up tables of a memory that are RAM; those of a table that is plain logic are not counted here.

    Raises
    ------
    ValueError
        As of :func:`block_rams`.
    """
    if _in_blocks(memory) or not memory.write_ports:
        return 0
    return _LUT_CELLS * _copies(memory) * _pieces(memory)


def _in_blocks(memory: RtlMemory) -> bool:
    if memory.write_ports > 1 or memory.granularity:
        bits = memory.granularity or memory.width
        raise ValueError(
            f"memory {memory.path} has {memory.write_ports} write ports with an enable per {bits} bits; the estimator "
            "knows memories with one write port, which writes whole words"
        )
    if memory.asynchronous:
        return False
    if not memory.write_ports:
        return memory.words > _LARGEST_LOGIC_TABLE
    rows = -(-memory.words // _LUT_WORDS)
    return _shape(memory)[0] <= _LUT_COST * _pieces(memory) + _multiplexers(memory, rows)


def _copies(memory: RtlMemory) -> int:
    """Copies of the contents: a block or look-up table RAM has one port to read, and one that writes or reads."""
    return max(1, memory.read_ports - memory.shared_ports)


def _pieces(memory: RtlMemory) -> int:
    return -(-memory.words // _LUT_WORDS) * -(-memory.width // _LUT_BITS)


def _shape(memory: RtlMemory) -> tuple[float, int]:
    """Cost and number of blocks of the cheapest shape."""
    costs = []
    for depth, bits in _SHAPES[:-1] if memory.shared_ports else _SHAPES:
        rows = -(-memory.words // depth)
        # Rows share a block: each takes whole bytes of it, which are written on their own.
        byte = min(bits, _BYTE)
        blocks = -(-rows * -(-memory.width // byte) // (bits // byte))
        costs.append((_BLOCK_COST * blocks + _multiplexers(memory, rows) + _OLD_WORD_COST, blocks))
    return min(costs)


def _multiplexers(memory: RtlMemory, rows: int) -> float:
    return _MULTIPLEXER_COST * memory.width * (rows - 1)
