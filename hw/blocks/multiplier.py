"""Multiplier: products with registers before and behind, which a device's multiplier blocks can take over."""

from __future__ import annotations

from amaranth.hdl import Module, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out


class Multiplier(wiring.Component):
    """Multiply one broadcast operand by the stationary operand of each processing element, exactly.

    A platform with a ``multiplier`` (``tessera.hw.ecp5.platform``) makes it of its device's blocks and their own
    registers. Without such a platform it is made of plain registers and products.

    Parameters
    ----------
    width:
        Bits of the signed operands. A platform's blocks are used for operands that fit one of them.
    elements:
        Number of products.
    stationary_width:
        Bits of the stationary operands; by default as many as the other has. Blocks that are not a platform's are cut
        from the operands as they are.

    Members
    -------
    broadcast: In(signed)
        Operand shared by all products.
    stationary: In(signed) per element
        Operand of each element.
    product: Out(signed) per element
        Products of as many bits as both operands have together.

    Timing: ``LATENCY`` 2 (operand register, product register), initiation interval 1. The registers need neither a
    reset nor an enable.
    """

    LATENCY = 2

    def __init__(self, width: int, elements: int, stationary_width: int | None = None) -> None:
        stationary_width = width if stationary_width is None else stationary_width
        if min(width, stationary_width) < 2:
            raise ValueError(f"operand width is {min(width, stationary_width)}; a signed operand has at least 2 bits")
        super().__init__(
            {
                "broadcast": In(signed(width)),
                "stationary": In(signed(stationary_width)).array(elements),
                "product": Out(signed(width + stationary_width)).array(elements),
            }
        )

    @property
    def operands(self) -> tuple[int, int]:
        """Bits of the broadcast and of the stationary operands."""
        return len(self.broadcast), len(self.stationary[0])

    def elaborate(self, platform: object) -> Module:
        """The platform's blocks, or registers around plain products."""
        if hasattr(platform, "multiplier") and max(self.operands) <= platform.FACTOR_BITS:
            return platform.multiplier(self.broadcast, self.stationary, self.product)
        m = Module()
        broadcast = Signal.like(self.broadcast, name="broadcast_operand")
        m.d.sync += broadcast.eq(self.broadcast)
        for index, (operand, product) in enumerate(zip(self.stationary, self.product, strict=True)):
            stationary = Signal.like(operand, name=f"stationary_operand_{index}")
            m.d.sync += [stationary.eq(operand), product.eq(broadcast * stationary)]
        return m
