"""Roofline of a frame: what each phase could reach, given the weights that it streams, and what it reached."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from tessera.hw.config import AcceleratorConfig
from tessera.sw.cycles.breakdown import Share, grouped


@dataclass(frozen=True, kw_only=True)
class Point:
    """One phase of a layer.

    ``intensity``: multiply-accumulates for each byte of weights; ``achieved``: multiply-accumulates a cycle it owned;
    ``roof``: what array and memory allow at that intensity.
    """

    layer: str
    phase: str
    intensity: float
    achieved: float
    roof: float

    def to_dict(self) -> dict[str, Any]:
        """JSON-compatible form."""
        return dict(vars(self))


def roof(config: AcceleratorConfig, intensity: float) -> float:
    """Multiply-accumulates a cycle at most: the array's, or what the memory can feed."""
    return min(float(config.elements * config.lanes), intensity * config.memory_bytes)


def points(config: AcceleratorConfig, shares: Iterable[Share]) -> list[Point]:
    """A point for each phase of each layer that multiplies with streamed weights, in order."""
    found = []
    for share in grouped(shares, "layer", "phase"):
        if share.macs and share.weight_bytes and share.cycles:
            intensity = share.macs / share.weight_bytes
            found.append(
                Point(
                    layer=share.layer,
                    phase=share.phase,
                    intensity=intensity,
                    achieved=share.macs / share.cycles,
                    roof=roof(config, intensity),
                )
            )
    return found
