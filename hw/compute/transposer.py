"""Transposer: attention outputs, which come channel by channel for P queries, to words of T channels for each query."""

from __future__ import annotations

from amaranth.hdl import Assert, Cat, Format, Module, ResetSignal, Signal, unsigned
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from hw.config import AcceleratorConfig
from hw.interfaces.memory import scratch_write_layout
from hw.interfaces.strobe import Strobe


class Transposer(wiring.Component):
    """Two sets of P x T lane registers: one collects channels while the other writes finished rows.

    Parameters
    ----------
    config:
        Sizes.

    Members
    -------
    channel: In(Strobe)
        ``data``: one activation of each of P queries, for the next of T consecutive channels. ``flush`` marks the last
        of them: the word of query 0 is ``address``, those of the next ones lie ``row_stride`` apart, and only ``rows``
        queries are written.
    write: Out(Strobe(scratch_write))
        One whole word a cycle, query 0 first, from the cycle after the flush on.
    busy: Out(1)
        1 from the cycle after a flush until the last of its words is shown on ``write``.

    Timing: a channel a cycle; flushes at least P cycles apart (asserted), which T channels always are.
    Resources: 2 P T A registers.
    """

    def __init__(self, config: AcceleratorConfig) -> None:
        self._config = config
        width = config.numerics.activation_width
        channel = data.StructLayout(
            {
                "data": data.ArrayLayout(unsigned(width), config.elements),
                "flush": 1,
                "rows": range(config.elements + 1),
                "address": 16,
                "row_stride": 16,
            }
        )
        super().__init__(
            {
                "channel": In(Strobe(channel)),
                "write": Out(Strobe(scratch_write_layout(config))),
                "busy": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        config = self._config
        channel, write = self.channel, self.write
        width = config.numerics.activation_width
        row = unsigned(config.lanes * width)
        collected = [Signal(row, name=f"collected_{query}") for query in range(config.elements)]
        finished = [Signal(row, name=f"finished_{query}") for query in range(config.elements)]
        remaining = Signal(range(config.elements + 1))
        address, row_stride = Signal(16), Signal(16)

        m.d.comb += [
            self.busy.eq(remaining != 0),
            write.valid.eq(remaining != 0),
            write.payload.address.eq(address),
            write.payload.columns.eq(~0),
            write.payload.data.eq(finished[0]),
        ]
        with m.If(remaining != 0):
            m.d.sync += [remaining.eq(remaining - 1), address.eq(address + row_stride)]
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
                    address.eq(channel.payload.address),
                    row_stride.eq(channel.payload.row_stride),
                ]
                with m.If(~ResetSignal()):
                    m.d.sync += Assert(remaining <= 1, Format("flush with {} rows still to be written", remaining))
        return m
