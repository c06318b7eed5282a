"""Scratchpad: activations on chip, written by columns, read as whole words on two ports."""

from __future__ import annotations

from amaranth.hdl import Assert, Format, Module, Mux, ResetSignal, Signal
from amaranth.lib import data, memory, stream, wiring
from amaranth.lib.wiring import In, Out

from hw.config import AcceleratorConfig
from hw.interfaces import MEMORY_LATENCY, Strobe, lanes, scratch_write


class Scratchpad(wiring.Component):
    """``scratchpad_words`` words of T lanes of A bits: one true-dual-port memory for each column of P lanes.

    ::

        write ─┬─► port A (write, or load when there is no write) ──► register ──► load_data
        load ──┘
        broadcast ─► port B (read) ─────────────────────────────────► register ──► broadcast_data

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
        An address beyond the last word, one cycle after its use. Such a write is dropped, such a read returns any
        data. Of two in one cycle, port A's is reported.

    Timing: one write or load and one broadcast a cycle. A word must not be broadcast in the cycle in which it is
    written (asserted); from the next cycle on the new lanes are read.
    Resources: ``scratchpad_words * T * A`` bits of block RAM.
    """

    LATENCY = MEMORY_LATENCY

    def __init__(self, config: AcceleratorConfig) -> None:
        self._config = config
        super().__init__(
            {
                "write": In(Strobe(scratch_write(config))),
                "load": In(stream.Signature(16)),
                "load_data": Out(Strobe(lanes(config))),
                "broadcast_enable": In(1),
                "broadcast_address": In(16),
                "broadcast_data": Out(lanes(config)),
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
        address = Signal(16)
        m.d.comb += address.eq(Mux(write.valid, write.payload.address, load.payload))

        for index in range(config.columns):
            column = data.ArrayLayout(lanes(config).elem_shape, config.elements)
            ram = memory.Memory(shape=column, depth=words, init=[])
            m.submodules[f"column_{index}"] = ram
            port_a_write, port_a_read, port_b = ram.write_port(), ram.read_port(), ram.read_port()
            m.d.comb += [
                # Both halves of port A share one address signal, so that they share one port of the block RAM.
                port_a_write.addr.eq(address),
                port_a_read.addr.eq(address),
                port_a_write.en.eq(write.valid & write.payload.columns[index] & (write.payload.address < words)),
                port_a_read.en.eq(loads),
                port_b.addr.eq(self.broadcast_address),
                port_b.en.eq(self.broadcast_enable),
            ]
            for lane in range(config.elements):
                word_lane = index * config.elements + lane
                m.d.comb += port_a_write.data[lane].eq(write.payload.data[word_lane])
                m.d.sync += [
                    self.load_data.payload[word_lane].eq(port_a_read.data[lane]),
                    self.broadcast_data[word_lane].eq(port_b.data[lane]),
                ]
        loaded = Signal()
        m.d.sync += [loaded.eq(loads), self.load_data.valid.eq(loaded)]

        beyond_a, beyond_b = Signal(), Signal()
        m.d.comb += [
            beyond_a.eq((write.valid | load.valid) & (address >= words)),
            beyond_b.eq(self.broadcast_enable & (self.broadcast_address >= words)),
        ]
        m.d.sync += [
            self.range_error.valid.eq(beyond_a | beyond_b),
            self.range_error.payload.eq(Mux(beyond_a, address, self.broadcast_address)),
        ]
        collision = write.valid & self.broadcast_enable & (write.payload.address == self.broadcast_address)
        with m.If(collision & write.payload.columns.any() & ~ResetSignal()):
            m.d.sync += Assert(0, Format("scratchpad word {} is written and broadcast at once", self.broadcast_address))
        return m
