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


def centred_bias(bias: Floats, reach: float) -> Floats:
    """A bias with the same softmax and small magnitudes: around 0 for each query, and with a floor for masks.

    Parameters
    ----------
    bias:
        (..., queries, keys) in natural logarithms; masks may be infinite.
    reach:
        Largest magnitude of the scores without bias, in natural logarithms.
    """
    top = bias.max(axis=-1, keepdims=True)
    clipped = np.maximum(bias, np.where(np.isfinite(top), top, 0.0) - 2 * reach - _BELOW)
    return clipped - (clipped.max(axis=-1, keepdims=True) + clipped.min(axis=-1, keepdims=True)) / 2


def least_unit(bias: Floats, numerics: Numerics) -> float:
    """The least unit of the products of queries and keys in which the parts of a centred bias hold it."""
    return float(np.abs(bias).max(initial=0.0)) / (BIAS_PARTS * numerics.activation.maximum**2)


def quantise_bias(bias: Floats, unit: float, numerics: Numerics) -> Bias:
    """Choose the parts of a centred bias.

    Parameters
    ----------
    bias:
        (..., queries, keys) in natural logarithms.
    unit:
        The same of one accumulator unit of the scores.
    numerics:
        Number formats of the machine.
    """
    wanted = np.rint(bias / unit)
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
