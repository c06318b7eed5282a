"""Steps: what the machine does of a network, each with the tensor that it makes; the same for every number format.

A step is what one unit does at a time: operators that the machine does at once are one step, and operators that only
name parts of tensors are none. Tensors are matrices (rows, channels). Those of the *residual stream* have a fixed
binary point and can be added to; *activations* have a scale for each channel; *positive* activations are what an
activation function leaves, unsigned with a zero point.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any, ClassVar, TypeVar

import numpy as np

from tessera.golden.integer.taps import Taps
from tessera.golden.network.operators import ActivationFunction, NormKind, Parameter

Pixels = TypeVar("Pixels", bound=Any)
"""An array or a tensor of pixels."""


@dataclass(frozen=True, kw_only=True)
class RowSelection:
    """Some rows of a tensor.

    Parameters
    ----------
    tensor:
        Its name.
    start, stop:
        The first row, and the one after the last, among those of ``listed`` if there is a list.
    listed:
        Rows of the tensor in another order; None for all in their own.
    fold:
        Rows, one after another, whose channels are those of one row.
    split:
        Equal parts of a row that are rows of their own, such as the heads of queries.
    """

    tensor: str
    start: int
    stop: int
    listed: tuple[int, ...] | None = None
    fold: int = 1
    split: int = 1

    def __len__(self) -> int:
        return (self.stop - self.start) // self.fold * self.split

    def of(self, values: np.ndarray) -> np.ndarray:
        """The rows of the tensor's ``values`` (rows, channels)."""
        found = values if self.listed is None else values[list(self.listed)]
        found = found[self.start : self.stop]
        return found.reshape(len(self), -1) if self.fold * self.split > 1 else found

    def within(self, start: int, stop: int) -> RowSelection:
        """Some of these rows, counted from the first."""
        assert self.split == 1
        first = self.start + start * self.fold
        return replace(self, start=first, stop=first + (stop - start) * self.fold)

    def picked(self, rows: tuple[int, ...]) -> RowSelection:
        """These rows by a list, counted from the first."""
        assert self.split == 1
        known = range(self.stop) if self.listed is None else self.listed
        listed = tuple(known[self.start + row * self.fold + part] for row in rows for part in range(self.fold))
        return replace(self, start=0, stop=len(listed), listed=listed)

    @property
    def plain(self) -> bool:
        """Whether the rows follow each other as they are."""
        return self.listed is None and self.fold == self.split == 1

    @property
    def rows(self) -> slice:
        """The rows of the tensor, where they follow each other."""
        assert self.plain
        return slice(self.start, self.stop)


@dataclass(frozen=True, kw_only=True)
class Step(ABC):
    """One step.

    Parameters
    ----------
    place:
        Where in the network it stands, as its operator does.
    part:
        What it is there.
    rows, channels:
        Of the tensor that it makes.
    tasks:
        Indices of the tasks that need it; None for all.
    """

    tag: ClassVar[str]

    place: str = ""
    part: str
    rows: int
    channels: int
    tasks: tuple[int, ...] | None = None

    @property
    def name(self) -> str:
        """Name of the step and of the tensor that it makes."""
        return f"{self.place}.{self.part}" if self.place else self.part

    @property
    @abstractmethod
    def reads(self) -> tuple[RowSelection, ...]:
        """What it reads."""

    @property
    def positive(self) -> bool:
        """Whether its tensor is unsigned: pixels, and what activation functions leave."""
        return False

    def inner(self, part: str) -> str:
        """Name of another tensor that it makes, such as attention's ``scores``."""
        return f"{self.name}.{part}"

    def runs(self, task: int) -> bool:
        """Whether ``task`` needs it."""
        return self.tasks is None or task in self.tasks


@dataclass(frozen=True, kw_only=True)
class PatchStep(Step):
    """Cut the picture into patches: pixels (patches, 3 patch patch) in the order channel, row, column.

    ``picture`` is the name of the picture's operator, ``grid`` has the patches down and across.
    """

    tag: ClassVar[str] = "patch"

    picture: str
    patch: int
    grid: tuple[int, int]

    def cut(self, pixels: Pixels) -> Pixels:
        """The patches (..., patches, values of a patch) of an array or tensor ``pixels`` (..., rows, columns, 3)."""
        (rows, columns), patch, before = self.grid, self.patch, pixels.shape[:-3]
        parts = pixels[..., : rows * patch, : columns * patch, :].reshape(*before, rows, patch, columns, patch, 3)
        parts = parts.swapaxes(-4, -3).swapaxes(-2, -1).swapaxes(-3, -2)  # (..., row, column, colour, y, x)
        return parts.reshape(*before, self.rows, self.channels)

    @property
    def positive(self) -> bool:
        """Whether its tensor is unsigned."""
        return True

    @property
    def reads(self) -> tuple[RowSelection, ...]:
        """What it reads."""
        return ()


@dataclass(frozen=True, kw_only=True)
class Placed:
    """A constant's place: its first row in the stream that it becomes a part of."""

    value: Parameter
    first: int
    rows: int


class MatrixKind(StrEnum):
    """What a matrix is made of."""

    FULL = "full"
    """A weight (outputs, inputs), or a convolution's filters, of which each is a row."""
    DIAGONAL = "diagonal"
    """A factor (outputs,) for each input, or for every few inputs one after another, and as many offsets."""
    MEAN = "mean"
    """Equal shares of every input."""
    BILINEAR = "bilinear"
    """9, 3, 3 and 1 sixteenths: a position of a map, its neighbours in a line and in a column, and the one between."""
    UNCHANGED = "unchanged"
    """Nothing: rows stay as they are."""
    ZERO = "zero"
    """Nothing: every value becomes 0."""


@dataclass(frozen=True, kw_only=True)
class Matrix:
    """A matrix of weights, with its bias.

    Parameters
    ----------
    kind:
        What it is made of.
    weight, bias:
        Its values, and (outputs,); None where there are none.
    start, stop:
        Outputs that are used.
    """

    kind: MatrixKind = MatrixKind.FULL
    weight: Parameter | None = None
    bias: Parameter | None = None
    start: int = 0
    stop: int


@dataclass(frozen=True, kw_only=True)
class Absorbed:
    """What the start of a stream takes over from a product that is added to it.

    Parameters
    ----------
    product:
        Name of the product's operator.
    matrix:
        Its matrix, with the bias.
    first, rows, at:
        The rows of the stream that it is added to, and the first channel.
    """

    product: str
    matrix: Matrix
    first: int
    rows: int
    at: int = 0


@dataclass(frozen=True, kw_only=True)
class StreamStep(Step):
    """Begin a residual stream with constant rows.

    Parameters
    ----------
    constants:
        What is summed.
    absorbed:
        What is constant of the products that follow; these have no bias then.
    """

    tag: ClassVar[str] = "stream"

    constants: tuple[Placed, ...]
    absorbed: tuple[Absorbed, ...] = ()

    @property
    def reads(self) -> tuple[RowSelection, ...]:
        """What it reads."""
        return ()


@dataclass(frozen=True, kw_only=True)
class ProductStep(Step):
    """RowSelection times a matrix.

    Parameters
    ----------
    source:
        The rows.
    matrix:
        The weights.
    taps:
        The windows of the rows, which are a map's positions, that are multiplied; None for the rows themselves.
    inputs:
        First channel of the source that is read, and the one after the last, where a product goes in parts; None for
        all.
    onto:
        Rows of a residual stream that the result is added to; None if it is a tensor of its own. ``rows`` and
        ``channels`` are then those of the whole stream.
    at:
        First channel of the stream that the result is added to, if it has not all of them.
    factor:
        Whether the rows of ``onto`` are multiplied by the result, behind its function, instead.
    function:
        Activation function of the result, which becomes positive; None for none.
    residual:
        Whether the result has the residual stream's format.
    swapped:
        Whether outputs become rows, and the source's rows channels.
    apart:
        Whether the parts of a folded row go through the matrix one by one, each to outputs of its own.
    product:
        Name of the operator whose tensor the product alone is; ``name`` unless it is added.
    absorbed:
        Whether the start of the stream that it is added to takes over what is constant of it.
    """

    tag: ClassVar[str] = "product"

    source: RowSelection
    matrix: Matrix
    taps: Taps | None = None
    inputs: tuple[int, int] | None = None
    onto: RowSelection | None = None
    at: int = 0
    factor: bool = False
    function: ActivationFunction | None = None
    residual: bool = False
    swapped: bool = False
    apart: bool = False
    product: str
    absorbed: bool = False

    @property
    def reads(self) -> tuple[RowSelection, ...]:
        """What it reads."""
        return (self.source,) if self.onto is None else (self.source, self.onto)

    @property
    def span(self) -> slice:
        """Channels of its tensor that it makes."""
        whole = self.onto is None or self.swapped
        return slice(0, self.channels) if whole else slice(self.at, self.at + self.matrix.stop - self.matrix.start)

    @property
    def operand(self) -> RowSelection:
        """Rows as the matrix takes them: those of the source, or the parts of each."""
        return replace(self.source, fold=1) if self.apart else self.source

    @property
    def positive(self) -> bool:
        """Whether its tensor is unsigned."""
        return self.function is not None and not self.factor


@dataclass(frozen=True, kw_only=True)
class NormStep(Step):
    """Normalise rows of the residual stream, or take them as they are; gain and offset belong to the weights behind.

    Parameters
    ----------
    source:
        The rows.
    weight, bias:
        Gain and offset; None for neither.
    epsilon, kind:
        As the operator has them; ``kind`` is None for a copy of the stream.
    rectified:
        Whether what is negative of a copy becomes 0, and the copy positive.
    wide:
        Whether a gate reads it with 16 bits: a tensor of the name with ``_wide``.
    """

    tag: ClassVar[str] = "norm"

    source: RowSelection
    weight: Parameter | None
    bias: Parameter | None
    epsilon: float
    kind: NormKind | None
    rectified: bool = False
    wide: bool = False

    @property
    def positive(self) -> bool:
        """Whether its tensor is unsigned."""
        return self.rectified

    @property
    def reads(self) -> tuple[RowSelection, ...]:
        """What it reads."""
        return (self.source,)


@dataclass(frozen=True, kw_only=True)
class AttentionStep(Step):
    """Softmax attention.

    Parameters
    ----------
    query, key, value:
        Rows of each.
    heads:
        Heads, blocks of channels of each.
    scale:
        Factor of the products of queries and keys.
    windows:
        Equal parts of the rows, in order, each of which attends to itself alone.
    bias:
        (heads, queries, keys), or (windows, heads, queries, keys), that is added to the scores; None for none.
    """

    tag: ClassVar[str] = "attention"

    query: RowSelection
    key: RowSelection
    value: RowSelection
    heads: int
    scale: float
    windows: int = 1
    bias: Parameter | None = None

    @property
    def reads(self) -> tuple[RowSelection, ...]:
        """What it reads."""
        return self.query, self.key, self.value


@dataclass(frozen=True, kw_only=True)
class ExpertsStep(Step):
    """Route rows to experts, and add what they make to the residual stream.

    Parameters
    ----------
    source:
        Rows of a norm, of which the gate reads the wide ones.
    onto:
        Rows of the residual stream.
    gates, embeddings:
        As the operator has them.
    first_weight, first_bias, second_weight, second_bias, function, top_k:
        As the operator has them.
    experts, hidden:
        Number of experts, and hidden channels of each.
    product:
        Name of the operator.
    """

    tag: ClassVar[str] = "experts"

    source: RowSelection
    onto: RowSelection
    gates: tuple[Parameter, ...]
    embeddings: tuple[Parameter, ...]
    first_weight: Parameter
    first_bias: Parameter
    second_weight: Parameter
    second_bias: Parameter
    function: ActivationFunction
    top_k: int
    experts: int
    hidden: int
    product: str

    @property
    def reads(self) -> tuple[RowSelection, ...]:
        """What it reads."""
        return self.source, self.onto

    def inner(self, part: str) -> str:
        """Name of another tensor that it makes, such as ``gate_scores``: under the operator's name."""
        return f"{self.product}.{part}"
