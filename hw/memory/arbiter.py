"""WriteArbiter: one write port of a memory for write-back, which cannot wait, and for units that can."""

from __future__ import annotations

from amaranth.hdl import Module, ShapeLike
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
        """A chain of priorities."""
        m = Module()
        m.d.comb += [
            self.write.valid.eq(self.urgent.valid),
            self.write.payload.eq(self.urgent.payload),
            self.writer.eq(self.urgent_place),
        ]
        free = ~self.urgent.valid
        for source, where in zip(self.waiting, self.waiting_place, strict=True):
            m.d.comb += source.ready.eq(free)
            with m.If(free & source.valid):
                m.d.comb += [
                    self.write.valid.eq(1),
                    self.write.payload.eq(source.payload),
                    self.writer.eq(where),
                ]
            free = free & ~source.valid
        return m
