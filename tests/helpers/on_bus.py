"""A unit behind flat AXI ports that the models can be attached to."""

from __future__ import annotations

from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Member, Out, connect

from tessera.hw.bus.flat_axi import connect_flat, flat_signature
from tessera.hw.bus.read_master import ReadMaster
from tessera.hw.config import AcceleratorConfig

CHANNELS = {"ar", "r", "aw", "w", "b"}
IDS = {"ar": ("arid", "rid"), "aw": ("awid", "bid")}
"""Transaction IDs of a burst and of its answer, by the channel of the burst."""


def on_bus(config: AcceleratorConfig, unit: type[wiring.Component]) -> OnBus:
    """A unit that takes nothing but the configuration, behind AXI ports."""
    return OnBus(unit(config), ReadMaster(config, 1) if "request" in unit(config).signature.members else None)


def _resolve(component, path):
    for step in path:
        component = component[step] if isinstance(step, int) else getattr(component, step)
    return component


def _is_axi(member: Member) -> bool:
    return member.is_signature and CHANNELS >= set(member.signature.members)


def _flat(member: Member) -> Member:
    """The bus with flat names. AXI4 gets transaction IDs: cocotbext-axi insists on them, the machine needs none."""
    bus = dict(flat_signature(member.signature).members)
    for channel, (burst, answer) in IDS.items():
        if f"{channel}len" in bus:
            bus |= {burst: bus[f"{channel}valid"].flow(1), answer: bus[f"{channel}ready"].flow(1)}
    return Out(wiring.Signature(bus))


class OnBus(wiring.Component):
    """A unit with the same ports, except that its AXI buses have flat names.

    A client of a read master is attached to one, whose other ports take the place of the client's.
    """

    def __init__(self, unit: wiring.Component, master: ReadMaster | None = None) -> None:
        self._unit, self._master = unit, master
        members = dict(unit.signature.members)
        if master is not None:
            members |= master.signature.members
            del members["request"], members["response"]
        super().__init__({name: _flat(member) if _is_axi(member) else member for name, member in members.items()})

    def elaborate(self, platform):
        """Wire ports of equal names."""
        m = Module()
        m.submodules.unit = self._unit
        if self._master is not None:
            m.submodules.master = self._master
            connect(m, self._unit.request, self._master.request[0])
            connect(m, self._master.response[0], self._unit.response)
        for part in filter(None, (self._unit, self._master)):
            for name, member in part.signature.members.items():
                if _is_axi(member):
                    connect_flat(m, getattr(part, name), getattr(self, name))
            for path, member, value in part.signature.flatten(part):
                if hasattr(self, path[0]) and not _is_axi(part.signature.members[path[0]]):
                    mine = _resolve(self, path)
                    m.d.comb += value.eq(mine) if member.flow is In else mine.eq(value)
        return m
