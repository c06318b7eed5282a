"""ResidualMemory: the residual stream (or logits) on chip, one read and one write a cycle."""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Mux
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from hw.config import AcceleratorConfig
from hw.interfaces.memory import MEMORY_LATENCY, residual_lanes_layout, residual_write_layout
from hw.interfaces.strobe import Strobe
from hw.memory.rows import Port, large_memory, report_beyond


class ResidualMemory(wiring.Component):
    """``residual_words`` words of T lanes in the residual's format: a read and a write port a column of P lanes.

    Parameters
    ----------
    config:
        Sizes; P lanes a column, ``config.columns`` columns.

    Members
    -------
    read_enable, read_address: In
        Read a whole word.
    read_data: Out(residual_lanes)
        The word, MEMORY_LATENCY later; held until the next read.
    write: In(Strobe(residual_write))
        Writes the columns of the mask.
    range_error: Out(Strobe(16))
        An address beyond the last word, BEYOND_LATENCY after its use. Such a write is dropped, such a read returns any
        data. Of two in one cycle, the write's is reported.

    Timing: one read and one write a cycle. A column that is read in the cycle in which it is written is undefined (the
    reader asserts that it does not use it); from the next cycle on the new lanes are read.
    Resources: ``residual_words * T * residual_width`` bits of block RAM, with registers around it (``hw.memory.rows``).
    """

    LATENCY = MEMORY_LATENCY

    def __init__(self, config: AcceleratorConfig) -> None:
        self._config = config
        super().__init__(
            {
                "read_enable": In(1),
                "read_address": In(16),
                "read_data": Out(residual_lanes_layout(config)),
                "write": In(Strobe(residual_write_layout(config))),
                "range_error": Out(Strobe(16)),
            }
        )

    def elaborate(self, platform):
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
        port_b = Port(name="read", address=self.read_address, read=self.read_enable)
        _, shown = large_memory(m, platform, words=words, column=column, columns=config.columns, ports=(port_a, port_b))
        m.d.comb += self.read_data.as_value().eq(Cat(shown))
        report_beyond(
            m,
            self.range_error,
            words,
            (write.valid, write.payload.address),
            (self.read_enable, self.read_address),
        )
        return m
