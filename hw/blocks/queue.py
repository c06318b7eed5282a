"""Queue: a first-in, first-out buffer between two streams."""

from __future__ import annotations

from amaranth.hdl import Module, Shape, ShapeLike
from amaranth.lib import stream, wiring
from amaranth.lib.fifo import SyncFIFO, SyncFIFOBuffered
from amaranth.lib.wiring import In, Out


class Queue(wiring.Component):
    """Holds up to ``depth`` payloads between a source and a target.

    Parameters
    ----------
    shape:
        Shape of a payload.
    depth:
        Places.
    buffered:
        A register behind the memory: suits block RAM, costs a cycle of latency. Without it the memory is read without
        a clock, which needs look-up tables.

    Members
    -------
    source: In(stream), target: Out(stream)
        The stream, before and behind.
    level: Out(range(depth + 1))
        Payloads held.

    Timing: a payload leaves one cycle after it came, two cycles if ``buffered``; one payload per cycle.
    """

    def __init__(self, shape: ShapeLike, depth: int, *, buffered: bool = False) -> None:
        self._shape = shape
        self._depth = depth
        self._buffered = buffered
        super().__init__(
            {
                "source": In(stream.Signature(shape)),
                "target": Out(stream.Signature(shape)),
                "level": Out(range(depth + 1)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Amaranth's queue between the two streams."""
        m = Module()
        make = SyncFIFOBuffered if self._buffered else SyncFIFO
        source, target = self.source, self.target
        m.submodules.places = places = make(width=Shape.cast(self._shape).width, depth=self._depth)
        m.d.comb += [
            places.w_data.eq(source.payload),
            places.w_en.eq(source.valid),
            source.ready.eq(places.w_rdy),
            target.payload.eq(places.r_data),
            target.valid.eq(places.r_rdy),
            places.r_en.eq(target.ready),
            self.level.eq(places.level),
        ]
        return m
