"""One memory of the machine on an ECP5: whether Yosys makes it of block RAM or of look-up tables, and of how many.

Arithmetic, where Yosys needs minutes: its own choice by cost (``memory_libmap``, with the costs of its library for this
family), which ``tests/hw/test_memory_shapes.py`` holds against what it chose.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

from sw.fpga.synthesis.cost import FAMILIES

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


@dataclass(frozen=True, kw_only=True)
class Memory:
    """``count`` equal memories of a unit.

    Parameters
    ----------
    unit, name:
        Unit, as ``tessera synth`` counts it, and name in it.
    words, width:
        Size; ``width`` in bits.
    count:
        How many.
    readers:
        Ports that read; each has a copy of its own.
    two_ports:
        Both ports write or read, so that no block is 36 bits wide.
    constant:
        A table: nothing writes.
    asynchronous:
        Read in the cycle of its address, which block RAM cannot.
    """

    unit: str
    name: str
    words: int
    width: int
    count: int = 1
    readers: int = 1
    two_ports: bool = False
    constant: bool = False
    asynchronous: bool = False

    @property
    def blocks(self) -> int:
        """Block RAMs of all of them."""
        return self.count * self.readers * self._shape[1] if self._in_blocks else 0

    @property
    def luts(self) -> int:
        """Look-up tables that are RAM, of all of them; of a table that is plain logic none is counted here."""
        return 0 if self._in_blocks or self.constant else _LUT_CELLS * self.count * self.readers * self._pieces

    @cached_property
    def _in_blocks(self) -> bool:
        if self.asynchronous:
            return False
        if self.constant:
            return self.words > _LARGEST_LOGIC_TABLE
        rows = -(-self.words // _LUT_WORDS)
        return self._shape[0] <= _LUT_COST * self._pieces + self._multiplexers(rows)

    @cached_property
    def _pieces(self) -> int:
        return -(-self.words // _LUT_WORDS) * -(-self.width // _LUT_BITS)

    @cached_property
    def _shape(self) -> tuple[float, int]:
        """Cost and number of blocks of the cheapest shape."""
        costs = []
        for depth, bits in _SHAPES[:-1] if self.two_ports else _SHAPES:
            rows = -(-self.words // depth)
            # Rows share a block: each takes whole bytes of it, which are written on their own.
            byte = min(bits, _BYTE)
            blocks = -(-rows * -(-self.width // byte) // (bits // byte))
            costs.append((_BLOCK_COST * blocks + self._multiplexers(rows) + _OLD_WORD_COST, blocks))
        return min(costs)

    def _multiplexers(self, rows: int) -> float:
        return _MULTIPLEXER_COST * self.width * (rows - 1)


def memory_cells(memories: Iterable[Memory], kind: str) -> dict[str, int]:
    """``blocks`` or ``luts`` of all memories of each unit that has any."""
    found: dict[str, int] = {}
    for memory in memories:
        found[memory.unit] = found.get(memory.unit, 0) + getattr(memory, kind)
    return found
