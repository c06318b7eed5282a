"""The bias of attention scores in integers: parts of 8 bits, which the array adds with factors of its own."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from tessera.common.arrays import Floats, Integers
from tessera.golden.integer.parameters import BIAS_PARTS
from tessera.hw.formats import Numerics

_BELOW = 12.0
"""Natural logarithms below the largest bias of a query, beyond the scores' own reach, at which a key counts nothing."""
_FINE = 2.0**-5
"""Octaves of a score that the rounding of a bias may be off; a larger error is worth another part."""


class Bias(NamedTuple):
    """Integers (parts, ...) of a bias, and the factor of each part."""

    values: Integers
    factors: Integers


def quantise_bias(bias: Floats, unit: float, reach: float, numerics: Numerics) -> Bias:
    """Choose the parts of a bias.

    Parameters
    ----------
    bias:
        (..., queries, keys) in natural logarithms; masks may be infinite.
    unit:
        The same of one accumulator unit of the scores.
    reach:
        Largest magnitude of the scores without bias, in natural logarithms.
    numerics:
        Number formats of the machine.
    """
    top = bias.max(axis=-1, keepdims=True)
    clipped = np.maximum(bias, np.where(np.isfinite(top), top, 0.0) - 2 * reach - _BELOW)
    wanted = np.rint(clipped / unit)
    limit = numerics.activation.maximum
    largest = float(np.abs(wanted).max(initial=0.0))
    coarse = min(BIAS_PARTS, max(1, math.ceil(largest / limit**2)))
    factor = min(limit, max(1, math.ceil(largest / (limit * coarse))))
    off = factor / 2 * unit * math.log2(math.e)
    fine = factor > 1 and off > _FINE and coarse < BIAS_PARTS
    parts, left = [], wanted
    for part in range(coarse):
        value = np.clip(np.rint(left / (factor * (coarse - part))), -limit, limit)
        parts.append(value)
        left = left - factor * value
    factors = [factor] * coarse
    if fine:
        parts.append(np.clip(left, -limit, limit))
        factors.append(1)
    return Bias(np.stack(parts).astype(np.int64), np.array(factors, np.int64))
