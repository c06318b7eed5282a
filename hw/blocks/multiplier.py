"""Multiplier: products with registers before and behind, which a device's multiplier blocks can take over."""

from __future__ import annotations

from amaranth.hdl import Module, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out


class Multiplier(wiring.Component):
    """Multiply one broadcast operand by the stationary operand of each processing element, exactly.

    Elaborated for a platform with a ``multiplier`` (``hw.ecp5.platform``), it is made of that device's blocks and their
    own registers; without one, of plain registers and products.

    Parameters
    ----------
    width:
        Bits of the signed operands. A platform's blocks are used for what fits one of them.
    elements:
        Products.

    Members
    -------
    broadcast:
        Signed operand shared by all products.
    stationary:
        Signed operand of each element.
    product:
        Signed, ``2 * width`` bits.

    Timing: ``LATENCY`` 2 (operand register, product register), initiation interval 1. Registers need not be reset nor
    hold while their unit sleeps.
    """

    LATENCY = 2

    def __init__(self, width: int, elements: int) -> None:
        if width < 2:
            raise ValueError(f"operand width is {width}; a signed operand has at least 2 bits")
        self._width = width
        super().__init__(
            {
                "broadcast": In(signed(width)),
                "stationary": In(signed(width)).array(elements),
                "product": Out(signed(2 * width)).array(elements),
            }
        )

    def elaborate(self, platform):
        """The platform's blocks, or registers around plain products."""
        if hasattr(platform, "multiplier") and self._width <= platform.FACTOR_BITS:
            return platform.multiplier(self.broadcast, self.stationary, self.product)
        m = Module()
        broadcast = Signal.like(self.broadcast, name="broadcast_operand")
        m.d.sync += broadcast.eq(self.broadcast)
        for index, (operand, product) in enumerate(zip(self.stationary, self.product, strict=True)):
            stationary = Signal.like(operand, name=f"stationary_operand_{index}")
            m.d.sync += [stationary.eq(operand), product.eq(broadcast * stationary)]
        return m
