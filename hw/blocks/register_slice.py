"""Places of a stream in registers, where neither side sees the other in the same cycle: RegisterSlice, HalfSlice."""

from __future__ import annotations

from amaranth.hdl import Module, Mux, ShapeLike, Signal
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

    Timing: latency 1 cycle, a transfer a cycle. Resources: the payload twice.
    """

    LATENCY = 1

    def __init__(self, payload: ShapeLike) -> None:
        super().__init__({"source": In(stream.Signature(payload)), "target": Out(stream.Signature(payload))})

    def elaborate(self, platform: object) -> Module:
        """What comes while the target holds still waits in the second place; then the source has to wait, too."""
        m = Module()
        source, target = self.source, self.target
        waiting, second = Signal(), Signal.like(source.payload)
        m.d.comb += source.ready.eq(~waiting)
        with m.If(~target.valid | target.ready):
            m.d.sync += [target.valid.eq(waiting | source.valid), waiting.eq(0)]
            with m.If(waiting):
                m.d.sync += target.payload.eq(second)
            with m.Else():
                m.d.sync += target.payload.eq(source.payload)
        with m.Elif(source.valid):
            m.d.sync += waiting.eq(1)
        with m.If(~waiting):
            m.d.sync += second.eq(source.payload)
        return m


class HalfSlice(RegisterSlice):
    """With one place only: half the registers, which load while they are empty, whatever the target does.

    Timing: latency 1 cycle, a transfer every other cycle. Resources: the payload once.
    """

    def elaborate(self, platform: object) -> Module:
        """Load while there is nothing; then wait."""
        m = Module()
        source, target = self.source, self.target
        m.d.comb += source.ready.eq(~target.valid)
        m.d.sync += target.valid.eq(Mux(target.valid, ~target.ready, source.valid))
        with m.If(~target.valid):
            m.d.sync += target.payload.eq(source.payload)
        return m
