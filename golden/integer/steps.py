"""Steps: what the machine does of a network, each with the tensor that it makes; the same for every number format.

A step is what one unit does at a time: operators that the machine does at once are one step, and operators that only
name parts of tensors are none. Tensors are matrices (rows, channels). Those of the *residual stream* have a fixed
binary point and can be added to; *activations* have a scale for each channel; *positive* activations are what an
activation function leaves, unsigned with a zero point.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

from tessera.golden.network.operators import Function, NormKind, Parameter


@dataclass(frozen=True, kw_only=True)
class Rows:
    """Some rows of a tensor.

    Parameters
    ----------
    tensor:
        Its name.
    start, stop:
        The first row, and the one after the last.
    """

    tensor: str
    start: int
    stop: int

    def __len__(self) -> int:
        return self.stop - self.start

    @property
    def rows(self) -> slice:
        """The rows of the tensor."""
        return slice(self.start, self.stop)

    def within(self, start: int, stop: int) -> Rows:
        """Some of these rows, counted from the first."""
        return Rows(tensor=self.tensor, start=self.start + start, stop=self.start + stop)


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
    def reads(self) -> tuple[Rows, ...]:
        """What it reads."""

    def inner(self, part: str) -> str:
        """Name of another tensor that it makes, such as attention's ``scores``."""
        return f"{self.name}.{part}"

    def runs(self, task: int) -> bool:
        """Whether ``task`` needs it."""
        return self.tasks is None or task in self.tasks


@dataclass(frozen=True, kw_only=True)
class PatchStep(Step):
    """Cut the picture into patches: pixels (patches, 3 patch patch) in the order channel, row, column.

    ``grid`` has the patches down and across.
    """

    tag: ClassVar[str] = "patch"

    patch: int
    grid: tuple[int, int]

    @property
    def reads(self) -> tuple[Rows, ...]:
        """What it reads."""
        return ()


@dataclass(frozen=True, kw_only=True)
class Placed:
    """A constant's place: its first row in the stream that it becomes a part of."""

    value: Parameter
    first: int
    rows: int


@dataclass(frozen=True, kw_only=True)
class Absorbed:
    """What the start of a stream takes over from a product that is added to it.

    Parameters
    ----------
    product:
        Name of the product's operator.
    bias:
        Its bias, or None.
    first, rows:
        The rows of the stream that it is added to.
    """

    product: str
    bias: Parameter | None
    first: int
    rows: int


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
    def reads(self) -> tuple[Rows, ...]:
        """What it reads."""
        return ()


@dataclass(frozen=True, kw_only=True)
class Matrix:
    """A matrix of weights, with its bias.

    Parameters
    ----------
    weight:
        (outputs, inputs), or a convolution's filters, of which each is a row.
    bias:
        (outputs,), or None.
    start, stop:
        Outputs that are used.
    """

    weight: Parameter
    bias: Parameter | None
    start: int
    stop: int


@dataclass(frozen=True, kw_only=True)
class ProductStep(Step):
    """Rows times a matrix.

    Parameters
    ----------
    source:
        The rows.
    matrix:
        The weights.
    onto:
        Rows of a residual stream that the result is added to; None if it is a tensor of its own. ``rows`` and
        ``channels`` are then those of the whole stream.
    function:
        Activation function of the result, which becomes positive; None for none.
    residual:
        Whether the result has the residual stream's format.
    product:
        Name of the operator whose tensor the product alone is; ``name`` unless it is added.
    """

    tag: ClassVar[str] = "product"

    source: Rows
    matrix: Matrix
    onto: Rows | None = None
    function: Function | None = None
    residual: bool = False
    product: str

    @property
    def reads(self) -> tuple[Rows, ...]:
        """What it reads."""
        return (self.source,) if self.onto is None else (self.source, self.onto)


@dataclass(frozen=True, kw_only=True)
class NormStep(Step):
    """Normalise rows of the residual stream; gain and offset belong to the weights that follow.

    Parameters
    ----------
    source:
        The rows.
    weight, bias:
        Gain and offset; None for neither.
    epsilon, kind:
        As the operator has them.
    wide:
        Whether a gate reads it with 16 bits: a tensor of the name with ``_wide``.
    """

    tag: ClassVar[str] = "norm"

    source: Rows
    weight: Parameter | None
    bias: Parameter | None
    epsilon: float
    kind: NormKind
    wide: bool = False

    @property
    def reads(self) -> tuple[Rows, ...]:
        """What it reads."""
        return (self.source,)


@dataclass(frozen=True, kw_only=True)
class AttentionStep(Step):
    """Softmax attention; ``scale`` is the factor of the products of queries and keys."""

    tag: ClassVar[str] = "attention"

    query: Rows
    key: Rows
    value: Rows
    heads: int
    scale: float

    @property
    def reads(self) -> tuple[Rows, ...]:
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

    source: Rows
    onto: Rows
    gates: tuple[Parameter, ...]
    embeddings: tuple[Parameter, ...]
    first_weight: Parameter
    first_bias: Parameter
    second_weight: Parameter
    second_bias: Parameter
    function: Function
    top_k: int
    experts: int
    hidden: int
    product: str

    @property
    def reads(self) -> tuple[Rows, ...]:
        """What it reads."""
        return self.source, self.onto

    def inner(self, part: str) -> str:
        """Name of another tensor that it makes, such as ``gate_scores``: under the operator's name."""
        return f"{self.product}.{part}"
