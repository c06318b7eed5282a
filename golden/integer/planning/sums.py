"""What a tensor is put together from while no step makes it: rows that exist, constants and products."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from tessera.golden.integer.steps import (
    Matrix,
    Placed,
    RowSelection,
)
from tessera.golden.integer.taps import Taps
from tessera.golden.network.operators import (
    ActivationFunction,
    MixExperts,
)

LONGEST_REDUCTION = 2048
"""Inputs of a product at most; those of more go in parts, one added after the other to the residual stream."""


class NoStep(Exception):
    """One of them."""


@dataclass(frozen=True, kw_only=True)
class PendingProduct:
    """A product that no step makes yet, and the first row and channel of the sum where it is added."""

    name: str
    matrix: Matrix | None
    source: RowSelection
    rows: int
    taps: Taps | None = None
    first: int = 0
    at: int = 0
    swapped: bool = False
    experts: MixExperts | None = None
    function: ActivationFunction | None = None

    @property
    def absorbable(self) -> bool:
        """Whether what is constant of it is the same for all rows, so that the start of a stream can take it over."""
        return self.matrix is not None and not self.swapped

    @property
    def linear(self) -> bool:
        """Whether it is a matrix of rows and nothing else."""
        return self.matrix is not None and self.function is None and self.taps is None


@dataclass(frozen=True, kw_only=True)
class Sum:
    """A tensor as a sum: of rows that exist, constants and products, each at its first row."""

    rows: int
    base: RowSelection | None = None
    constants: tuple[Placed, ...] = ()
    products: tuple[PendingProduct, ...] = ()

    @property
    def lone(self) -> PendingProduct | None:
        """The product that it is alone; None for anything else."""
        alone = self.base is None and not self.constants and len(self.products) == 1
        return self.products[0] if alone and self.products[0].rows == self.rows else None

    @property
    def movable(self) -> PendingProduct | None:
        """The same, if each of its rows is a row of its source times a matrix."""
        lone = self.lone
        mixes = lone is None or lone.swapped or lone.experts is not None or lone.taps is not None
        return None if mixes else lone


def taken(rows: RowSelection, some: Sequence[int]) -> RowSelection:
    """Some of these rows."""
    return rows.within(some.start, some.stop) if isinstance(some, range) else rows.picked(tuple(some))


def together(left: Sum, right: Sum, rows: int) -> Sum:
    """The sum of two sums, of which one at most is of rows that exist."""
    return Sum(
        rows=rows,
        base=left.base or right.base,
        constants=left.constants + right.constants,
        products=left.products + right.products,
    )


def shifted(found: Sum, rows: int) -> Sum:
    """The same, behind so many rows."""
    return replace(
        found,
        constants=tuple(replace(one, first=one.first + rows) for one in found.constants),
        products=tuple(replace(one, first=one.first + rows) for one in found.products),
    )
