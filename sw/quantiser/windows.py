"""Products of windows: what taps read beside each other, and one layer for each group of channels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import numpy as np

from tessera.common.arrays import Floats
from tessera.golden.integer.parameters import QuantisedLinear
from tessera.golden.integer.steps import ProductStep
from tessera.golden.integer.taps import Taps
from tessera.hw.formats import Numerics
from tessera.sw.quantiser.rounding import Moments
from tessera.sw.quantiser.scales import FoldedLinear


@dataclass(frozen=True, kw_only=True)
class FoldedGroups:
    """Layers that make an output's channels one after the other, each of inputs of its own.

    It has what a :class:`FoldedLinear` has for those who only want integers.
    """

    parts: tuple[FoldedLinear, ...]

    @property
    def bias(self) -> Floats:
        """(outputs,) biases."""
        return np.concatenate([part.bias for part in self.parts])

    @property
    def constant(self) -> bool:
        """Whether what is the same for every token matters."""
        return self.parts[0].constant

    def finest(self, numerics: Numerics) -> Floats:
        """(outputs,) finest output scales."""
        return np.concatenate([part.finest(numerics) for part in self.parts])

    def quantised(self, output_scale: float | Floats, numerics: Numerics) -> QuantisedLinear:
        """The layers in integers, as one."""
        made = [part.quantised(scale, numerics) for part, scale in self._split(output_scale)]
        together = {one.name: np.concatenate([vars(part)[one.name] for part in made]) for one in fields(made[0])}
        return QuantisedLinear(**together)

    def mean_error(self, linear: QuantisedLinear, output_scale: float | Floats) -> Floats:
        """What the rounding of the weights takes from each output on average."""
        values = {one.name: np.split(vars(linear)[one.name], len(self.parts)) for one in fields(linear)}
        pieces = [
            QuantisedLinear(**dict(zip(values, piece, strict=True))) for piece in zip(*values.values(), strict=True)
        ]
        found = zip(self._split(output_scale), pieces, strict=True)
        return np.concatenate([part.mean_error(piece, scale) for (part, scale), piece in found])

    def _split(self, output_scale: float | Floats) -> list[tuple[FoldedLinear, Floats]]:
        outputs = sum(len(part.weight) for part in self.parts)
        scales = np.split(np.broadcast_to(np.asarray(output_scale, np.float64), outputs), len(self.parts))
        return list(zip(self.parts, scales, strict=True))


Folded = FoldedLinear | FoldedGroups
"""A product with everything folded into it that can be."""


def by_group(taps: Taps, whole: FoldedLinear, moments: Sequence[Moments | None]) -> Folded:
    """A product of windows as layers, one for each group.

    Parameters
    ----------
    taps:
        The windows.
    whole:
        The matrix (outputs, inputs of a group), with the source of all channels.
    moments:
        Those of each group's windows.
    """
    groups, channels = taps.groups, whole.weight.shape[1] // taps.count * taps.groups
    scales = np.broadcast_to(np.asarray(whole.source.scale, np.float64), channels).reshape(groups, -1)
    pieces = zip(np.split(whole.weight, groups), np.split(whole.bias, groups), scales, moments, strict=True)
    parts = [
        FoldedLinear(
            weight=weight,
            bias=bias,
            source=replace(whole.source, scale=np.tile(scale, taps.count), moments=_of_filters(weight, found)),
            constant=whole.constant,
            multiples=whole.multiples,
        )
        for weight, bias, scale, found in pieces
    ]
    return parts[0] if groups == 1 else FoldedGroups(parts=tuple(parts))


def _of_filters(weight: Floats, moments: Moments | None) -> Moments | None:
    """Moments by which inputs that no filter reads keep their weights of 0."""
    if moments is None:
        return None
    read = weight.any(axis=0)
    return Moments(moments.mean, np.where(np.outer(read, read), moments.covariance, 0.0))


def name_of_windows(step: ProductStep, group: int) -> str:
    """Name of the moments of a group's windows."""
    return f"{step.name}.windows{group}"
