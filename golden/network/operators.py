"""The operators of a network: what each computes, from which tensors, and the shape of what it makes.

Shapes leave the batch out. A tensor is a matrix (rows, channels), rows being tokens, or a map (rows, columns,
channels), which is the same matrix with its tokens in row-major order. An operator's name is its tensor's name.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from enum import StrEnum
from typing import ClassVar, Literal

Shape = tuple[int, ...]
Axis = Literal["rows", "channels"]


class ActivationFunction(StrEnum):
    """Activation functions."""

    GELU = "gelu"
    """x times the normal distribution's cumulative function."""
    GELU_TANH = "gelu_tanh"
    """GELU by its approximation with a hyperbolic tangent."""
    QUICK_GELU = "quick_gelu"
    """x sigmoid(1.702 x)."""
    SILU = "silu"
    """x sigmoid(x)."""
    HARDSWISH = "hardswish"
    """x clip(x + 3, 0, 6) / 6."""
    RELU = "relu"
    """max(x, 0)."""
    SIGMOID = "sigmoid"
    """1 / (1 + exp(-x))."""
    HARD_SIGMOID = "hard_sigmoid"
    """clip(x + 3, 0, 6) / 6."""


class NormKind(StrEnum):
    """What a norm does to a row before gain and offset."""

    LAYER = "layer"
    """Takes the mean off and divides by the deviation."""
    RMS = "rms"
    """Divides by the root of the mean square."""


@dataclass(frozen=True, kw_only=True)
class Parameter:
    """Some of a named tensor of weights.

    Parameters
    ----------
    tensor:
        Name in the network's weights.
    item:
        Entry along the first axis, as of one task or one expert; None for all.
    transposed:
        Whether the matrix is to be read as (inputs, outputs).
    """

    tensor: str
    item: int | None = None
    transposed: bool = False


class UnsuitableError(ValueError):
    """An operator does not fit its sources; the message names both."""


@dataclass(frozen=True, kw_only=True)
class Operator(ABC):
    """One operator.

    Parameters
    ----------
    place:
        Where in the network it stands, such as ``layer03``; empty outside of all layers. Reports group by it.
    part:
        What it is there, such as ``norm1``.
    """

    tag: ClassVar[str]
    """Name of the kind of operator, in files."""

    place: str = ""
    part: str

    @property
    def name(self) -> str:
        """Name of the operator and of its tensor."""
        return f"{self.place}.{self.part}" if self.place else self.part

    @property
    @abstractmethod
    def sources(self) -> tuple[str, ...]:
        """Names of the tensors that it reads."""

    @abstractmethod
    def shape(self, sources: Sequence[Shape], weights: Mapping[str, Shape]) -> Shape:
        """Shape of its tensor, from those of its sources and of all weights; UnsuitableError if they do not fit."""

    @property
    def parameters(self) -> tuple[Parameter, ...]:
        """Weights that it uses."""
        found = [getattr(self, field.name) for field in fields(self)]
        flat = [one for value in found for one in (value if isinstance(value, tuple) else (value,))]
        return tuple(one for one in flat if isinstance(one, Parameter))

    @property
    def by_task(self) -> bool:
        """Whether equal sources give another result for another task."""
        return False

    def _refuse(self, why: str) -> UnsuitableError:
        return UnsuitableError(f"{self.name} ({self.tag}): {why}")

    def _parameter(self, parameter: Parameter, weights: Mapping[str, Shape]) -> Shape:
        """Shape of a parameter."""
        if parameter.tensor not in weights:
            raise self._refuse(f"no weights are called '{parameter.tensor}'")
        shape = weights[parameter.tensor]
        shape = shape if parameter.item is None else shape[1:]
        return shape[::-1] if parameter.transposed else shape

    def _axes(self, parameter: Parameter, weights: Mapping[str, Shape], count: int) -> Shape:
        """Shape of a parameter that has so many axes."""
        found = self._parameter(parameter, weights)
        if len(found) != count:
            raise self._refuse(f"'{parameter.tensor}' has the shape {found}, expected {count} axes")
        return found

    def _expect(self, what: str, found: Shape, wanted: Shape) -> None:
        if tuple(found) != tuple(wanted):
            raise self._refuse(f"{what} has the shape {tuple(found)}, expected {tuple(wanted)}")


@dataclass(frozen=True, kw_only=True)
class _OfOne(Operator):
    """An operator of one tensor."""

    source: str

    @property
    def sources(self) -> tuple[str, ...]:
        """Names of the tensors that it reads."""
        return (self.source,)


@dataclass(frozen=True, kw_only=True)
class _OfTwo(Operator):
    """An operator of two tensors."""

    left: str
    right: str

    @property
    def sources(self) -> tuple[str, ...]:
        """Names of the tensors that it reads."""
        return self.left, self.right


@dataclass(frozen=True, kw_only=True)
class PictureInput(Operator):
    """The picture (height, width, 3): bytes as byte / 256, in [0, 1)."""

    tag: ClassVar[str] = "picture"

    height: int
    width: int

    @property
    def sources(self) -> tuple[str, ...]:
        """Names of the tensors that it reads."""
        return ()

    def shape(self, sources: Sequence[Shape], weights: Mapping[str, Shape]) -> Shape:
        """Shape of its tensor."""
        return self.height, self.width, 3


@dataclass(frozen=True, kw_only=True)
class Constant(Operator):
    """Learned rows (rows, channels), the same for every picture: class token, positions."""

    tag: ClassVar[str] = "constant"

    value: Parameter

    @property
    def sources(self) -> tuple[str, ...]:
        """Names of the tensors that it reads."""
        return ()

    def shape(self, sources: Sequence[Shape], weights: Mapping[str, Shape]) -> Shape:
        """Shape of its tensor."""
        shape = self._parameter(self.value, weights)
        while len(shape) > 2 and shape[0] == 1:
            shape = shape[1:]
        if len(shape) not in (2, 3):
            raise self._refuse(f"its value has the shape {shape}; expected (rows, channels)")
        return shape


@dataclass(frozen=True, kw_only=True)
class Linear(_OfOne):
    """Every row times a matrix: ``weight`` (outputs, inputs), ``bias`` (outputs,) or None."""

    tag: ClassVar[str] = "linear"

    weight: Parameter
    bias: Parameter | None = None

    def shape(self, sources: Sequence[Shape], weights: Mapping[str, Shape]) -> Shape:
        """Shape of its tensor."""
        outputs, inputs = self._axes(self.weight, weights, 2)
        self._expect("a row of its source", sources[0][-1:], (inputs,))
        if self.bias is not None:
            self._expect("its bias", self._parameter(self.bias, weights), (outputs,))
        return (*sources[0][:-1], outputs)


@dataclass(frozen=True, kw_only=True)
class Convolution(_OfOne):
    """A convolution over a map: ``weight`` (outputs, inputs of a group, rows, columns), ``bias`` (outputs,) or None.

    Parameters
    ----------
    stride:
        Down and across.
    padding:
        Zeros above, left of, below and right of the map.
    groups:
        Parts of the channels that do not mix; the number of channels for a depthwise convolution.
    """

    tag: ClassVar[str] = "convolution"

    weight: Parameter
    bias: Parameter | None = None
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int, int, int] = (0, 0, 0, 0)
    groups: int = 1

    def shape(self, sources: Sequence[Shape], weights: Mapping[str, Shape]) -> Shape:
        """Shape of its tensor."""
        if len(sources[0]) != 3:
            raise self._refuse(f"its source has the shape {sources[0]}; expected a map (rows, columns, channels)")
        (outputs, inputs, *kernel), (*size, channels) = self._axes(self.weight, weights, 4), sources[0]
        self._expect("a position of its source", (channels,), (inputs * self.groups,))
        padded = [size[axis] + self.padding[axis] + self.padding[axis + 2] for axis in range(2)]
        made = [(padded[axis] - kernel[axis]) // self.stride[axis] + 1 for axis in range(2)]
        if min(made) < 1 or outputs % self.groups:
            raise self._refuse(f"a kernel of {kernel} in {self.groups} groups does not fit {sources[0]}")
        return (*made, outputs)


@dataclass(frozen=True, kw_only=True)
class Normalise(_OfOne):
    """A norm of every row over its channels, then a gain ``weight`` and an offset ``bias`` for each channel."""

    tag: ClassVar[str] = "normalise"

    weight: Parameter
    bias: Parameter | None = None
    epsilon: float
    kind: NormKind = NormKind.LAYER

    def shape(self, sources: Sequence[Shape], weights: Mapping[str, Shape]) -> Shape:
        """Shape of its tensor."""
        for what, parameter in (("its gain", self.weight), ("its offset", self.bias)):
            if parameter is not None:
                self._expect(what, self._parameter(parameter, weights), sources[0][-1:])
        return tuple(sources[0])


@dataclass(frozen=True, kw_only=True)
class Activate(_OfOne):
    """An activation function of every value."""

    tag: ClassVar[str] = "activate"

    function: ActivationFunction

    def shape(self, sources: Sequence[Shape], weights: Mapping[str, Shape]) -> Shape:
        """Shape of its tensor."""
        return tuple(sources[0])


@dataclass(frozen=True, kw_only=True)
class Add(_OfTwo):
    """The sum of two tensors of one shape."""

    tag: ClassVar[str] = "add"

    def shape(self, sources: Sequence[Shape], weights: Mapping[str, Shape]) -> Shape:
        """Shape of its tensor."""
        self._expect(f"'{self.right}'", sources[1], sources[0])
        return tuple(sources[0])


@dataclass(frozen=True, kw_only=True)
class Multiply(_OfTwo):
    """The product of two tensors of one shape, value by value."""

    tag: ClassVar[str] = "multiply"

    def shape(self, sources: Sequence[Shape], weights: Mapping[str, Shape]) -> Shape:
        """Shape of its tensor."""
        self._expect(f"'{self.right}'", sources[1], sources[0])
        return tuple(sources[0])


@dataclass(frozen=True, kw_only=True)
class Attend(Operator):
    """Softmax attention: each query's mean of the values, by ``softmax(scale * query . key + bias)`` over the keys.

    Parameters
    ----------
    query, key, value:
        (queries, D), (keys, D) and (keys, E); heads are contiguous blocks of channels.
    heads:
        Number of heads.
    scale:
        Factor of the products.
    windows:
        Equal parts of the rows, in order, each of which attends to itself alone.
    bias:
        (heads, queries, keys) of a window that is added to the scores, or (windows, heads, queries, keys) where windows
        differ; None for none.
    """

    tag: ClassVar[str] = "attend"

    query: str
    key: str
    value: str
    heads: int
    scale: float
    windows: int = 1
    bias: Parameter | None = None

    @property
    def sources(self) -> tuple[str, ...]:
        """Names of the tensors that it reads."""
        return self.query, self.key, self.value

    def shape(self, sources: Sequence[Shape], weights: Mapping[str, Shape]) -> Shape:
        """Shape of its tensor."""
        query, key, value = sources
        self._expect("a key", key[-1:], query[-1:])
        self._expect("the number of values", value[:-1], key[:-1])
        if query[-1] % self.heads or value[-1] % self.heads:
            raise self._refuse(f"{query[-1]} and {value[-1]} channels are no whole number of {self.heads} heads")
        queries, keys = math.prod(query[:-1]), math.prod(key[:-1])
        if queries % self.windows or keys % self.windows:
            raise self._refuse(f"{queries} queries and {keys} keys are no whole number of {self.windows} windows")
        if self.bias is not None:
            found = self._parameter(self.bias, weights)
            one = (self.heads, queries // self.windows, keys // self.windows)
            self._expect("its bias", found, one if len(found) == 3 else (self.windows, *one))
        return (*query[:-1], value[-1])


@dataclass(frozen=True, kw_only=True)
class MixExperts(_OfOne):
    """A mixture of experts: each row goes through the experts that its task's gate chooses (M3ViT, NeurIPS 2022).

    The weights of the chosen are the largest probabilities of a softmax over all experts, not normalised again. Equal
    logits go to the lower index.

    Parameters
    ----------
    gates:
        (channels, experts) for each task: logits are ``row @ gate``.
    embeddings:
        Values that are appended to every row before a task's gate; empty for none.
    first_weight, first_bias, second_weight, second_bias:
        The experts' two layers, stacked: (experts, hidden, channels), (experts, hidden), (experts, channels, hidden),
        (experts, channels).
    function:
        Activation between them.
    top_k:
        Experts of each row.
    """

    tag: ClassVar[str] = "mix_experts"

    gates: tuple[Parameter, ...]
    embeddings: tuple[Parameter, ...] = ()
    first_weight: Parameter
    first_bias: Parameter
    second_weight: Parameter
    second_bias: Parameter
    function: ActivationFunction = ActivationFunction.GELU
    top_k: int

    @property
    def by_task(self) -> bool:
        """Whether equal sources give another result for another task."""
        return True

    def experts(self, weights: Mapping[str, Shape]) -> int:
        """Number of experts."""
        return self._parameter(self.first_weight, weights)[0]

    def hidden(self, weights: Mapping[str, Shape]) -> int:
        """Hidden channels of an expert."""
        return self._parameter(self.first_weight, weights)[1]

    def shape(self, sources: Sequence[Shape], weights: Mapping[str, Shape]) -> Shape:
        """Shape of its tensor."""
        experts, hidden, channels = self._parameter(self.first_weight, weights)
        self._expect("a row of its source", sources[0][-1:], (channels,))
        self._expect("its first bias", self._parameter(self.first_bias, weights), (experts, hidden))
        self._expect("its second matrix", self._parameter(self.second_weight, weights), (experts, channels, hidden))
        self._expect("its second bias", self._parameter(self.second_bias, weights), (experts, channels))
        for index, gate in enumerate(self.gates):
            added = self._parameter(self.embeddings[index], weights) if self.embeddings else (0,)
            self._expect(f"gate {index}", self._parameter(gate, weights), (channels + added[0], experts))
        if not 1 <= self.top_k <= experts:
            raise self._refuse(f"top_k is {self.top_k}, expected 1 to the number of experts ({experts})")
        return tuple(sources[0])


@dataclass(frozen=True, kw_only=True)
class Join(Operator):
    """Matrices one after another, along rows or channels."""

    tag: ClassVar[str] = "join"

    parts: tuple[str, ...]
    axis: Axis

    @property
    def sources(self) -> tuple[str, ...]:
        """Names of the tensors that it reads."""
        return self.parts

    def shape(self, sources: Sequence[Shape], weights: Mapping[str, Shape]) -> Shape:
        """Shape of its tensor."""
        if self.axis == "channels":
            for source in sources:
                self._expect("a part, without its channels,", source[:-1], sources[0][:-1])
            return (*sources[0][:-1], sum(source[-1] for source in sources))
        for source in sources:
            self._expect("a row of a part", source[1:], sources[0][1:])
        return (sum(source[0] for source in sources), *sources[0][1:])


@dataclass(frozen=True, kw_only=True)
class Part(_OfOne):
    """Rows or channels from ``start`` up to and without ``stop``."""

    tag: ClassVar[str] = "part"

    axis: Axis
    start: int
    stop: int

    def shape(self, sources: Sequence[Shape], weights: Mapping[str, Shape]) -> Shape:
        """Shape of its tensor."""
        size = sources[0][0 if self.axis == "rows" else -1]
        if not 0 <= self.start < self.stop <= size:
            raise self._refuse(f"{self.axis} {self.start} to {self.stop} lie outside the {size} of '{self.source}'")
        count = self.stop - self.start
        return (count, *sources[0][1:]) if self.axis == "rows" else (*sources[0][:-1], count)


@dataclass(frozen=True, kw_only=True)
class Gather(_OfOne):
    """Rows by a list: windows, shifts, strides, kept tokens. A row may come several times."""

    tag: ClassVar[str] = "gather"

    rows: tuple[int, ...]

    def shape(self, sources: Sequence[Shape], weights: Mapping[str, Shape]) -> Shape:
        """Shape of its tensor."""
        count = math.prod(sources[0][:-1])
        if not all(0 <= row < count for row in self.rows):
            raise self._refuse(f"rows {min(self.rows)} to {max(self.rows)} lie outside the {count} of '{self.source}'")
        return (len(self.rows), sources[0][-1])


@dataclass(frozen=True, kw_only=True)
class Scale(_OfOne):
    """A factor for each channel, ``weight`` (channels,), and an offset ``bias``, or None."""

    tag: ClassVar[str] = "scale"

    weight: Parameter
    bias: Parameter | None = None

    def shape(self, sources: Sequence[Shape], weights: Mapping[str, Shape]) -> Shape:
        """Shape of its tensor."""
        for what, parameter in (("its factors", self.weight), ("its offsets", self.bias)):
            if parameter is not None:
                self._expect(what, self._parameter(parameter, weights), sources[0][-1:])
        return tuple(sources[0])


@dataclass(frozen=True, kw_only=True)
class Transpose(_OfOne):
    """Rows as channels and channels as rows."""

    tag: ClassVar[str] = "transpose"

    def shape(self, sources: Sequence[Shape], weights: Mapping[str, Shape]) -> Shape:
        """Shape of its tensor."""
        return (sources[0][-1], math.prod(sources[0][:-1]))


@dataclass(frozen=True, kw_only=True)
class Mean(_OfOne):
    """The mean of all rows: (1, channels)."""

    tag: ClassVar[str] = "mean"

    def shape(self, sources: Sequence[Shape], weights: Mapping[str, Shape]) -> Shape:
        """Shape of its tensor."""
        return (1, sources[0][-1])


@dataclass(frozen=True, kw_only=True)
class AveragePool(_OfOne):
    """The mean of a window of a map at every position of a stride.

    Parameters
    ----------
    kernel, stride:
        Down and across.
    padding:
        Rows and columns around the map.
    count_padding:
        Whether padding counts among the values whose mean is taken, as zeros.
    """

    tag: ClassVar[str] = "average_pool"

    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int] = (0, 0)
    count_padding: bool = True

    def shape(self, sources: Sequence[Shape], weights: Mapping[str, Shape]) -> Shape:
        """Shape of its tensor."""
        if len(sources[0]) != 3:
            raise self._refuse(f"its source has the shape {sources[0]}; expected a map (rows, columns, channels)")
        size = [sources[0][axis] + 2 * self.padding[axis] - self.kernel[axis] for axis in range(2)]
        return (*(size[axis] // self.stride[axis] + 1 for axis in range(2)), sources[0][-1])


@dataclass(frozen=True, kw_only=True)
class Enlarge(_OfOne):
    """A map twice as high and wide, by bilinear interpolation between the centres of its positions."""

    tag: ClassVar[str] = "enlarge"

    def shape(self, sources: Sequence[Shape], weights: Mapping[str, Shape]) -> Shape:
        """Shape of its tensor."""
        if len(sources[0]) != 3:
            raise self._refuse(f"its source has the shape {sources[0]}; expected a map (rows, columns, channels)")
        return (2 * sources[0][0], 2 * sources[0][1], sources[0][2])


@dataclass(frozen=True, kw_only=True)
class Reshape(_OfOne):
    """The same values in their order in another arrangement: a map as tokens, or several rows as one."""

    tag: ClassVar[str] = "reshape"

    to: Shape

    def shape(self, sources: Sequence[Shape], weights: Mapping[str, Shape]) -> Shape:
        """Shape of its tensor."""
        if math.prod(self.to) != math.prod(sources[0]):
            raise self._refuse(f"{sources[0]} cannot be arranged as {self.to}, which has another number of values")
        return self.to


KINDS: dict[str, type[Operator]] = {
    kind.tag: kind
    for kind in (
        PictureInput,
        Constant,
        Linear,
        Convolution,
        Normalise,
        Activate,
        Add,
        Multiply,
        Attend,
        MixExperts,
        Join,
        Part,
        Gather,
        Scale,
        Transpose,
        Mean,
        AveragePool,
        Enlarge,
        Reshape,
    )
}
"""Every kind of operator by its tag."""
