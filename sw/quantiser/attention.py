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

    Members: ``q``, ``k``, ``v``, ``attention`` (D,); multiplier and shift from products of queries and keys to scores,
    and from sums of values to attention outputs.
    """

    q: Floats
    k: Floats
    v: Floats
    attention: Floats
    score_multiplier: int
    score_shift: int
    output_multiplier: int
    output_shift: int


def attention_scales(
    name: str, wanted: Mapping[str, Floats], columns: Floats, head_dim: int, numerics: Numerics
) -> AttentionScales:
    """Choose the scales of a layer.

    Parameters
    ----------
    name:
        The layer, for messages.
    wanted:
        Finest scales (D,) of ``q``, ``k``, ``v`` and ``attention`` that hold their ranges.
    columns:
        (D,) sums of squares of the weights that follow each channel of the output.
    head_dim:
        Channels of a head.
    numerics:
        Number formats of the machine.
    """
    q, k = wanted["q"], wanted["k"]
    # Scores see only the product of a query's and a key's scale: it is common, its split is balanced by channel.
    product = float((q * k).max())
    octaves = math.log2(math.e) / math.sqrt(head_dim) * 2.0**numerics.score.fraction
    with fitting(f"{name}.scores", "scores", numerics.score, "octaves"):
        score_multiplier, score_shift = scalar_multiplier(product * octaves)
    v, ratio = value_scales(wanted["v"], wanted["attention"], columns)
    output_multiplier, output_shift = scalar_multiplier(1 / ratio)
    return AttentionScales(
        q=np.sqrt(product * q / k),
        k=np.sqrt(product * k / q),
        v=v,
        attention=v * 2.0**output_shift / output_multiplier,
        score_multiplier=score_multiplier,
        score_shift=score_shift,
        output_multiplier=output_multiplier,
        output_shift=output_shift,
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
