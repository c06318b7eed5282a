"""What a machine's status register says of its residual stream."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

_SATURATED = 1 << 3
"""Bit of the register ``status``: the residual stream saturated since the frame began."""


def residual_saturated(counters: Mapping[str, int]) -> bool:
    """Whether the residual stream saturated in the frame that these registers were read after."""
    return bool(counters["status"] & _SATURATED)


def saturated_frames(saturated: Sequence[bool]) -> list[str]:
    """What there is to say about frames in which the machine's residual stream saturated: nothing, or one sentence."""
    count = sum(saturated)
    found = f"the residual stream saturated on the machine in {count} of {len(saturated)} frames (docs/numerics.md)"
    return [found] if count else []
