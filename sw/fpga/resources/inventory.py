"""Every memory and every product of a design, read from the elaborated RTL.

The walk elaborates a design for the ECP5 and looks at each component, so nothing of it is listed by hand. No netlist is
made. What a memory or a product costs on a device is worked out by :mod:`tessera.sw.fpga.resources.block_rams` and
:mod:`tessera.sw.fpga.resources.multipliers`.

Cost: one elaboration per configuration and process, 0.4 s (``tiny``) to 0.8 s (``edge``) of a processor on a quiet
machine; what the host link and the memory of a board add is less than 0.1 s. Later questions about the same
configuration take no time. Thousands of configurations are best spread over processes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

from amaranth.hdl import Elaboratable, Fragment, Module, Shape, Value
from amaranth.lib import memory

from tessera.common.collector import collector_paused
from tessera.hw.accelerator import Accelerator
from tessera.hw.blocks.multiplier import Multiplier
from tessera.hw.boards.board import Board
from tessera.hw.boards.system import System
from tessera.hw.config import AcceleratorConfig
from tessera.hw.ecp5.platform import Ecp5
from tessera.sw.fpga.resources.expressions import drivers, products
from tessera.sw.fpga.synthesis.design import placeholder
from tessera.sw.fpga.synthesis.units import TOP

_KEPT = 256
"""Configurations whose inventories stay in memory."""


@dataclass(frozen=True, kw_only=True)
class RtlMemory:
    """One memory, as the RTL declares it.

    Parameters
    ----------
    path:
        Dotted names from the unit to the memory, the unit's own included.
    words, width:
        Size; ``width`` in bits.
    read_ports, write_ports:
        Number of ports; a table of constants has no write port.
    shared_ports:
        Number of read ports that have the address of a write port, so that one port of a block RAM can be both.
    asynchronous:
        Whether a port reads in the cycle of its address, which block RAM cannot.
    granularity:
        Bits that a write enable covers; 0 for the whole word.
    """

    path: str
    words: int
    width: int
    read_ports: int = 1
    write_ports: int = 1
    shared_ports: int = 0
    asynchronous: bool = False
    granularity: int = 0


@dataclass(frozen=True, kw_only=True)
class RtlProduct:
    """Equal products of one component.

    Parameters
    ----------
    path:
        Dotted names from the unit to the component, the unit's own included.
    operands:
        Bits of the two operands.
    count:
        Number of products.
    placed:
        Whether they are a :class:`tessera.hw.blocks.multiplier.Multiplier`, which asks for multiplier blocks; other
        products are left to Yosys.
    """

    path: str
    operands: tuple[int, int]
    count: int = 1
    placed: bool = False


@dataclass(frozen=True, kw_only=True)
class Inventory:
    """Memories and products of each unit that has any, by the unit's name."""

    memories: dict[str, list[RtlMemory]]
    products: dict[str, list[RtlProduct]]


def machine_inventory(config: AcceleratorConfig) -> Inventory:
    """Inventory of the machine on its own, by unit as ``tessera synth`` counts them.

    Raises
    ------
    ValueError
        A unit cannot be built with these sizes.
    """
    return _machine(replace(config, name="any"))


def board_inventory(board: Board, config: AcceleratorConfig) -> Inventory:
    """Inventory of what a board has beside the machine: ``host_link`` and ``memory``.

    Raises
    ------
    ValueError
        The board cannot do that: its memory at this clock, or the bus.
    """
    return _around(board, replace(config, name="any"))


@lru_cache(_KEPT)
def _machine(config: AcceleratorConfig) -> Inventory:
    return inventory(Accelerator(config))


@lru_cache(_KEPT)
def _around(board: Board, config: AcceleratorConfig) -> Inventory:
    clock_hz = board.clock_hz
    system = System(
        config,
        board.memory_for(config, clock_hz),
        baud=board.baud,
        identity=placeholder(config, clock_hz),
        accelerator=_Hollow(config),
    )
    return inventory(system)


class _Hollow(Accelerator):
    """The machine's ports with nothing behind them, where only what surrounds it is asked for."""

    def elaborate(self, platform: object) -> Module:
        return Module()


class _Outline(Ecp5):
    """The ECP5, without what only a netlist needs: the inside of memories and multipliers, and the nets of resets."""

    def get_memory(self, _memory: memory.Memory) -> Module:
        return Module()

    def multiplier(self, *_ports: Any) -> Module:
        return Module()

    def resettable(self, m: Module, name: str, clear: Value) -> Callable[[Elaboratable], Elaboratable]:
        return lambda unit: unit


def inventory(design: Elaboratable) -> Inventory:
    """Inventory of any design; a unit is what is directly below its top."""
    found = Inventory(memories={}, products={})
    with collector_paused():
        top = Fragment.get(design, _Outline())
    for unit, part in _walk(top, ()):
        kept: dict[str, list[Any]] = found.memories if isinstance(part, RtlMemory) else found.products
        kept.setdefault(unit, []).append(part)
    return found


def _walk(fragment: Fragment, path: tuple[str, ...]) -> Iterator[tuple[str, RtlMemory | RtlProduct]]:
    """Yield what is in a fragment, each with its unit."""
    unit, name = path[0] if path else TOP, ".".join(path) or TOP
    for operands in products(fragment.statements):
        yield unit, RtlProduct(path=name, operands=operands)
    driven_by = drivers(fragment.statements)
    for index, (inner, inner_name, _) in enumerate(fragment.subfragments):
        inner_path = (*path, inner_name or f"U{index}")
        component = inner.origins[0] if inner.origins else None
        if isinstance(component, memory.Memory):
            yield unit, _declared(component, ".".join(inner_path), driven_by)
        elif isinstance(component, Multiplier):
            yield inner_path[0], _multiplied(component, ".".join(inner_path))
        else:
            yield from _walk(inner, inner_path)


def _declared(component: memory.Memory, path: str, driven_by: Mapping[int, Value]) -> RtlMemory:
    """A memory; ports with the same address are driven by the same value of the component around it."""
    reads, writes = component.read_ports, component.write_ports
    width = Shape.cast(component.shape).width
    written = {id(driven_by[id(port.addr)]) for port in writes if id(port.addr) in driven_by}
    shared = [port for port in reads if id(driven_by.get(id(port.addr))) in written]
    return RtlMemory(
        path=path,
        words=component.depth,
        width=width,
        read_ports=len(reads),
        write_ports=len(writes),
        shared_ports=len(shared),
        asynchronous=any(port.domain == "comb" for port in reads),
        granularity=min((width // len(port.en) for port in writes if len(port.en) > 1), default=0),
    )


def _multiplied(component: Multiplier, path: str) -> RtlProduct:
    """Products of a multiplier, which takes the device's blocks for operands that fit one."""
    operands, count = component.operands, len(component.product)
    return RtlProduct(path=path, operands=operands, count=count, placed=max(operands) <= Ecp5.FACTOR_BITS)
