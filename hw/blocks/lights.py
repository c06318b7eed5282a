"""What a board's eight lights show."""

from __future__ import annotations

from amaranth.hdl import Module, Signal, ValueLike
from amaranth.lib import data

BLINK_SECONDS = 0.05
"""How long an event shows on a light."""


def lights() -> data.StructLayout:
    """One bit a light, light 0 first.

    Members
    -------
    heartbeat:
        Half a second on, half a second off: the clock runs and nothing is held in reset.
    initialised:
        The memory may be used.
    link_activity:
        A good frame came over the serial line.
    link_error:
        Something that came over the serial line was not right.
    busy:
        The accelerator computes.
    done:
        The latest run reached its end.
    failed:
        It was halted by an error.
    saturated:
        A residual value saturated in it.
    """
    names = "heartbeat initialised link_activity link_error busy done failed saturated"
    return data.StructLayout({name: 1 for name in names.split()})


def shown(m: Module, event: ValueLike, cycles: int, *, name: str) -> Signal:
    """1 in ``cycles`` cycles, from the second after the latest one with the event, which may have come from far."""
    remaining, active = Signal(range(cycles), name=f"{name}_remaining"), Signal(name=f"{name}_shown")
    happened = Signal(name=f"{name}_happened")
    m.d.sync += happened.eq(event)
    with m.If(happened):
        m.d.sync += [remaining.eq(cycles - 1), active.eq(1)]
    with m.Elif(remaining == 0):
        m.d.sync += active.eq(0)
    with m.Else():
        m.d.sync += remaining.eq(remaining - 1)
    return active
