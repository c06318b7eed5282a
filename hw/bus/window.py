"""The address window that the machine may touch."""

from __future__ import annotations

from amaranth.hdl import Cat, Const, Value
from amaranth.lib import data
from amaranth.utils import exact_log2

from tessera.hw.config import AcceleratorConfig


def burst_end(config: AcceleratorConfig, burst: data.View) -> Value:
    """First byte address beyond a burst of ``read_request_layout``; it has 33 bits, so it cannot wrap."""
    return burst.address + Cat(Const(0, exact_log2(config.memory_bytes)), burst.beats_minus_one) + config.memory_bytes


def outside_window(address: Value, end: Value, window: data.View) -> Value:
    """1 unless all bytes from ``address`` to before ``end`` are in the ``window`` of ``window_layout``."""
    return (address < window.base) | (end > window.limit)
