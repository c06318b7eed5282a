"""AXI by the standard's flat names (``arvalid``, ``wdata``), for whatever is not written in Amaranth."""

from __future__ import annotations

from collections.abc import Iterator

from amaranth.hdl import Module
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In


def _wires(bus: wiring.Signature) -> Iterator[tuple[str, str, str, wiring.Member]]:
    """Channel, wire in it, flat name, and what the wire is, for each wire of a bus."""
    for channel, member in bus.members.items():
        wires = member.signature.members
        payload = wires["payload"]
        for field, shape in data.Layout.cast(payload.shape).members.items():
            yield channel, field, f"{channel}{field}", payload.flow(shape)
        for wire in ("valid", "ready"):
            yield channel, wire, f"{channel}{wire}", wires[wire]


def flat_signature(bus: wiring.Signature) -> wiring.Signature:
    """``Axi4Read``, ``Axi4Write`` or ``Axi4Lite`` as a signature with one member per wire, from the same side."""
    return wiring.Signature({name: member for _, _, name, member in _wires(bus)})


def connect_flat(m: Module, unit: wiring.PureInterface, ports: wiring.PureInterface) -> None:
    """Connect a unit's bus with the flat ports of the component that the unit is part of.

    Parameters
    ----------
    unit:
        The unit's bus as its owner sees it.
    ports:
        The owner's own ports by flat names; more than those of :func:`flat_signature` may be among them.
    """
    for channel, wire, name, member in _wires(unit.signature):
        nested = getattr(unit, channel)
        inner = getattr(nested, wire) if wire in ("valid", "ready") else nested.payload[wire]
        outer = getattr(ports, name)
        m.d.comb += inner.eq(outer) if member.flow == In else outer.eq(inner)
