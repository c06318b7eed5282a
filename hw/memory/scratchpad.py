"""Scratchpad: activations on chip, written by columns, read as whole words on two ports."""

from __future__ import annotations

from amaranth.hdl import Assert, Cat, Format, Module, Mux, ResetSignal, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from hw.blocks.pipeline import delay
from hw.config import AcceleratorConfig
from hw.interfaces.memory import MEMORY_LATENCY, lanes_layout, scratch_write_layout
from hw.interfaces.strobe import Strobe
from hw.memory.rows import Port, large_memory, report_beyond


class Scratchpad(wiring.Component):
    """``scratchpad_words`` words of T lanes of A bits: one true-dual-port memory for each column of P lanes.

    ::

        write ─┬─► port A (write, or load when there is no write) ──► load_data
        load ──┘
        broadcast ─► port B (read) ─────────────────────────────────► broadcast_data

    Parameters
    ----------
    config:
        Sizes; P lanes a column, ``config.columns`` columns.

    Members
    -------
    write: In(Strobe(scratch_write))
        Writes the columns of the mask; has priority over ``load``.
    load: In(stream of 16-bit word addresses)
        Reads on the write port: ``ready`` whenever nothing is written.
    load_data: Out(Strobe(lanes))
        Words asked for by ``load``, in order, MEMORY_LATENCY after acceptance; cannot be held up.
    broadcast_enable, broadcast_address: In
        Reads on the other port, every cycle if need be.
    broadcast_data: Out(lanes)
        The word, MEMORY_LATENCY later.
    range_error: Out(Strobe(16))
        An address beyond the last word, BEYOND_LATENCY after its use. Such a write is dropped, such a read returns any
        data. Of two in one cycle, port A's is reported.

    Timing: one write or load and one broadcast a cycle. A word must not be broadcast in the cycle in which it is
    written (asserted); from the next cycle on the new lanes are read.
    Resources: ``scratchpad_words * T * A`` bits of block RAM, with registers around it (``hw.memory.rows``).
    """

    LATENCY = MEMORY_LATENCY

    def __init__(self, config: AcceleratorConfig) -> None:
        self._config = config
        super().__init__(
            {
                "write": In(Strobe(scratch_write_layout(config))),
                "load": In(stream.Signature(16)),
                "load_data": Out(Strobe(lanes_layout(config))),
                "broadcast_enable": In(1),
                "broadcast_address": In(16),
                "broadcast_data": Out(lanes_layout(config)),
                "range_error": Out(Strobe(16)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        config = self._config
        words = config.scratchpad_words
        write, load = self.write, self.load
        m.d.comb += load.ready.eq(~write.valid)
        loads = Signal()
        m.d.comb += loads.eq(load.valid & ~write.valid)
        address, column = Signal(16), data.ArrayLayout(lanes_layout(config).elem_shape, config.elements)
        m.d.comb += address.eq(Mux(write.valid, write.payload.address, load.payload))

        port_a = Port(
            name="shared",
            address=address,
            columns=Mux(write.valid, write.payload.columns, 0),
            data=write.payload.data.as_value(),
            read=loads,
        )
        port_b = Port(name="broadcast", address=self.broadcast_address, read=self.broadcast_enable)
        loaded, shown = large_memory(
            m, platform, words=words, column=column, columns=config.columns, ports=(port_a, port_b)
        )
        m.d.comb += [
            self.load_data.payload.as_value().eq(Cat(loaded)),
            self.broadcast_data.as_value().eq(Cat(shown)),
            self.load_data.valid.eq(delay(m, loads, self.LATENCY, name="loads")),
        ]

        report_beyond(
            m,
            self.range_error,
            words,
            (write.valid | load.valid, address),
            (self.broadcast_enable, self.broadcast_address),
        )
        collision = write.valid & self.broadcast_enable & (write.payload.address == self.broadcast_address)
        with m.If(collision & write.payload.columns.any() & ~ResetSignal()):
            m.d.sync += Assert(0, Format("scratchpad word {} is written and broadcast at once", self.broadcast_address))
        return m
