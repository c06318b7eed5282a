"""Memory beats to the weight stream's chunks."""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from tessera.hw.config import AcceleratorConfig


class Gearbox(wiring.Component):
    """Joins ``chunk_bytes / memory_bytes`` beats into a chunk, the first beat in the low bytes.

    Parameters
    ----------
    config:
        Sizes of the machine.

    Members
    -------
    beat: In(stream), chunk: Out(stream)
        Raw bytes.

    Timing: a chunk leaves one cycle after its last beat; one beat per cycle.
    """

    LATENCY = 1

    def __init__(self, config: AcceleratorConfig) -> None:
        self._ratio = config.chunk_bytes // config.memory_bytes
        super().__init__(
            {
                "beat": In(stream.Signature(8 * config.memory_bytes)),
                "chunk": Out(stream.Signature(8 * config.chunk_bytes)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Build a shift register of beats: no beat needs a multiplexer for its place."""
        m = Module()
        count = Signal(range(max(2, self._ratio)))
        kept = self.chunk.payload[len(self.beat.payload) :]
        m.d.comb += self.beat.ready.eq(~self.chunk.valid | self.chunk.ready)
        with m.If(self.chunk.ready):
            m.d.sync += self.chunk.valid.eq(0)
        with m.If(self.beat.valid & self.beat.ready):
            m.d.sync += [self.chunk.payload.eq(Cat(kept, self.beat.payload)), count.eq(count + 1)]
            with m.If(count == self._ratio - 1):
                m.d.sync += [self.chunk.valid.eq(1), count.eq(0)]
        return m
