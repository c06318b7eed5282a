"""ResidualUpdate: read, add, saturate and write back one column of the residual stream."""

from __future__ import annotations

from amaranth.hdl import Module, Mux, Signal, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from tessera.hw.blocks.arithmetic import exceeds, pick, saturate
from tessera.hw.blocks.checks import check
from tessera.hw.blocks.fields import assign
from tessera.hw.blocks.pipeline import delay
from tessera.hw.compute.assembler import GroupAssembler
from tessera.hw.config import AcceleratorConfig
from tessera.hw.interfaces.compute import residual_request_layout, values_layout
from tessera.hw.interfaces.memory import RESIDUAL_LATENCY, residual_read, residual_write_layout
from tessera.hw.interfaces.strobe import Strobe

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
    request: In(Strobe(residual_request))
        Column to change. A column must not be added to while an earlier write to it is on its way, that is within
        LATENCY - 1 cycles (asserted).
    values: In(values)
        Values to add or write, GroupAssembler.LATENCY cycles after the request.
    read: Out(MemoryRead)
        Read port of the residual memory.
    write: Out(Strobe(residual_write))
        The new column, LATENCY cycles after the request.
    saturated: Out(1)
        1 with a write in which a sum was clipped.

    Timing: LATENCY cycles, initiation interval 1.
    """

    LATENCY = _MEET + 2

    def __init__(self, config: AcceleratorConfig) -> None:
        self._config = config
        self._shape = signed(config.numerics.residual_width)
        super().__init__(
            {
                "request": In(Strobe(residual_request_layout(config))),
                "values": In(values_layout(config)),
                "read": Out(residual_read(config)),
                "write": Out(Strobe(residual_write_layout(config))),
                "saturated": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config, request = self._config, self.request
        # The request goes along with its column: it is read at stage _READ, meets its values at _MEET, and is written.
        stages, valids = [request.payload], [request.valid]
        for stage in range(1, self.LATENCY + 1):
            bits = delay(m, stages[-1].as_value(), 1, name=f"request_{stage}")
            stages.append(data.View(request.payload.shape(), bits))
            valids.append(delay(m, valids[-1], 1, name=f"valid_{stage}"))
        m.d.comb += [
            self.read.enable.eq(valids[_READ] & stages[_READ].add),
            self.read.address.eq(stages[_READ].address),
        ]

        meet = stages[_MEET]
        values = delay(m, self.values, _MEET - GroupAssembler.LATENCY, name="values")
        write, end = self.write, stages[-1]
        m.d.comb += write.valid.eq(valids[-1])
        clipped, sums = Signal(config.elements), []
        m.d.sync += self.saturated.eq(clipped.any() & valids[-2])
        for lane in range(config.elements):
            columns = (self.read.data[column * config.elements + lane] for column in range(config.columns))
            addend = Mux(meet.add, pick(columns, meet.column), 0)
            # The sum has a stage for itself, its saturation the next.
            total = Signal((values[lane] + addend).shape(), name=f"total_{lane}")
            new = Signal(self._shape, name=f"new_{lane}")
            m.d.sync += [total.eq(values[lane] + addend), new.eq(saturate(total, config.numerics.residual))]
            m.d.comb += clipped[lane].eq(exceeds(total, config.numerics.residual))
            sums.append(new)
        columns_written = 1 << end.column
        m.d.comb += assign(write.payload, address=end.address, columns=columns_written, data=sums * config.columns)

        # A read sees the writes of earlier cycles only, and there is no path around the memory.
        for stage in range(1, self.LATENCY - _READ + 1):
            same = (stages[stage].address == request.payload.address) & (stages[stage].column == request.payload.column)
            under_way = valids[stage] & same
            adds = request.valid & request.payload.add
            check(m, adds, ~under_way, "residual word {} is added to before it is written", request.payload.address)
        return m
