"""ResidualMemory: the residual stream (or logits) on chip, one read and one write per cycle."""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Mux
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from tessera.hw.config import AcceleratorConfig
from tessera.hw.interfaces.memory import (
    MEMORY_LATENCY,
    residual_lanes_layout,
    residual_read,
    residual_write_layout,
)
from tessera.hw.interfaces.strobe import Strobe
from tessera.hw.isa import ADDRESS_WIDTH
from tessera.hw.memory.rows import Port, large_memory, report_beyond


class ResidualMemory(wiring.Component):
    """``residual_words`` words of T lanes in the residual's format: one read and one write port per column of P lanes.

    Parameters
    ----------
    config:
        Sizes; P lanes a column, ``config.columns`` columns.

    Members
    -------
    read: In(MemoryRead)
        Reads a whole word. Data comes MEMORY_LATENCY cycles later and stays until the next read.
    write: In(Strobe(residual_write))
        Writes the columns of the mask.
    range_error: Out(Strobe(ADDRESS_WIDTH))
        An address beyond the last word, BEYOND_LATENCY cycles after its use. Such a write is dropped. Such a read
        returns any data. If a cycle has two, the write's is reported.

    Timing: one read and one write per cycle. A column that is read while it is written is undefined; the reader asserts
    that it does not use it. From the next cycle on the new lanes are read.
    Resources: ``residual_words * T * residual_width`` bits of block RAM, with registers around it
    (``tessera.hw.memory.rows``).
    """

    LATENCY = MEMORY_LATENCY

    def __init__(self, config: AcceleratorConfig) -> None:
        self._config = config
        super().__init__(
            {
                "read": In(residual_read(config)),
                "write": In(Strobe(residual_write_layout(config))),
                "range_error": Out(Strobe(ADDRESS_WIDTH)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config = self._config
        words = config.residual_words
        write = self.write
        column = data.ArrayLayout(residual_lanes_layout(config).elem_shape, config.elements)
        port_a = Port(
            name="write",
            address=write.payload.address,
            columns=Mux(write.valid, write.payload.columns, 0),
            data=write.payload.data.as_value(),
        )
        port_b = Port(name="read", address=self.read.address, read=self.read.enable)
        _, shown = large_memory(m, platform, words=words, column=column, columns=config.columns, ports=(port_a, port_b))
        m.d.comb += self.read.data.as_value().eq(Cat(shown))
        report_beyond(
            m,
            self.range_error,
            words,
            (write.valid, write.payload.address),
            (self.read.enable, self.read.address),
        )
        return m
