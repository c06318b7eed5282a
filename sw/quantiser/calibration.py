"""How the range of an activation follows from the magnitudes that calibration pictures made it reach.

What lies beyond the range saturates; what lies within is rounded to steps of the range over the format's largest
integer. A wide range clips nothing and rounds coarsely. Only activations have the choice: whatever may not clip, such
as the residual stream and the heads' outputs, always holds the largest magnitude.
"""

from __future__ import annotations

from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from tessera.common.arrays import Floats
from tessera.common.expected import expect
from tessera.hw.formats import Format

PERCENTILE = 99.99
"""Per cent of a channel's magnitudes that :attr:`Calibration.PERCENTILE` holds."""

_OCTAVES = (-20, 16)  # magnitudes below 2**-20 are counted with the smallest, from 2**16 on with the largest
_MANTISSA_BITS = 5  # of a magnitude that choose its bin: 32 bins an octave, each at most a 32nd wide
_DROPPED = 52 - _MANTISSA_BITS
_FIRST = (1023 + _OCTAVES[0]) << _MANTISSA_BITS  # exponent and mantissa bits of the smallest edge, as float64 has them
_BINS = (_OCTAVES[1] - _OCTAVES[0]) << _MANTISSA_BITS
_CANDIDATES = 2.0 ** (-np.arange(65) / 8)  # of the range that holds everything: down to a 256th of it


class Magnitudes:
    """How large the values of each channel became: the largest, and a histogram of all.

    Bins widen with the magnitude, so that no range need be known beforehand, and the size of the histogram does not
    depend on the number of values.

    Parameters
    ----------
    channels:
        How many.
    histogram:
        Whether to count at all; without it there is the maximum alone.

    Attributes
    ----------
    maximum:
        (channels,) largest magnitudes.
    """

    def __init__(self, channels: int, *, histogram: bool = True) -> None:
        self.maximum: Floats = np.zeros(channels)
        self._counts = np.zeros((channels, _BINS), np.int32) if histogram else None

    def add(self, values: Floats) -> None:
        """Count ``values`` (..., channels)."""
        rows = np.abs(values, dtype=np.float64).reshape(-1, len(self.maximum))
        self.maximum = np.maximum(self.maximum, rows.max(axis=0, initial=0.0))
        if self._counts is not None:
            places = (_bin_of(rows) + _BINS * np.arange(len(self.maximum))).ravel()
            self._counts += (
                np.bincount(places, minlength=self._counts.size).reshape(self._counts.shape).astype(np.int32)
            )

    def percentile(self, percent: float) -> Floats:
        """(channels,) magnitudes that ``percent`` of a channel's values do not exceed, to within a bin upwards."""
        counts = self._counted()
        reached = counts.cumsum(axis=1)
        first = (reached >= percent / 100 * reached[:, -1:]).argmax(axis=1)
        return np.minimum(_edges()[first + 1], self.maximum)

    def squared_errors(self, ranges: Floats, top: int, zero_point: float = 0.0) -> Floats:
        """Squared error of each channel's values, summed, if they are rounded and clipped to a range.

        Parameters
        ----------
        ranges:
            (candidates, channels) largest magnitudes that do not clip.
        top:
            Integer that stands for the range and the zero point.
        zero_point:
            Real value that the integers carry on top.

        Returns
        -------
        (candidates, channels). Values beyond the range count with their distance to it. Of those within it, those below
        half a step count with themselves (without a zero point, that is), the others as spread evenly over a step.
        """
        counts, edges = self._counted(), _edges()
        centres = np.minimum((edges[:-1] + edges[1:]) / 2, self.maximum[:, None])
        powers = np.stack([counts, counts * centres, counts * centres**2])  # by bin: number of values, sum, squares
        below = np.pad(powers.cumsum(axis=-1), ((0, 0), (0, 0), (1, 0)))  # the same of all values below an edge
        channels, step = np.arange(len(self.maximum)), (ranges + zero_point) / top
        within = below[:, channels, _bin_of(ranges) + 1]
        number, total, squares = below[:, None, :, -1] - within
        clipped = squares - 2 * ranges * total + np.square(ranges) * number
        tiny = np.zeros_like(within) if zero_point else below[:, channels, _bin_of(step / 2)]
        return clipped + tiny[2] + (within[0] - tiny[0]) * np.square(step) / 12

    def _counted(self) -> NDArray[np.int32]:
        if self._counts is None:
            raise ValueError("these magnitudes were observed without a histogram; only their maximum is known")
        return self._counts


class Calibration(StrEnum):
    """Rules for the range of an activation's channel."""

    MAX = "max"
    """The largest magnitude, with headroom."""
    PERCENTILE = "percentile"
    """What :data:`PERCENTILE` per cent of the magnitudes stay within; the others saturate."""
    LEAST_ERROR = "least-error"
    """The smallest mean squared error of rounding and clipping, among what ``max`` takes and fractions of it."""

    @classmethod
    def named(cls, text: str) -> Calibration:
        """The rule of that name; ValueError lists what there is."""
        expect("calibration", text, str, f"the name of a rule, one of: {', '.join(cls)}")
        try:
            return cls(text.strip())
        except ValueError:
            raise ValueError(f"unknown calibration '{text.strip()}'; choose one of: {', '.join(cls)}") from None

    @property
    def needs_histogram(self) -> bool:
        """Whether the largest magnitudes alone do not tell the range."""
        return self is not Calibration.MAX

    def ranges(self, seen: Magnitudes, form: Format, headroom: float, zero_point: float = 0.0) -> Floats:
        """(channels,) ranges of an activation in ``form``.

        Parameters
        ----------
        seen:
            Its magnitudes on the calibration pictures.
        form:
            Its number format.
        headroom:
            Factor from the largest magnitude to the range that holds everything.
        zero_point:
            Real value that the integers carry on top.
        """
        if self is Calibration.PERCENTILE:
            return seen.percentile(PERCENTILE)
        everything = seen.maximum * headroom
        if self is Calibration.MAX:
            return everything
        candidates = everything * _CANDIDATES[:, None]
        errors = seen.squared_errors(candidates, form.maximum, zero_point)
        return candidates[errors.argmin(axis=0), np.arange(len(everything))]


def _bin_of(values: Floats) -> NDArray[np.int64]:
    """Bins of magnitudes: exponent and first mantissa bits, as float64 has them."""
    return np.clip((np.ascontiguousarray(values).view(np.int64) >> _DROPPED) - _FIRST, 0, _BINS - 1)


def _edges() -> Floats:
    """Edges of the bins, (bins + 1,): below the first and above the last lie all smaller and larger values."""
    return ((np.arange(_BINS + 1, dtype=np.int64) + _FIRST) << _DROPPED).view(np.float64)
