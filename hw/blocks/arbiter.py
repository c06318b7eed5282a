"""WriteArbiter: one write port of a memory, for write-back, which cannot wait, and for units that can."""

from __future__ import annotations

from amaranth.hdl import Module, Mux, ShapeLike, Value
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from tessera.hw.config import AcceleratorConfig
from tessera.hw.interfaces.jobs import place_layout
from tessera.hw.interfaces.strobe import Strobe


class WriteArbiter(wiring.Component):
    """Passes on the urgent write of a cycle, else the write of the first patient source that has one.

    Parameters
    ----------
    config:
        Sizes of the machine.
    payload:
        Layout of the memory's write.
    patient:
        Number of sources that can wait, in order of priority.
    registered:
        Put a register behind the choice, because many sources stand far from the memory. It costs one cycle.

    Members
    -------
    urgent: In(Strobe), waiting: In(stream) per patient source
        Writes of the sources.
    urgent_place, waiting_place: In(place)
        Where each source is in the program.
    write: Out(Strobe), writer: Out(Strobe(place))
        The write that is passed on, and with it the place of its source.
    """

    def __init__(
        self, config: AcceleratorConfig, payload: ShapeLike, patient: int, *, registered: bool = False
    ) -> None:
        self._registered = registered
        super().__init__(
            {
                "urgent": In(Strobe(payload)),
                "urgent_place": In(place_layout(config)),
                "waiting": In(stream.Signature(payload)).array(patient),
                "waiting_place": In(place_layout(config)).array(patient),
                "write": Out(Strobe(payload)),
                "writer": Out(Strobe(place_layout(config))),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """A chain of priorities. Without a valid write any payload is passed on, which saves a condition."""
        m = Module()
        urgent, *waiting = (self.urgent, self.urgent_place), *zip(self.waiting, self.waiting_place, strict=True)
        # `ready` depends only on valid bits, so that payloads may come late in the cycle.
        free: Value = ~self.urgent.valid
        for source, _ in waiting:
            m.d.comb += source.ready.eq(free)
            free = free & ~source.valid
        payload, writer = waiting[-1][0].payload.as_value(), waiting[-1][1].as_value()
        for source, where in (*reversed(waiting[:-1]), urgent):
            payload = Mux(source.valid, source.payload.as_value(), payload)
            writer = Mux(source.valid, where.as_value(), writer)
        domain = m.d.sync if self._registered else m.d.comb
        domain += [self.write.valid.eq(~free), self.write.payload.eq(payload), self.writer.payload.eq(writer)]
        m.d.comb += self.writer.valid.eq(self.write.valid)
        return m
