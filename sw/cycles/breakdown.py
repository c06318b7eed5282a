"""The cycles of a frame by layer, phase and kind of work: what the report's tables, charts and the roofline show."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from tessera.hw.isa import CycleCause
from tessera.program.commands import CommandKind, Phase
from tessera.program.program import Program

CAUSES = tuple(cause.name.lower() for cause in CycleCause)
"""Names of the causes, in their order."""

KINDS = tuple(CommandKind)
"""Kinds of work, in the order of a frame. ``control`` is END and passing over other tasks' commands."""


@dataclass(frozen=True, kw_only=True)
class Share:
    """What one command, or several of a sort, did and took.

    ``phase`` is a :class:`tessera.program.commands.Phase`, ``kind`` one of ``KINDS``. ``weight_bytes`` came from the
    weight stream. ``causes`` are the owned cycles in the order of CycleCause.
    """

    layer: str
    phase: str
    kind: str
    macs: int
    ideal_cycles: int
    weight_bytes: int
    causes: np.ndarray

    @property
    def cycles(self) -> int:
        """All owned cycles."""
        return int(self.causes.sum())

    @property
    def place(self) -> str:
        """Layer and phase in words."""
        return f"{self.layer} {self.phase}" if self.layer else self.phase

    def to_dict(self) -> dict[str, Any]:
        """JSON-compatible form."""
        numbers = {"macs": self.macs, "ideal_cycles": self.ideal_cycles, "weight_bytes": self.weight_bytes}
        where = {"layer": self.layer, "phase": str(self.phase), "kind": str(self.kind)}
        return where | {"cycles": self.cycles} | numbers | {"causes": named(self.causes)}


def named(causes: np.ndarray) -> dict[str, int]:
    """Cycles by the name of their cause."""
    return dict(zip(CAUSES, map(int, causes), strict=True))


def shares(program: Program, task: int, causes: np.ndarray, load: Mapping[str, Iterable[int]]) -> list[Share]:
    """One share for each command, in order; ``load`` is the tokens of each expert by mixture."""
    found = []
    for command in program.commands:
        owned = causes[command.index]
        if not command.runs(task):
            phase, kind, macs, ideal, weights = Phase.CONTROL, CommandKind.CONTROL, 0, 0, 0
        else:
            phase, kind = command.phase, command.kind
            macs, ideal, weights = command.macs, command.ideal_cycles, command.stream_bytes
            if command.op == "EXPERTS":
                used = sum(1 for tokens in load.get(command.mixture, ()) if tokens)
                weights = weights * used // program.mixtures[command.mixture].experts
        layer = "" if phase == Phase.CONTROL else command.place
        found.append(
            Share(
                layer=layer, phase=phase, kind=kind, macs=macs, ideal_cycles=ideal, weight_bytes=weights, causes=owned
            )
        )
    return found


def grouped(found: Iterable[Share], *keys: str) -> list[Share]:
    """Add shares up whose ``keys`` (of "layer", "phase", "kind") agree, in order of first appearance.

    What is not among the keys is empty in the sums. Sums without cycles and work are left out.
    """
    sums: dict[tuple, list[Share]] = {}
    for share in found:
        sums.setdefault(tuple(getattr(share, key) for key in keys), []).append(share)
    result = []
    for values, members in sums.items():
        where = {"layer": "", "phase": "", "kind": ""} | dict(zip(keys, values, strict=True))
        total = Share(
            **where,
            macs=sum(share.macs for share in members),
            ideal_cycles=sum(share.ideal_cycles for share in members),
            weight_bytes=sum(share.weight_bytes for share in members),
            causes=np.sum([share.causes for share in members], axis=0),
        )
        if total.cycles or total.macs:
            result.append(total)
    return result
