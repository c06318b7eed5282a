"""What a board's eight lights show."""

from __future__ import annotations

from amaranth.hdl import Module, Signal, ValueLike

BLINK_SECONDS = 0.05
"""How long an event shows on a light."""


def show_event(m: Module, event: ValueLike, cycles: int, *, name: str) -> Signal:
    """1 for ``cycles`` cycles after an event, from the second cycle after the latest event on."""
    remaining, active = Signal(range(cycles), name=f"{name}_remaining"), Signal(name=f"{name}_shown")
    happened = Signal(name=f"{name}_happened")
    # The event may come from far away, so it has a register of its own.
    m.d.sync += happened.eq(event)
    with m.If(happened):
        m.d.sync += [remaining.eq(cycles - 1), active.eq(1)]
    with m.Elif(remaining == 0):
        m.d.sync += active.eq(0)
    with m.Else():
        m.d.sync += remaining.eq(remaining - 1)
    return active
