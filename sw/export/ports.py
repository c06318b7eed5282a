"""Ports of the exported module: names that AXI tools look for, widths, and what each is for."""

from __future__ import annotations

from dataclasses import dataclass

from tessera.common.elaboration import unelaborated
from tessera.hw.accelerator import Accelerator
from tessera.hw.config import AcceleratorConfig
from tessera.sim.verilator.verilog import DesignPort, describe_ports

PORTS_VERSION = 1
"""Raised with every change of a port's name, direction, width or meaning."""
CONTROL, MEMORY = "s_axil", "m_axi"
"""Prefixes of the bus that the module serves, and of the one that it masters."""
ID_WIDTH = 1
"""Bits of a transaction's ID; every burst has ID 0, so all answers come in order."""

_PREFIXES = {"control": CONTROL, "read": MEMORY, "write": MEMORY}
_CHANNELS = ("aw", "w", "b", "ar", "r")
_WIRES = "id addr len size burst lock cache prot qos data strb resp last valid ready".split()
"""Wires of a channel, in the order of the standard."""
_BURST = {"id": (ID_WIDTH, 0), "lock": (1, 0), "cache": (4, 0b0011), "prot": (3, 0), "qos": (4, 0)}
"""Width and value of what a burst carries besides address, length, size and kind."""
_MEANINGS = {
    "id": "transaction ID; always 0",
    "addr": "byte address",
    "len": "beats of the burst, less one",
    "size": "log2 of the bytes per beat; always that of the whole bus",
    "burst": "kind of burst; always INCR (1)",
    "lock": "exclusive access; always 0",
    "cache": "memory attributes; always 3 (normal, not cacheable, bufferable)",
    "prot": "protection; always 0 (unprivileged, secure, data)",
    "qos": "quality of service; always 0",
    "data": "data, lowest address in the low bits",
    "strb": "one bit per byte of the data: 1 if the byte is written",
    "resp": "response: 0 is OKAY; a response with bit 1 set is an error",
    "last": "last beat of the burst",
    "valid": "the sender offers a transfer",
    "ready": "the receiver takes it in this cycle",
}


@dataclass(frozen=True, kw_only=True)
class CorePort:
    """One port of the exported module.

    Parameters
    ----------
    name:
        Name in Verilog.
    direction:
        ``in`` or ``out``, as seen from the module.
    width:
        Bits.
    meaning:
        One sentence.
    bus, wire:
        Prefix of the bus that it belongs to and its name there, or empty.
    constant:
        Value that it always has; None if it changes.
    ignored:
        Whether the module does nothing with it.
    """

    name: str
    direction: str
    width: int
    meaning: str
    bus: str = ""
    wire: str = ""
    constant: int | None = None
    ignored: bool = False


@dataclass(frozen=True, kw_only=True)
class Connection:
    """A port of the accelerator, and the module's ports that its bits go to, highest bits first."""

    inner: str
    outer: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class CorePorts:
    """Ports of the exported module, in order, and how they reach the accelerator inside."""

    ports: tuple[CorePort, ...]
    connections: tuple[Connection, ...]


def core_ports(config: AcceleratorConfig) -> CorePorts:
    """Ports of the module that is exported for a configuration."""
    with unelaborated():
        inner = describe_ports(Accelerator(config))
    found = [
        CorePort(name="clk", direction="in", width=1, meaning="the only clock; everything is at its rising edge"),
        CorePort(name="rst", direction="in", width=1, meaning="reset, active high, synchronous to clk"),
        CorePort(name="irq", direction="out", width=1, meaning="interrupt, active high, a level until it is cleared"),
    ]
    connections = [
        Connection(inner="clk", outer=("clk",)),
        Connection(inner="rst", outer=("rst",)),
        Connection(inner="interrupt", outer=("irq",)),
    ]
    wires = [*_unused(), *_constants()]
    for port in inner:
        bus, _, rest = port.name.partition("__")
        if bus in _PREFIXES:
            channel, _, part = rest.partition("__")
            members = _members(_PREFIXES[bus], channel, part, port)
            wires += members
            connections.append(Connection(inner=port.name, outer=tuple(wire.name for wire in reversed(members))))
    found += sorted(wires, key=_place)
    return CorePorts(ports=tuple(found), connections=tuple(connections))


def _members(prefix: str, channel: str, part: str, port: DesignPort) -> list[CorePort]:
    """The module's ports for one port of the accelerator, lowest bits first."""
    fields = {leaf.path: leaf.width for leaf in port.leaves} if part == "payload" else {part: port.width}
    return [_wire(prefix, channel, name, port.direction, width) for name, width in fields.items()]


def _wire(prefix: str, channel: str, name: str, direction: str, width: int) -> CorePort:
    return CorePort(
        name=f"{prefix}_{channel}{name}",
        direction=direction,
        width=width,
        meaning=_MEANINGS[name],
        bus=prefix,
        wire=f"{channel}{name}",
    )


def _constants() -> list[CorePort]:
    """What every burst carries, although the accelerator does not choose it."""
    return [
        CorePort(
            name=f"{MEMORY}_{channel}{name}",
            direction="out",
            width=width,
            meaning=_MEANINGS[name],
            bus=MEMORY,
            wire=f"{channel}{name}",
            constant=value,
        )
        for channel in ("aw", "ar")
        for name, (width, value) in _BURST.items()
    ]


def _unused() -> list[CorePort]:
    """What the standard has and the accelerator does not look at."""
    wires = [(MEMORY, channel, "id", ID_WIDTH, "transaction ID of the answer") for channel in ("b", "r")]
    wires += [(CONTROL, channel, "prot", 3, "protection of the access") for channel in ("aw", "ar")]
    return [
        CorePort(
            name=f"{bus}_{channel}{name}",
            direction="in",
            width=width,
            meaning=f"{meaning}; ignored",
            bus=bus,
            wire=f"{channel}{name}",
            ignored=True,
        )
        for bus, channel, name, width, meaning in wires
    ]


def _place(port: CorePort) -> tuple[int, int, int]:
    """Where a wire stands: by bus, channel and the standard's order."""
    channel = next(name for name in sorted(_CHANNELS, key=len, reverse=True) if port.wire.startswith(name))
    wire = port.wire.removeprefix(channel)
    return (port.bus == MEMORY, _CHANNELS.index(channel), _WIRES.index(wire))
