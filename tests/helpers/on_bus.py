"""A unit behind AXI ports that the models can be attached to."""

from __future__ import annotations

from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out, connect

from hw.bus.read_master import ReadMaster
from hw.config import AcceleratorConfig

MASTER_PORTS = ("window_base", "window_limit", "halt", "error", "quiescent", "beat")


def _resolve(component, path):
    for step in path:
        component = component[step] if isinstance(step, int) else getattr(component, step)
    return component


def on_bus(config: AcceleratorConfig, unit: type[wiring.Component]) -> OnBus:
    """A unit that takes nothing but the configuration, behind AXI ports."""
    return OnBus(config, unit(config))


class OnBus(wiring.Component):
    """A unit with the same ports, except that a client of the read master is attached to one, and AXI ports have IDs.

    cocotbext-axi insists on transaction IDs; the machine has one and needs no wires for it.
    """

    def __init__(self, config: AcceleratorConfig, unit: wiring.Component) -> None:
        self._unit = unit
        members = dict(unit.signature.members)
        self._master = None
        if "bus" not in members:
            self._master = ReadMaster(config, 1)
            del members["request"], members["response"]
            members |= {name: self._master.signature.members[name] for name in ("bus", *MASTER_PORTS)}
        bus = dict(members["bus"].signature.members)
        if "arvalid" in bus:
            bus |= {"arid": Out(1), "rid": In(1)}
        if "awvalid" in bus:
            bus |= {"awid": Out(1), "bid": In(1)}
        members["bus"] = Out(wiring.Signature(bus))
        super().__init__(members)

    def elaborate(self, platform):
        """Wire ports of equal names."""
        m = Module()
        m.submodules.unit = self._unit
        if self._master is not None:
            m.submodules.master = self._master
            connect(m, self._unit.request, self._master.request[0])
            connect(m, self._master.response[0], self._unit.response)
        for part in filter(None, (self._unit, self._master)):
            for path, member, value in part.signature.flatten(part):
                if self._master is None or path[0] not in ("request", "response"):
                    mine = _resolve(self, path)
                    m.d.comb += value.eq(mine) if member.flow is In else mine.eq(value)
        return m
