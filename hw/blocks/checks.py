"""Assertions in the RTL: one form for all, with what a reader of the simulator's log needs to know."""

from __future__ import annotations

from amaranth.hdl import Assert, Format, Module, ResetSignal, ValueLike


def check(m: Module, when: ValueLike, holds: ValueLike, message: str, *values: ValueLike) -> None:
    """Stop the simulation if ``holds`` is 0 in a cycle with ``when``, outside of reset.

    Synthesis drops the assertion. The simulator reports it one clock edge later, with ``message``.

    Parameters
    ----------
    when:
        Cycles in which the assumption must hold.
    holds:
        The assumption.
    message:
        Sentence for the log; ``{}`` stands for each of ``values``, as in ``amaranth.hdl.Format``.
    values:
        Signals whose values the message quotes.
    """
    with m.If(when & ~ResetSignal()):
        m.d.sync += Assert(holds, Format(message, *values) if values else message)
