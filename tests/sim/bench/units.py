"""Small components with known behaviour, on which the simulation tools are tested."""

from amaranth.hdl import Assert, Format, Module, signed, unsigned
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out


class Scale(wiring.Component):
    """Multiply signed 8-bit lanes by a signed factor, through one register with backpressure.

    Members: ``i`` and ``o`` streams of structures with ``lanes`` and a ``last`` flag; ``factor`` signed 9 bits, which
    must not be -256. Timing: latency 1 cycle, initiation interval 1.
    """

    LATENCY = 1

    def __init__(self, lanes: int) -> None:
        beat = data.StructLayout({"lanes": data.ArrayLayout(signed(8), lanes), "last": unsigned(1)})
        result = data.StructLayout({"lanes": data.ArrayLayout(signed(17), lanes), "last": unsigned(1)})
        super().__init__(
            {
                "i": In(stream.Signature(beat)),
                "o": Out(stream.Signature(result)),
                "factor": In(signed(9)),
            }
        )

    def elaborate(self, platform):
        """Build the multipliers and their output register."""
        m = Module()
        m.d.comb += self.i.ready.eq(~self.o.valid | self.o.ready)
        with m.If(self.i.ready):
            m.d.sync += [self.o.valid.eq(self.i.valid), self.o.payload.last.eq(self.i.payload.last)]
            for source, target in zip(self.i.payload.lanes, self.o.payload.lanes, strict=True):
                m.d.sync += target.eq(source * self.factor)
        with m.If(self.i.valid):
            m.d.sync += Assert(self.factor != -256, Format("factor {} overflows", self.factor))
        return m


class Minimum(wiring.Component):
    """Return the smaller of two signed numbers, without any register."""

    a: In(signed(5))
    b: In(signed(5))
    y: Out(signed(5))

    def elaborate(self, platform):
        """Build one comparison."""
        m = Module()
        with m.If(self.a < self.b):
            m.d.comb += self.y.eq(self.a)
        with m.Else():
            m.d.comb += self.y.eq(self.b)
        return m
