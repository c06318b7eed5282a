"""WriteArbiter: one write port of a memory for write-back, which cannot wait, and for units that can."""

from __future__ import annotations

from amaranth.hdl import Cat, Const, Module, Mux, ShapeLike, Signal, Value
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from hw.config import AcceleratorConfig
from hw.interfaces import Strobe, place


class WriteArbiter(wiring.Component):
    """Passes on the urgent write of a cycle, else that of the first patient source that has one.

    Parameters
    ----------
    config:
        Sizes of the machine.
    payload:
        The memory's write.
    patient:
        Number of sources that can wait, in order of priority.

    Members
    -------
    urgent: In(Strobe), waiting: In(stream) for each patient source
        Writes.
    urgent_place, waiting_place: In(place)
        Where each source is in the program.
    write: Out(Strobe), writer: Out(place)
        The write, and whose it is.

    Timing: an urgent write passes at once, and a patient source's in every cycle without one, from the cycle on after
    the one in which it was the first with a write. So which of them it is comes from a register beside the multiplexer:
    units that stand far apart tell no more than that they have a write.
    """

    def __init__(self, config: AcceleratorConfig, payload: ShapeLike, patient: int) -> None:
        super().__init__(
            {
                "urgent": In(Strobe(payload)),
                "urgent_place": In(place(config)),
                "waiting": In(stream.Signature(payload)).array(patient),
                "waiting_place": In(place(config)).array(patient),
                "write": Out(Strobe(payload)),
                "writer": Out(place(config)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Take from the patient source that was first a cycle ago; what is passed on without a write is any."""
        m = Module()
        sources = list(zip(self.waiting, self.waiting_place, strict=True))
        taken: Value = Const(1)
        if len(sources) > 1:
            taken = Signal(len(sources), init=1, name="taken")
            wanted = Cat(source.valid for source, _ in sources)
            with m.If(wanted.any()):
                m.d.sync += taken.eq(wanted & -wanted)
        m.d.comb += self.write.valid.eq(self.urgent.valid | (taken & Cat(s.valid for s, _ in sources)).any())
        payload, writer = sources[-1][0].payload.as_value(), sources[-1][1].as_value()
        for (source, where), chosen in zip(sources, taken, strict=True):
            m.d.comb += source.ready.eq(chosen & ~self.urgent.valid)
            payload = Mux(chosen, source.payload.as_value(), payload)
            writer = Mux(chosen, where.as_value(), writer)
        m.d.comb += [
            self.write.payload.eq(Mux(self.urgent.valid, self.urgent.payload.as_value(), payload)),
            self.writer.eq(Mux(self.urgent.valid, self.urgent_place.as_value(), writer)),
        ]
        return m
