"""RegisterSlice: one place of a stream in registers, where neither side sees the other in the same cycle."""

from __future__ import annotations

from amaranth.hdl import Module, ShapeLike, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out


class RegisterSlice(wiring.Component):
    """Passes a stream on, with ``valid``, ``payload`` and ``ready`` all taken from registers.

    Parameters
    ----------
    payload:
        Shape of the payload.

    Members
    -------
    source, target:
        The stream, before and behind.

    Timing: latency 1 cycle, a transfer every second cycle.
    """

    LATENCY = 1

    def __init__(self, payload: ShapeLike) -> None:
        super().__init__({"source": In(stream.Signature(payload)), "target": Out(stream.Signature(payload))})

    def elaborate(self, platform: object) -> Module:
        """Fill when empty, empty when full."""
        m = Module()
        full = Signal()
        m.d.comb += [self.source.ready.eq(~full), self.target.valid.eq(full)]
        with m.If(full):
            m.d.sync += full.eq(~self.target.ready)
        with m.Else():
            m.d.sync += [full.eq(self.source.valid), self.target.payload.eq(self.source.payload)]
        return m
