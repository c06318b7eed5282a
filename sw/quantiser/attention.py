"""Scales of an attention layer: of queries and keys together, of values, and of what comes out."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from tessera.common.arrays import Floats
from tessera.hw.formats import Numerics
from tessera.sw.quantiser.scales import FINEST_RATIO, fitting, scalar_multiplier

_VALUES_COUNT = 0.1  # share of the values' rounding errors that averaging over tokens leaves


@dataclass(frozen=True, kw_only=True)
class AttentionScales:
    """Real values of one step in each channel, and the machine's constants that follow from them.

    Members: ``query``, ``key``, ``value``, ``attention`` (channels,); ``score_unit``, one unit of the products
    in natural logarithms; multiplier and shift from products of queries and keys
    to scores, and from sums of values to attention outputs.
    """

    query: Floats
    key: Floats
    value: Floats
    attention: Floats
    score_multiplier: int
    score_shift: int
    output_multiplier: int
    output_shift: int
    score_unit: float


def attention_scales(
    name: str, wanted: Mapping[str, Floats], columns: Floats, factor: float, numerics: Numerics, least_unit: float = 0.0
) -> AttentionScales:
    """Choose the scales of a layer.

    Parameters
    ----------
    name:
        The attention, for messages.
    wanted:
        Finest scales (D,) of ``query``, ``key``, ``value`` and ``attention`` that hold their ranges.
    columns:
        (D,) sums of squares of the weights that follow each channel of the output.
    factor:
        Of the products of queries and keys.
    numerics:
        Number formats of the machine.
    least_unit:
        Least unit of the products of queries and keys, in natural logarithms, that holds a bias.
    """
    query, key = wanted["query"], wanted["key"]
    # Scores see only the product of a query's and a key's scale: it is common, its split is balanced by channel.
    product = max(float((query * key).max()), least_unit / abs(factor))
    octaves = math.log2(math.e) * factor * 2.0**numerics.score.fraction
    with fitting(f"{name}.scores", "scores", numerics.score, "octaves"):
        score_multiplier, score_shift = scalar_multiplier(product * octaves)
    value, ratio = value_scales(wanted["value"], wanted["attention"], columns)
    output_multiplier, output_shift = scalar_multiplier(1 / ratio)
    return AttentionScales(
        query=np.sqrt(product * query / key),
        key=np.sqrt(product * key / query),
        value=value,
        attention=value * 2.0**output_shift / output_multiplier,
        score_multiplier=score_multiplier,
        score_shift=score_shift,
        output_multiplier=output_multiplier,
        output_shift=output_shift,
        score_unit=product * factor,
    )


def value_scales(values: Floats, attention: Floats, columns: Floats) -> tuple[Floats, float]:
    """Scales of the values, and the common ratio of attention outputs' scales to them.

    Both must hold their ranges, ``values`` and ``attention`` being the finest scales that do; ``columns`` are the sums
    of squares of what follows each channel. A ratio that suits most channels costs the others precision of values.
    """
    needed = np.clip(attention / values, FINEST_RATIO, 1.0)
    best = (np.inf, values, 1.0)
    for ratio in np.quantile(needed, np.linspace(0.25, 1.0, 16)):
        scale = np.maximum(values, attention / ratio)
        error = float((columns * np.square(scale)).sum() * (ratio**2 + _VALUES_COUNT))
        best = min(best, (error, scale, float(ratio)), key=lambda found: found[0])
    return best[1], best[2]
