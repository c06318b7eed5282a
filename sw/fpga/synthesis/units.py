"""A design's units, taken apart: what was counted before need not be mapped again.

Units are mapped one by one (:mod:`tessera.sw.fpga.synthesis.yosys`), so the cells of each follow from its own text. One
that need not be mapped is left out: an empty box with the same ports stands in its place.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

_MODULE = re.compile(r"(?:^attribute [^\n]*\n)*^module \\(\S+)\n.*?^end\n", re.MULTILINE | re.DOTALL)
_PORT = re.compile(r"^  wire [^\n]*(?:input|output|inout) [^\n]*\n", re.MULTILINE)
_NUMBER = re.compile(r"\$\d+")

TOP = "top"
"""The top module, and the unit that has everything that is in no other."""

TOP_PARTS = frozenset({"blame", "monitor", "residual_readers"})
"""Modules between the machine's units. They are small, so synthesis looks at them together with the top."""


@dataclass(frozen=True, kw_only=True)
class UnitSplit:
    """Which modules are units of their own, for :func:`tessera.sw.fpga.synthesis.yosys.synthesise`."""

    core: str = TOP
    apart: Sequence[str] = ()

    def root(self, module: str) -> str:
        """Outermost module of the unit that ``module`` is in."""
        path = _NUMBER.sub("", module.removeprefix("\\"))
        for unit in self.apart:
            if path == unit or path.startswith(f"{unit}."):
                return unit
        if path.startswith(f"{self.core}."):
            outermost = path.split(".")[: self.core.count(".") + 2]
            return TOP if outermost[-1] in TOP_PARTS else ".".join(outermost)
        return TOP

    def name(self, module: str) -> str:
        """Name of the unit that ``module`` is in: of its outermost module, without what that is in."""
        return self.root(module).rpartition(".")[2]

    def texts(self, design: str) -> dict[str, str]:
        """RTLIL of each unit, by its name.

        Numbers that only tell names apart are counted from 0 in each unit, so that its text does not change with its
        neighbours.
        """
        texts: dict[str, list[str]] = {}
        for found in _MODULE.finditer(design):
            texts.setdefault(self.name(found[1]), []).append(found[0])
        return {unit: _renumbered("".join(parts)) for unit, parts in texts.items()}

    def without(self, design: str, units: Collection[str]) -> str:
        """The design with empty boxes in the place of ``units``."""

        def shortened(found: re.Match[str]) -> str:
            module = found[1]
            if self.name(module) not in units:
                return found[0]
            if _NUMBER.sub("", module) != self.root(module):
                return ""
            return f"attribute \\blackbox 1\nmodule \\{module}\n{''.join(_PORT.findall(found[0]))}end\n"

        return _MODULE.sub(shortened, design)

    def without_boxes(self, statistics: Mapping[str, Any], units: Collection[str]) -> dict[str, Any]:
        """Yosys' statistics without the cells that are the empty boxes of ``units``."""
        modules = {
            name: {kind: self._kept(value, units) for kind, value in module.items()}
            for name, module in statistics["modules"].items()
        }
        return {**statistics, "modules": modules}

    def _kept(self, value: Any, units: Collection[str]) -> Any:
        if not isinstance(value, dict):
            return value
        return {cell: number for cell, number in value.items() if self.name(cell) not in units}


MACHINE = UnitSplit()
"""Of the machine on its own."""


def _renumbered(text: str) -> str:
    numbers: dict[str, int] = {}
    return _NUMBER.sub(lambda found: f"${numbers.setdefault(found[0], len(numbers))}", text)
