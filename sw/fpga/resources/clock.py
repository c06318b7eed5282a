"""The clock that a machine may reach: a path through logic, and a way that grows with the part of the device in use.

A model of two numbers, for few placements exist; its error is a guess's, and is said wherever a clock is shown.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import sqrt

LOGIC, WAY = "logic", "way"
"""Names of the numbers, both in ns: a path whose cells stand side by side; wires from one side of the device to the
other."""


def used_share(total: Mapping[str, int], limits: Mapping[str, int]) -> float:
    """Part of the device that a machine is spread over: that of the resource of which it takes the largest part."""
    return max(total[name] / limit for name, limit in limits.items())


def device_width(used: float) -> float:
    """How wide it is then, as a part of the device's side."""
    return sqrt(used)


def fmax_mhz(period_ns: Mapping[str, float], used: float) -> float:
    """MHz of a machine that is spread over the part ``used`` of the device."""
    return 1000 / (period_ns[LOGIC] + period_ns[WAY] * device_width(used))
