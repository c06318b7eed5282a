"""Multiplier: the products of one lane, behind an interface that a vendor's multiplier block can take over."""

from __future__ import annotations

from amaranth.hdl import Module, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out


class Multiplier(wiring.Component):
    """Multiply one broadcast operand by the stationary operand of each processing element, exactly.

    Parameters
    ----------
    width:
        Bits of the signed operands, at most 18 (one ECP5 MULT18X18D for each product).
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

    Timing: ``LATENCY`` 2 (operand register, product register), initiation interval 1.
    """

    LATENCY = 2

    def __init__(self, width: int, elements: int) -> None:
        if not 2 <= width <= 18:
            raise ValueError(f"operand width is {width}; a multiplier block takes 2 to 18 bits")
        super().__init__(
            {
                "broadcast": In(signed(width)),
                "stationary": In(signed(width)).array(elements),
                "product": Out(signed(2 * width)).array(elements),
            }
        )

    def elaborate(self, platform):
        """Registers around plain products."""
        m = Module()
        broadcast = Signal.like(self.broadcast, name="broadcast_operand")
        m.d.sync += broadcast.eq(self.broadcast)
        for index, (operand, product) in enumerate(zip(self.stationary, self.product, strict=True)):
            stationary = Signal.like(operand, name=f"stationary_operand_{index}")
            m.d.sync += [stationary.eq(operand), product.eq(broadcast * stationary)]
        return m
