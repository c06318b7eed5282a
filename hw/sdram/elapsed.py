"""Elapsed: how many cycles ago an event was."""

from __future__ import annotations

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value


class Elapsed:
    """A row of flip-flops through which ones advance after an event. Flip-flop n tells whether n cycles have passed.

    Minimum distances between commands are a few cycles each, so the row is short, and a flip-flop answers without
    logic. At reset the event is long ago.

    Parameters
    ----------
    m:
        Module that the flip-flops are part of.
    event:
        1 in the cycle of the event.
    cycles:
        Largest number that :meth:`reached` will be asked for.
    name:
        Name of the flip-flops.
    """

    def __init__(self, m: Module, event: Value, cycles: int, name: str) -> None:
        self._ones = Signal(max(1, cycles - 1), init=-1, name=name)
        m.d.sync += self._ones.eq(Mux(event, 0, Cat(1, self._ones)))

    def reached(self, cycles: int) -> Value:
        """Whether the latest event was ``cycles`` or more cycles ago (the next cycle is 1)."""
        return self._ones[cycles - 2] if cycles > 1 else Const(1)
