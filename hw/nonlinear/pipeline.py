"""Delays that keep a value in step with a pipeline beside it."""

from __future__ import annotations

from amaranth.hdl import Module, Signal, Value
from amaranth.lib import data


def delay(m: Module, value: Value | data.View, cycles: int, *, name: str) -> Value | data.View:
    """``value`` of ``cycles`` cycles ago; registers are called ``name_1``, ``name_2``, ...; reset to 0."""
    for stage in range(1, cycles + 1):
        register = Signal(value.shape(), name=f"{name}_{stage}")
        m.d.sync += register.eq(value)
        value = register
    return value
