"""A component with hundreds of ports behind three pins, so that it can be placed and routed on its own."""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

CORE = "core"
"""Name of the component in the harness."""


class FewPins(wiring.Component):
    """Inputs from a shift register, outputs xored to one bit; registers on either side keep the pins out of all paths.

    Parameters
    ----------
    component:
        What to surround.

    Members
    -------
    serial: In(1), parity: Out(1)
        The pins, beside clock and reset.
    """

    def __init__(self, component: wiring.Component) -> None:
        super().__init__({"serial": In(1), "parity": Out(1)})
        self._component = component

    def elaborate(self, platform: object) -> Module:
        """Shift in, hold, and xor four bits a stage."""
        m = Module()
        m.submodules[CORE] = component = self._component
        inputs: list[Value] = []
        outputs: list[Value] = []
        for _, member, port in component.signature.flatten(component):
            (inputs if member.flow is In else outputs).append(Value.cast(port))
        shifted = Signal(len(Cat(*inputs)) + 1)
        held = Signal(len(Cat(*inputs)))
        m.d.sync += [shifted.eq(Cat(self.serial, shifted)), held.eq(shifted[1:])]
        m.d.comb += Cat(*inputs).eq(held)
        level: Value = Cat(*outputs)
        stage = 0
        while len(level) > 1:
            following = Signal(-(-len(level) // 4), name=f"parity_{stage}")
            m.d.sync += following.eq(Cat(level[i : i + 4].xor() for i in range(0, len(level), 4)))
            level, stage = following, stage + 1
        m.d.comb += self.parity.eq(level)
        return m
