"""RegisterSlice and HalfSlice: registers in a stream, across which no signal passes within a cycle."""

from __future__ import annotations

from amaranth.hdl import Module, Mux, ShapeLike, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out


class RegisterSlice(wiring.Component):
    """Passes a stream on. ``valid``, ``payload`` and ``ready`` all come from registers.

    Parameters
    ----------
    payload:
        Shape of the payload.

    Members
    -------
    source: In(stream), target: Out(stream)
        The stream, before and behind.

    Timing: latency 1 cycle, one transfer per cycle. Resources: the payload twice.
    """

    LATENCY = 1

    def __init__(self, payload: ShapeLike) -> None:
        super().__init__({"source": In(stream.Signature(payload)), "target": Out(stream.Signature(payload))})

    def elaborate(self, platform: object) -> Module:
        """A payload that comes while the target holds still waits in a second place; then the source waits, too."""
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
        # The second place follows the source until it is needed: it then holds what came last.
        with m.If(~waiting):
            m.d.sync += second.eq(source.payload)
        return m


class HalfSlice(RegisterSlice):
    """A slice with one place only. It loads while it is empty, whatever the target does.

    Timing: latency 1 cycle, one transfer every other cycle. Resources: the payload once.
    """

    def elaborate(self, platform: object) -> Module:
        """Load while the place is empty; then wait for the target."""
        m = Module()
        source, target = self.source, self.target
        m.d.comb += source.ready.eq(~target.valid)
        m.d.sync += target.valid.eq(Mux(target.valid, ~target.ready, source.valid))
        with m.If(~target.valid):
            m.d.sync += target.payload.eq(source.payload)
        return m
