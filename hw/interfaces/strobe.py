"""Strobe: a payload with ``valid`` and no backpressure."""

from __future__ import annotations

from amaranth.hdl import ShapeLike
from amaranth.lib import wiring
from amaranth.lib.wiring import Out


class Strobe(wiring.Signature):
    """``valid`` and ``payload``, no backpressure.

    Parameters
    ----------
    payload:
        Shape of the payload.
    """

    def __init__(self, payload: ShapeLike) -> None:
        super().__init__({"valid": Out(1), "payload": Out(payload)})
