"""Rounding of weights with feedback: what rounding one column adds to an output, later columns take off again.

This is GPTQ (Frantar et al., ICLR 2023). Inputs of a layer are correlated, so errors of weights can cancel. What
rounding adds on average is left to the bias. All of it is in float64: float32 rounds differently by instruction set,
and would decide weights that lie near the middle of two integers.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from tessera.common.arrays import Floats

_BLOCK = 32  # columns that are settled before the rest hears of their errors
_DAMPING = 0.01  # of the mean variance, added to every input's


class Moments(NamedTuple):
    """Mean (inputs,) and covariance (inputs, inputs) of a layer's real inputs."""

    mean: Floats
    covariance: Floats


def round_with_feedback(values: Floats, covariance: Floats, limit: int) -> Floats:
    """Round ``values`` to integers such that the variance of ``values @ x`` minus ``rounded @ x`` is small.

    Parameters
    ----------
    values:
        (outputs, inputs) weights in units of their steps.
    covariance:
        (inputs, inputs) of x; all zero if nothing is known of it, which gives the nearest integers.
    limit:
        Largest magnitude of a rounded weight.
    """
    variance = np.diag(covariance)
    if not variance.any():
        return np.clip(np.rint(values), -limit, limit)
    order = np.argsort(-variance, kind="stable")  # large inputs first, while many are left to make up for them
    answers = _answers(covariance[np.ix_(order, order)] + _DAMPING * variance.mean() * np.eye(len(order)))
    if answers is None:
        return np.clip(np.rint(values), -limit, limit)
    left = values.T[order]  # (inputs, outputs)
    result = np.empty(left.shape)
    for start in range(0, len(order), _BLOCK):
        stop = min(start + _BLOCK, len(order))
        block = left[start:stop]
        for row in range(stop - start):
            exact = block[row]
            rounded = np.clip(np.rint(exact), -limit, limit)
            result[order[start + row]] = rounded
            exact -= rounded
            block[row + 1 :] -= answers[start + row, start + row + 1 : stop, None] * exact
        left[stop:] -= answers[start:stop, stop:].T @ block
    return np.ascontiguousarray(result.T)


def _answers(damped: Floats) -> Floats | None:
    """How the inputs after each one make up for an error of its weight, in rows of the upper factor of the inverse.

    None if float64 does not suffice to tell: then rounding errors of the moments are larger than what they say.
    """
    with np.errstate(all="ignore"):
        try:
            answers = np.linalg.cholesky(np.linalg.inv(damped)).T
        except np.linalg.LinAlgError:
            return None
        answers = answers / np.diag(answers)[:, None]
    return answers if np.isfinite(answers).all() else None
