"""ResidualUpdate: read, add, saturate and write back one column of the residual stream."""

from __future__ import annotations

from amaranth.hdl import Array, Assert, Format, Module, Mux, ResetSignal, Signal, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from hw.blocks.arithmetic import exceeds, saturate
from hw.blocks.pipeline import delay
from hw.compute.assembler import GroupAssembler
from hw.config import AcceleratorConfig
from hw.interfaces.memory import RESIDUAL_LATENCY, residual_lanes_layout, residual_write_layout
from hw.interfaces.strobe import Strobe

_READ = max(1, GroupAssembler.LATENCY - RESIDUAL_LATENCY)
"""Cycles from a request to its read, which leaves from a register."""
_MEET = _READ + RESIDUAL_LATENCY
"""Cycles from a request to the one in which old and new values are added."""


class ResidualUpdate(wiring.Component):
    """``new = saturate(old + value)`` or ``new = value`` for one column of P lanes.

    Parameters
    ----------
    config:
        Sizes.

    Members
    -------
    request: In(Strobe)
        Column ``column`` of word ``address``; ``add``: to what is there, else it is replaced. A column must not be
        added to while an earlier write to it is on its way, that is within LATENCY - 1 cycles (asserted).
    values: In(ArrayLayout(signed(residual_width), P))
        What to add or write, GroupAssembler.LATENCY after the request.
    read_enable, read_address: Out; read_data: In
        Read port of the residual memory.
    write: Out(Strobe(residual_write))
        The new column, LATENCY after the request.
    saturated: Out(1)
        1 with a write in which a sum was clipped.

    Timing: LATENCY cycles, initiation interval 1.
    """

    LATENCY = _MEET + 2

    def __init__(self, config: AcceleratorConfig) -> None:
        self._config = config
        self._request = data.StructLayout({"add": 1, "address": 16, "column": range(max(2, config.columns))})
        self._shape = signed(config.numerics.residual_width)
        super().__init__(
            {
                "request": In(Strobe(self._request)),
                "values": In(data.ArrayLayout(self._shape, config.elements)),
                "read_enable": Out(1),
                "read_address": Out(16),
                "read_data": In(residual_lanes_layout(config)),
                "write": Out(Strobe(residual_write_layout(config))),
                "saturated": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        config, request = self._config, self.request
        stages, valids = [request.payload], [request.valid]
        for stage in range(1, self.LATENCY + 1):
            bits = delay(m, stages[-1].as_value(), 1, name=f"request_{stage}")
            stages.append(data.View(self._request, bits))
            valids.append(delay(m, valids[-1], 1, name=f"valid_{stage}"))
        m.d.comb += [
            self.read_enable.eq(valids[_READ] & stages[_READ].add),
            self.read_address.eq(stages[_READ].address),
        ]

        meet = stages[_MEET]
        values = delay(m, self.values, _MEET - GroupAssembler.LATENCY, name="values")
        write, end = self.write, stages[-1]
        m.d.comb += [
            write.valid.eq(valids[-1]),
            write.payload.address.eq(end.address),
            write.payload.columns.eq(1 << end.column),
        ]
        clipped = Signal(config.elements)
        m.d.sync += self.saturated.eq(clipped.any() & valids[-2])
        for lane in range(config.elements):
            old = Array(self.read_data[column * config.elements + lane] for column in range(config.columns))
            addend = Mux(meet.add, old[meet.column], 0)
            total = Signal((values[lane] + addend).shape(), name=f"total_{lane}")
            new = Signal(self._shape, name=f"new_{lane}")
            m.d.sync += [total.eq(values[lane] + addend), new.eq(saturate(total, config.numerics.residual))]
            m.d.comb += clipped[lane].eq(exceeds(total, config.numerics.residual))
            for column in range(config.columns):
                m.d.comb += write.payload.data[column * config.elements + lane].eq(new)

        for stage in range(1, self.LATENCY - _READ + 1):
            same = (stages[stage].address == request.payload.address) & (stages[stage].column == request.payload.column)
            with m.If(request.valid & request.payload.add & valids[stage] & same & ~ResetSignal()):
                m.d.sync += Assert(0, Format("residual word {} is added to before it is written", end.address))
        return m
