"""What the nodes of an exported graph stand for while they are read.

A tensor that the network computes is told by *places*: an integer for each of its values, which says of which tensor of
ours it is which value. Whatever only moves values (reshape, permute, roll, slice, concatenate) moves the places, so
that every way to write windows, heads or shifts comes to the same in the end.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

ZERO = -1
"""Place of a value that is 0, as padding is."""


class NoArrangement(ValueError):
    """Values are taken from tensors in a way that no operator does; the message says which."""


@dataclass(frozen=True)
class View:
    """Values of the network's tensors, in any arrangement.

    Parameters
    ----------
    places:
        int64, of the shape that the module's tensor has.
    """

    places: Tensor

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the module's tensor."""
        return tuple(self.places.shape)

    def unpadded(self) -> tuple[View, tuple[int, int, int, int]]:
        """A map (1, channels, rows, columns) without the zeros around it, and how many there are above, left, ..."""
        inside = self.places[0] != ZERO
        (rows, columns) = (inside.any(0).any(1 - axis).nonzero()[:, 0] for axis in range(2))
        if not len(rows):
            return self, (0, 0, 0, 0)
        top, left, bottom, right = (int(one) for one in (rows[0], columns[0], rows[-1] + 1, columns[-1] + 1))
        around = (top, left, self.shape[2] - bottom, self.shape[3] - right)
        return View(self.places[:, :, top:bottom, left:right]), around


@dataclass(frozen=True)
class Fixed:
    """A tensor that does not depend on the picture: a weight, or what was made of weights alone."""

    tensor: Tensor
    name: str = ""

    @property
    def shape(self) -> tuple[int, ...]:
        """Its shape."""
        return tuple(self.tensor.shape)


@dataclass(frozen=True)
class ScaledView:
    """A view times a number, which something behind it takes over."""

    view: View
    factor: float

    @property
    def shape(self) -> tuple[int, ...]:
        """Its shape."""
        return self.view.shape


@dataclass(frozen=True)
class AttentionScores:
    """Products of queries and keys (batch, heads, queries, keys), on their way to softmax; or behind it."""

    query: View
    key: View
    scale: float = 1.0
    bias: Tensor | None = None
    normalised: bool = False

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the module's tensor."""
        return (*self.query.shape[:-1], self.key.shape[-2])

    def reshaped(self, shape: Sequence[int]) -> AttentionScores:
        """The same with other axes before the heads; NoArrangement if queries and keys do not stay as they are."""
        found = torch.empty(self.shape, device="meta").reshape(list(shape)).shape
        if found[-2:] != self.shape[-2:]:
            raise NoArrangement("scores in another arrangement; the nearest keeps queries and keys the last axes")
        query, key = (View(one.places.reshape(*found[:-2], *one.shape[-2:])) for one in (self.query, self.key))
        bias = None if self.bias is None else self.bias.expand(self.shape).reshape(found)
        return replace(self, query=query, key=key, bias=bias)


@dataclass(frozen=True)
class Unknown:
    """What an operator that is not supported would have made."""

    shape: tuple[int, ...]


Value = View | Fixed | ScaledView | AttentionScores | Unknown
