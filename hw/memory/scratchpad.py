"""Scratchpad: activations on chip, written by columns, read as whole words on two ports."""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from tessera.hw.blocks.checks import check
from tessera.hw.blocks.pipeline import delay
from tessera.hw.config import AcceleratorConfig
from tessera.hw.interfaces.memory import MEMORY_LATENCY, lanes_layout, scratch_write_layout
from tessera.hw.interfaces.strobe import Strobe
from tessera.hw.isa import ADDRESS_WIDTH
from tessera.hw.memory.rows import Port, large_memory, report_beyond


class Scratchpad(wiring.Component):
    """``scratchpad_words`` words of T lanes of A bits: one true-dual-port memory per column of P lanes.

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
    load: In(stream(ADDRESS_WIDTH))
        Addresses of words to read on the write port. It is ``ready`` whenever nothing is written.
    load_data: Out(Strobe(lanes))
        The words of ``load`` in order, MEMORY_LATENCY cycles after acceptance. They cannot be held up.
    broadcast: In(Strobe(ADDRESS_WIDTH))
        Address of a word to read on the other port, as often as every cycle.
    broadcast_data: Out(lanes)
        The word, MEMORY_LATENCY cycles later.
    range_error: Out(Strobe(ADDRESS_WIDTH))
        An address beyond the last word, BEYOND_LATENCY cycles after its use. Such a write is dropped. Such a read
        returns any data. If a cycle has two, port A's is reported.

    Timing: one write or load and one broadcast per cycle. A word must not be broadcast in the cycle in which it is
    written (asserted). From the next cycle on the new lanes are read.
    Resources: ``scratchpad_words * T * A`` bits of block RAM, with registers around it (``tessera.hw.memory.rows``).
    """

    LATENCY = MEMORY_LATENCY

    def __init__(self, config: AcceleratorConfig) -> None:
        self._config = config
        super().__init__(
            {
                "write": In(Strobe(scratch_write_layout(config))),
                "load": In(stream.Signature(ADDRESS_WIDTH)),
                "load_data": Out(Strobe(lanes_layout(config))),
                "broadcast": In(Strobe(ADDRESS_WIDTH)),
                "broadcast_data": Out(lanes_layout(config)),
                "range_error": Out(Strobe(ADDRESS_WIDTH)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config = self._config
        words = config.scratchpad_words
        write, load, broadcast = self.write, self.load, self.broadcast
        column = data.ArrayLayout(lanes_layout(config).elem_shape, config.elements)
        # Writers cannot wait for the loader of held rows, but it can wait for them.
        address, loads = Signal(ADDRESS_WIDTH), Signal()
        m.d.comb += [
            load.ready.eq(~write.valid),
            loads.eq(load.valid & ~write.valid),
            address.eq(Mux(write.valid, write.payload.address, load.payload)),
        ]

        port_a = Port(
            name="shared",
            address=address,
            columns=Mux(write.valid, write.payload.columns, 0),
            data=write.payload.data.as_value(),
            read=loads,
        )
        port_b = Port(name="broadcast", address=broadcast.payload, read=broadcast.valid)
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
            (broadcast.valid, broadcast.payload),
        )
        collides = (write.payload.address == broadcast.payload) & write.payload.columns.any()
        message = "scratchpad word {} is written and broadcast at once"
        check(m, write.valid & broadcast.valid, ~collides, message, broadcast.payload)
        return m
