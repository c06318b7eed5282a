"""Piecewise: pipelined evaluation of a piecewise-linear table."""

from __future__ import annotations

from amaranth.hdl import Module, Value, unsigned
from amaranth.lib import data, memory, wiring
from amaranth.lib.wiring import In, Out

from tessera.hw.blocks.arithmetic import round_shift
from tessera.hw.blocks.multiplier import Multiplier
from tessera.hw.blocks.pipeline import delay
from tessera.hw.tables import PiecewiseTable


def interpolate(m: Module, base: Value, slope: Value, fraction: Value) -> Value:
    """``base + round_shift(slope * fraction, len(fraction))``, ``Multiplier.LATENCY`` cycles later and not registered.

    Parameters
    ----------
    base, slope:
        Unsigned value at the segment's start, and signed change to its end.
    fraction:
        Unsigned position in the segment.
    """
    m.submodules.multiplier = multiplier = Multiplier(max(len(slope), len(fraction) + 1), 1)
    m.d.comb += [multiplier.broadcast.eq(slope), multiplier.stationary[0].eq(fraction)]
    return delay(m, base, Multiplier.LATENCY, name="base") + round_shift(multiplier.product[0], len(fraction))


class Piecewise(wiring.Component):
    """``value = base[index] + round_shift(slope[index] * fraction, fraction_bits)``, one argument per cycle.

    ::

        index ──► ROM {base, slope} ─► registers ─┬─► slope x fraction ─► register ─► + ─► register ──► value
        fraction ───────────────────────────────────┘            base ─────────────────┘

    There is a register behind the ROM, because the multiplier may be far from it.

    Parameters
    ----------
    table:
        Table to evaluate; its values must not be negative.

    Members
    -------
    index: In(unsigned)
        Segment; wide enough for the number of segments rounded up to a power of two. Segments beyond the table give 0.
    fraction: In(unsigned(table.fraction_bits))
        Position in the segment.
    value: Out(unsigned)
        The value. Its width is that of the largest value at either end of any segment.

    Timing: ``value`` comes ``LATENCY`` cycles after its argument; initiation interval 1.
    Resources: one ROM of (base + slope) bits, which may become block RAM, and one signed multiplier.

    Raises
    ------
    ValueError
        For a table with negative values.
    """

    LATENCY = 5

    def __init__(self, table: PiecewiseTable) -> None:
        ends = [base + slope for base, slope in zip(table.base, table.slope, strict=True)]
        lowest = min(*table.base, *ends)
        if lowest < 0:
            raise ValueError(f"the table reaches {lowest}; values must be 0 or more: add an offset to the table")
        self._table = table
        self._index_width = (len(table.base) - 1).bit_length()
        super().__init__(
            {
                "index": In(self._index_width),
                "fraction": In(table.fraction_bits),
                "value": Out(max(*table.base, *ends).bit_length()),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Look up, multiply, add."""
        m = Module()
        table = self._table
        entry = data.StructLayout({"base": table.base_width, "slope": unsigned(table.slope_width)})
        mask = (1 << table.slope_width) - 1
        rows = [{"base": b, "slope": s & mask} for b, s in zip(table.base, table.slope, strict=True)]
        rows += [{"base": 0, "slope": 0}] * ((1 << self._index_width) - len(rows))
        m.submodules.rom = rom = memory.Memory(shape=entry, depth=len(rows), init=rows)
        read = rom.read_port()
        segment = delay(m, read.data, 1, name="segment")
        m.d.comb += read.addr.eq(self.index)
        fraction = delay(m, self.fraction, 2, name="fraction")
        m.d.sync += self.value.eq(interpolate(m, segment.base, segment.slope.as_signed(), fraction))
        return m
