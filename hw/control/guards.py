"""Guards: limits to the units that touch memory, and errors from every unit, across the chip in registers."""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from tessera.hw.interfaces.errors import Guard, error_record_layout, window_layout
from tessera.hw.interfaces.strobe import Strobe


class Guards(wiring.Component):
    """Hands limits out and collects errors.

    Parameters
    ----------
    guards:
        Number of units that touch memory.
    errors:
        Number of other units that report errors.

    Members
    -------
    window, halt:
        What the units obey; see :class:`tessera.hw.interfaces.errors.Guard`.
    guard, error:
        The units.
    quiescent:
        All units that touch memory are quiescent.
    first:
        An error ``LATENCY`` cycles after it was reported. Of several in one cycle it is the first one, in the order of
        ``guard``, then ``error``.

    Timing: ``halt`` reaches the units ``LATENCY`` cycles later.
    """

    LATENCY = 1

    def __init__(self, guards: int, errors: int) -> None:
        super().__init__(
            {
                "window": In(window_layout()),
                "halt": In(1),
                "guard": Out(Guard()).array(guards),
                "error": In(Strobe(error_record_layout())).array(errors),
                "quiescent": Out(1),
                "first": Out(Strobe(error_record_layout())),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """One register each way, because an error stops the whole machine and its units stand far apart."""
        m = Module()
        for guard in self.guard:
            m.d.comb += guard.window.eq(self.window)
            m.d.sync += guard.halt.eq(self.halt)
        m.d.comb += self.quiescent.eq(Cat(guard.quiescent for guard in self.guard).all())
        kept = []
        for index, source in enumerate((*(guard.error for guard in self.guard), *self.error)):
            kept.append((Signal(name=f"reported_{index}"), Signal.like(source.payload, name=f"record_{index}")))
            m.d.sync += [kept[-1][0].eq(source.valid), kept[-1][1].eq(source.payload)]
        first = kept[-1][1].as_value()
        for valid, record in reversed(kept[:-1]):
            first = Mux(valid, record.as_value(), first)
        m.d.comb += [self.first.valid.eq(Cat(valid for valid, _ in kept).any()), self.first.payload.eq(first)]
        return m
