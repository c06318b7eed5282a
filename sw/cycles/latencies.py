"""Latencies that only a unit of a configuration can tell."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from tessera.common.elaboration import unelaborated
from tessera.hw.blocks.reciprocal import Reciprocal
from tessera.hw.config import AcceleratorConfig
from tessera.hw.layernorm.row_statistics import RowStatistics
from tessera.hw.softmax.softmax import Softmax


@dataclass(frozen=True, kw_only=True)
class UnitLatencies:
    """Latencies of the units of one machine, in cycles.

    Members
    -------
    softmax_overhead:
        Cycles that softmax takes per tile beside those of its scores.
    row_statistics, row_interval:
        Cycles from a row's last sums to its scale, and from one row's to the next row's.
    gate_reciprocal:
        Cycles of the gate's reciprocal.
    """

    softmax_overhead: int
    row_statistics: int
    row_interval: int
    gate_reciprocal: int


@cache
def unit_latencies(config: AcceleratorConfig) -> UnitLatencies:
    """Latencies of the units of ``config``."""
    width = config.numerics.gate_weight.width + (config.max_experts - 1).bit_length()
    with unelaborated():
        statistics = RowStatistics(config)
        found = UnitLatencies(
            softmax_overhead=Softmax(config).overhead,
            row_statistics=statistics.latency,
            row_interval=statistics.interval,
            gate_reciprocal=Reciprocal(width).latency,
        )
        del statistics
    return found
