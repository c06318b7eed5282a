"""Ecp5: the ``platform`` that a design is elaborated with when it is built for this family."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import cached_property

from amaranth.hdl import (
    Cat,
    ClockDomain,
    ClockSignal,
    Const,
    DomainRenamer,
    Elaboratable,
    Instance,
    Module,
    ResetSignal,
    Signal,
    Value,
    signed,
)

NETWORK_SITES = {"85F": ("X67/Y0/TDCC8", "X67/Y0/TDCC10")}
"""Where bits enter clock networks, by size of the device. Only one wire leads to each such site from the fabric.

These come from X61 and X60, to the left of their sites. Left to itself, nextpnr takes one from X75 for the first
network, and its router2, built without threads as in the package for Python, may not find that: it looks for the wires
of a net in one half of the device when driver and sinks are there, and the halves may meet to the left of X75.
"""


class Ecp5:
    """Takes the place of portable parts of the design; a component asks for what it can replace by name.

    Elaborated without a platform, as for simulation, everything is portable.
    """

    always_awake = True
    """See ``tessera.hw.blocks.sleep``."""
    FACTOR_BITS = 18
    """Width of a multiplier block's operands."""
    BLOCK_SHAPES = ((16384, 1), (8192, 2), (4096, 4), (2048, 9), (1024, 18))
    """Words and bits of a block RAM with two ports."""

    def multiplier(self, broadcast: Value, stationary: Sequence[Value], product: Sequence[Value]) -> Module:
        """A MULT18X18D each, with its own registers before and behind the product: see
        ``tessera.hw.blocks.multiplier``.

        The registers have no reset and no enable: what travels through them has its valid bits elsewhere, and a unit
        does not sleep while anything does.
        """
        m = Module()
        for index, (operand, result) in enumerate(zip(stationary, product, strict=True)):
            # The block's product is wider than the one asked for; the bits above are copies of the sign.
            bits = Signal(signed(2 * self.FACTOR_BITS), name=f"bits_{index}")
            m.submodules[f"block_{index}"] = Instance(
                "MULT18X18D",
                *_pins("i", "A", _extended(broadcast, self.FACTOR_BITS)),
                *_pins("i", "B", _extended(operand, self.FACTOR_BITS)),
                *_pins("o", "P", bits),
                *(("p", f"REG_{name}_CLK", "CLK0") for name in ("INPUTA", "INPUTB", "OUTPUT")),
                *(("i", name, Const(1)) for name in ("SIGNEDA", "SIGNEDB", "CE0")),
                *(("i", name, Const(0)) for name in ("SOURCEA", "SOURCEB", "RST0")),
                ("i", "CLK0", ClockSignal()),
            )
            m.d.comb += result.eq(bits)
        return m

    def block_rows(self, words: int, width: int) -> int:
        """Words in a row of the block RAMs of a memory with two ports: as many as fewest blocks allow."""
        # Of equal numbers of blocks the deepest rows win, because a choice among rows costs logic.
        needed = {depth: -(-words // depth) * -(-width // bits) for depth, bits in self.BLOCK_SHAPES}
        return min(needed, key=lambda depth: (needed[depth], -depth))

    def resettable(self, m: Module, name: str, clear: Value) -> Callable[[Elaboratable], Elaboratable]:
        """What makes of a unit one that ``clear`` resets too, a cycle later, in a clock domain ``name`` of its own."""
        # The unit gets a domain, because the reset of a domain may come from a clock network.
        m.domains += ClockDomain(name, local=True)
        reset = self.clock_network(m, f"{name}_reset", clear | ResetSignal(allow_reset_less=True))
        m.d.comb += [ClockSignal(name).eq(ClockSignal()), ResetSignal(name).eq(reset)]
        return DomainRenamer(name)

    def clock_network(self, m: Module, name: str, bit: Value) -> Signal:
        """``bit``, a cycle later, on one of the device's 16 networks for clocks: for what goes everywhere.

        A reset reaches thousands of registers. On ordinary wires it takes more than a cycle to the farthest of them,
        and a wire in each of their tiles.
        """
        register, network = Signal(name=f"{name}_register", reset_less=True), Signal(name=name)
        m.d.sync += register.eq(bit)
        ports = {"i_CLKI": register, "i_CE": Const(1), "o_CLKO": network}
        # A site is named for as long as there are known ones; after that nextpnr chooses.
        site = next(self._network_sites, None)
        m.submodules[f"{name}_network"] = Instance("DCCA", **({"a_BEL": site} if site else {}), **ports)
        return network

    @cached_property
    def _network_sites(self) -> Iterator[str]:
        """Those that are left; none if it is not known on which device the design goes."""
        _, _, size = getattr(self, "device", "").rpartition("-")
        return iter(NETWORK_SITES.get(size, ()))


def _extended(operand: Value, width: int) -> Value:
    """A signed operand, as wide as the block's."""
    return Cat(operand, operand[-1].replicate(width - len(operand)))


def _pins(kind: str, name: str, value: Value) -> list[tuple[str, str, Value]]:
    """The block has a pin for each bit."""
    return [(kind, f"{name}{index}", bit) for index, bit in enumerate(value)]
