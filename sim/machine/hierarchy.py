"""The units of a design as its Verilog has them: their paths, their ports, and the values that have names."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from tessera.sim.verilator.simplify import MODULE, NAME
from tessera.sim.verilator.verilog import Design

_HEADER = re.compile(r"^module [^;]*?\((?P<ports>[^;]*)\);", re.DOTALL)
_NAMED = re.compile(
    rf"(?P<values>(?:  \(\* enum_value_[01]+ = \"[^\"]*\" \*\)\n)+)"
    rf"  (?:input |output )?(?:wire|reg) (?:\[(?P<top>\d+):0\] )?(?P<name>{NAME})"
)
_VALUE = re.compile(r"enum_value_(?P<bits>[01]+) = \"(?P<name>[^\"]*)\"")
_CONFLICT = re.compile(r"\$\d+")
"""What Amaranth adds to a name that something else has already."""


@dataclass(frozen=True, kw_only=True)
class NamedSignal:
    """Values of a signal that have names.

    Parameters
    ----------
    width:
        Bits of the signal.
    values:
        Name of each value.
    """

    width: int
    values: dict[int, str]


@dataclass(frozen=True, kw_only=True)
class UnitModule:
    """A unit's module.

    Parameters
    ----------
    path:
        Names of the instances from the top's down to it, as Verilog has them; empty for the top.
    ports:
        Names of its ports, in order.
    enums:
        Signals whose values have names, by the signal's name.
    """

    path: tuple[str, ...]
    ports: tuple[str, ...]
    enums: dict[str, NamedSignal] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The path as people write it: ``softmax.scales``."""
        return plain_name(".".join(self.path))


def plain_name(name: str) -> str:
    """A name without what was added because something else in the module has it too."""
    return _CONFLICT.sub("", name)


def unit_modules(design: Design) -> dict[str, UnitModule]:
    """The modules of a design by name, outer ones before those inside them; the top is not among them."""
    found = {}
    for match in MODULE.finditer(design.text):
        path = match["name"].lstrip("\\").split(".")
        if path[0] == design.top and len(path) > 1:
            module = _module(tuple(path[1:]), match[0])
            found[module.name] = module
    return dict(sorted(found.items(), key=lambda item: item[1].path))


def _module(path: tuple[str, ...], text: str) -> UnitModule:
    header = _HEADER.match(text)
    ports = tuple(part.strip().lstrip("\\") for part in header["ports"].split(",")) if header else ()
    enums = {}
    for match in _NAMED.finditer(text):
        values = {int(value["bits"], 2): value["name"] for value in _VALUE.finditer(match["values"])}
        width = int(match["top"] or 0) + 1
        enums[match["name"].lstrip("\\")] = NamedSignal(width=width, values=values)
    return UnitModule(path=path, ports=ports, enums=enums)
