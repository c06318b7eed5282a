"""ResidualMemory: the residual stream (or logits) on chip, one read and one write a cycle."""

from __future__ import annotations

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import data, memory, wiring
from amaranth.lib.wiring import In, Out

from hw.config import AcceleratorConfig
from hw.interfaces import MEMORY_LATENCY, Strobe, residual_lanes, residual_write


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
        An address beyond the last word, one cycle after its use. Such a write is dropped, such a read returns any
        data. Of two in one cycle, the write's is reported.

    Timing: one read and one write a cycle; a write takes place ``WRITE_LATENCY`` cycles after it was given. A column
    that is read in that cycle is undefined (the reader asserts that it does not use it); from the next cycle on the new
    lanes are read.
    Resources: ``residual_words * T * residual_width`` bits of block RAM.
    """

    LATENCY = MEMORY_LATENCY
    WRITE_LATENCY = 1

    def __init__(self, config: AcceleratorConfig) -> None:
        self._config = config
        super().__init__(
            {
                "read_enable": In(1),
                "read_address": In(16),
                "read_data": Out(residual_lanes(config)),
                "write": In(Strobe(residual_write(config))),
                "range_error": Out(Strobe(16)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        config = self._config
        words = config.residual_words
        write = self.write
        beyond_write, beyond_read = Signal(), Signal()
        # Writers are far away, and whether the word exists decides the enables of many blocks: a register between them.
        writing, address, columns, lanes = (
            Signal(),
            Signal.like(write.payload.address),
            Signal.like(write.payload.columns),
            Signal.like(write.payload.data, reset_less=True),
        )
        refused = Signal()
        m.d.sync += [
            writing.eq(write.valid),
            refused.eq(beyond_write),
            address.eq(write.payload.address),
            columns.eq(write.payload.columns),
            lanes.eq(write.payload.data),
        ]
        m.d.comb += [
            beyond_write.eq(write.valid & (write.payload.address >= words)),
            beyond_read.eq(self.read_enable & (self.read_address >= words)),
        ]
        for index in range(config.columns):
            column = data.ArrayLayout(residual_lanes(config).elem_shape, config.elements)
            ram = memory.Memory(shape=column, depth=words, init=[])
            m.submodules[f"column_{index}"] = ram
            write_port, read_port = ram.write_port(), ram.read_port()
            m.d.comb += [
                write_port.addr.eq(address),
                write_port.en.eq(writing & columns[index] & ~refused),
                read_port.addr.eq(self.read_address),
                read_port.en.eq(self.read_enable),
            ]
            for lane in range(config.elements):
                word_lane = index * config.elements + lane
                m.d.comb += write_port.data[lane].eq(lanes[word_lane])
                m.d.sync += self.read_data[word_lane].eq(read_port.data[lane])
        m.d.sync += [
            self.range_error.valid.eq(beyond_write | beyond_read),
            self.range_error.payload.eq(Mux(beyond_write, write.payload.address, self.read_address)),
        ]
        return m
