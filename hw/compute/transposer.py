"""Transposer: attention outputs, which come channel by channel for P queries, to words of T channels per query."""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Signal, unsigned
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from tessera.hw.blocks.checks import check
from tessera.hw.blocks.fields import assign
from tessera.hw.config import AcceleratorConfig
from tessera.hw.interfaces.compute import channel_layout
from tessera.hw.interfaces.memory import scratch_write_layout
from tessera.hw.interfaces.strobe import Strobe
from tessera.hw.isa import ADDRESS_WIDTH


class Transposer(wiring.Component):
    """Two sets of P x T lane registers: one collects channels while the other writes finished rows.

    Parameters
    ----------
    config:
        Sizes.

    Members
    -------
    channel: In(Strobe(channel))
        The next of T consecutive channels. With a flush, the last of them, the words of all T are written.
    write: Out(Strobe(scratch_write))
        One whole word per cycle, query 0 first, from the cycle after the flush on.
    busy: Out(1)
        1 from the cycle after a flush until the last of its words is shown on ``write``.

    Timing: one channel per cycle. Flushes are at least P cycles apart (asserted), because T is at least P.
    Resources: 2 P T A registers.
    """

    def __init__(self, config: AcceleratorConfig) -> None:
        self._config = config
        super().__init__(
            {
                "channel": In(Strobe(channel_layout(config))),
                "write": Out(Strobe(scratch_write_layout(config))),
                "busy": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config = self._config
        channel, write = self.channel, self.write
        width = config.numerics.activation_width
        row = unsigned(config.lanes * width)
        collected = [Signal(row, name=f"collected_{query}") for query in range(config.elements)]
        finished = [Signal(row, name=f"finished_{query}") for query in range(config.elements)]
        remaining = Signal(range(config.elements + 1))
        # Scratchpad word of the next finished row, and the words to the one after it.
        place = Signal(data.StructLayout({"address": ADDRESS_WIDTH, "row_stride": ADDRESS_WIDTH}))

        m.d.comb += [
            self.busy.eq(remaining != 0),
            write.valid.eq(remaining != 0),
            *assign(write.payload, address=place.address, columns=~0, data=finished[0]),
        ]
        # Finished rows move down by one place per word, so that the write needs no multiplexer of P words.
        with m.If(remaining != 0):
            m.d.sync += [remaining.eq(remaining - 1), place.address.eq(place.address + place.row_stride)]
            m.d.sync += [here.eq(above) for here, above in zip(finished[:-1], finished[1:], strict=True)]
        with m.If(channel.valid):
            for query in range(config.elements):
                shifted = Cat(collected[query][width:], channel.payload.data[query])
                m.d.sync += collected[query].eq(shifted)
                with m.If(channel.payload.flush):
                    m.d.sync += finished[query].eq(shifted)
            with m.If(channel.payload.flush):
                m.d.sync += [
                    remaining.eq(channel.payload.rows),
                    *assign(place, channel.payload),
                ]
                check(m, 1, remaining <= 1, "flush with {} rows still to be written", remaining)
        return m
