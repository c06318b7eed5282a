"""Random small networks, composed of the operators that the machine has in ways that nobody thought of.

A network begins with patches of a picture. Then come *moves*, each of which reads tensors that are there and makes
others: single operators, and blocks such as a gated MLP. What some of them have in common, such as two products of one
norm, a stream that is read again, or rows of rows, comes by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch
from hypothesis import strategies as st
from numpy.typing import NDArray

from tessera.golden.network.compute import FloatNetwork
from tessera.golden.network.network import Network, Task
from tessera.golden.network.operators import (
    Activate,
    ActivationFunction,
    Add,
    Attend,
    AveragePool,
    Constant,
    Convolution,
    Enlarge,
    Gather,
    Join,
    Linear,
    Mean,
    MixExperts,
    Multiply,
    Normalise,
    NormKind,
    Operator,
    Parameter,
    Part,
    PictureInput,
    Reshape,
    Scale,
    Transpose,
)

MOST_MOVES = 6
MOST_CHANNELS = 40
"""The smallest machine holds a row of at most so many channels for V."""

Choose = Callable[[Sequence[Any]], Any]


@dataclass(frozen=True)
class RandomNetwork:
    """A network with random weights, which shows its operators where a test fails."""

    model: FloatNetwork
    seed: int

    @property
    def network(self) -> Network:
        """The graph."""
        return self.model.network

    def images(self, count: int) -> NDArray[np.uint8]:
        """Random pictures that it takes, (count, 3, H, W)."""
        size = (count, 3, self.network.image_height, self.network.image_width)
        return np.random.default_rng(self.seed + 1).integers(0, 256, size).astype(np.uint8)

    def __repr__(self) -> str:
        lines = [f"network of seed {self.seed}:"]
        for one in self.network.operators:
            known = {"place", "part", "source", "left", "right", "parts", "query", "key", "value"}
            rest = {field.name: getattr(one, field.name) for field in fields(one) if field.name not in known}
            said = ", ".join(f"{name}={_short(value)}" for name, value in rest.items() if value not in (None, ()))
            reads = " < " + ", ".join(one.sources) if one.sources else ""
            lines.append(f"  {one.name}: {one.tag} {self.network.shapes[one.name]}{reads}  {said}")
        return "\n".join([*lines, f"  results: {', '.join(task.result for task in self.network.tasks)}"])


def _short(value: Any) -> str:
    if isinstance(value, Parameter):
        return value.tensor
    if isinstance(value, tuple) and value and isinstance(value[0], Parameter):
        return "/".join(one.tensor for one in value)
    return str(value)


@st.composite
def random_networks(draw: st.DrawFn) -> RandomNetwork:
    """A strategy of networks; what it draws first is simplest."""
    return made_network(lambda options: draw(st.sampled_from(list(options))), draw(st.integers(0, 2**16)))


def made_network(choose: Choose, seed: int) -> RandomNetwork:
    """A network by a function that takes one of several options."""
    maker = _Maker(choose, seed)
    maker.begin()
    for _ in range(choose(range(1, MOST_MOVES + 1))):
        choose(MOVES)(maker)
    return RandomNetwork(maker.finished(), seed)


class _Maker:
    """Collects operators; ``choose`` decides, the seed makes the weights."""

    def __init__(self, choose: Choose, seed: int) -> None:
        self.choose = choose
        self.generator = np.random.default_rng(seed)
        self.operators: list[Operator] = []
        self.weights: dict[str, torch.Tensor] = {}
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.place = ""
        self.tasks = choose((1, 2))

    # What moves are made of -------------------------------------------------------------------------------------------

    def add(self, make: type[Operator], **given: Any) -> str:
        """Append an operator; the name of its tensor."""
        part = f"{make.tag}{sum(one.tag == make.tag for one in self.operators)}"
        operator = make(place=self.place, part=part, **given)
        weights = {name: tuple(value.shape) for name, value in self.weights.items()}
        self.shapes[operator.name] = operator.shape([self.shapes[name] for name in operator.sources], weights)
        self.operators.append(operator)
        return operator.name

    def weight(self, *shape: int, size: float = 1.0, about: float = 0.0) -> Parameter:
        """Random weights."""
        name = f"w{len(self.weights)}"
        self.weights[name] = torch.from_numpy(about + size * self.generator.standard_normal(shape)).float()
        return Parameter(tensor=name)

    def matrices(self, fits: Callable[[tuple[int, ...]], bool] = lambda shape: True) -> list[str]:
        """Tensors of two axes, the newest first."""
        return [name for name, shape in reversed(self.shapes.items()) if len(shape) == 2 and fits(shape)]

    def some(self, fits: Callable[[tuple[int, ...]], bool] = lambda shape: True) -> str:
        """One of the newest tensors that fit; the newest of all if none does."""
        return self.choose((self.matrices(fits) or self.matrices())[:4])

    def linear(self, source: str, outputs: int, *, size: float = 1.0) -> str:
        """A product, with or without bias."""
        inputs = self.shapes[source][-1]
        bias = self.weight(outputs, size=0.5) if self.choose((True, False)) else None
        return self.add(Linear, source=source, weight=self.weight(outputs, inputs, size=size * inputs**-0.5), bias=bias)

    def norm(self, source: str) -> str:
        """A norm of either kind, with or without offset."""
        channels = self.shapes[source][-1]
        bias = self.weight(channels, size=0.3) if self.choose((True, False)) else None
        kind = self.choose((NormKind.LAYER, NormKind.RMS))
        gain = self.weight(channels, size=0.2, about=1.0)
        return self.add(Normalise, source=source, weight=gain, bias=bias, epsilon=1e-5, kind=kind)

    def function(self, source: str) -> str:
        """An activation function."""
        return self.add(Activate, source=source, function=self.choose(tuple(ActivationFunction)))

    def onto(self, source: str) -> str:
        """Sometimes the sum with another tensor of the same shape."""
        other = self.matrices(lambda shape: shape == self.shapes[source])[1:4]
        return self.add(Add, left=self.choose(other), right=source) if other and self.choose((True, False)) else source

    def begin(self) -> None:
        """A picture's patches, with or without a class token and positions."""
        patch, (down, across) = self.choose((4, 8)), self.choose(((2, 2), (1, 4), (2, 3), (3, 3)))
        dim = self.choose((8, 12, 16, 6))
        picture = self.add(PictureInput, height=down * patch, width=across * patch)
        weight = self.weight(dim, 3, patch, patch, size=(3 * patch * patch) ** -0.5 * 4)
        bias = self.weight(dim, size=0.5) if self.choose((True, False)) else None
        cut = self.add(Convolution, source=picture, weight=weight, bias=bias, stride=(patch, patch))
        tokens = self.add(Reshape, source=cut, to=(down * across, dim))
        if self.choose((False, True)):
            first = self.add(Constant, value=self.weight(1, dim))
            tokens = self.add(Join, parts=(first, tokens), axis="rows")
        if self.choose((False, True)):
            self.add(Add, left=tokens, right=self.add(Constant, value=self.weight(*self.shapes[tokens])))

    def finished(self) -> FloatNetwork:
        """The network; its results are the newest tensor and, of two tasks, another."""
        found = self.matrices(lambda shape: shape[1] <= MOST_CHANNELS)
        results = [found[0], self.choose(found[:4])][: self.tasks]
        tasks = tuple(
            Task(name=f"task{n}", kind="features", channels=0, cells=0, result=name, grid=(1, self.shapes[name][0]))
            for n, name in enumerate(results)
        )
        needed = set(results)
        for operator in reversed(self.operators):
            needed |= set(operator.sources) if operator.name in needed else set()
        kept = tuple(one for one in self.operators if one.name in needed or isinstance(one, PictureInput))
        used = {parameter.tensor for operator in kept for parameter in operator.parameters}
        weights = {name: value for name, value in self.weights.items() if name in used}
        shapes = {name: tuple(value.shape) for name, value in weights.items()}
        network = Network(name="random", operators=kept, tasks=tasks, weights=shapes)
        return FloatNetwork(network, weights)


# Moves ----------------------------------------------------------------------------------------------------------------


def _linear(m: _Maker) -> None:
    m.onto(m.linear(m.some(), m.choose((8, 12, 16, 5))))


def _norm(m: _Maker) -> None:
    m.norm(m.some())


def _function(m: _Maker) -> None:
    m.function(m.some())


def _add(m: _Maker) -> None:
    left = m.some()
    right = m.choose(m.matrices(lambda shape: shape == m.shapes[left])[:4])
    m.add(Add, left=left, right=right)


def _multiply(m: _Maker) -> None:
    left = m.some()
    right = m.choose(m.matrices(lambda shape: shape == m.shapes[left])[:4])
    m.add(Multiply, left=left, right=right)


def _mlp(m: _Maker) -> None:
    source = m.some()
    hidden = m.function(m.linear(m.norm(source), m.choose((12, 20))))
    m.add(Add, left=source, right=m.linear(hidden, m.shapes[source][-1], size=0.5))


def _gated(m: _Maker) -> None:
    source = m.some()
    read, hidden = m.choose((m.norm, lambda name: name))(source), m.choose((12, 8))
    gate, value = m.function(m.linear(read, hidden)), m.linear(read, hidden)
    pair = (gate, value) if m.choose((True, False)) else (value, gate)
    made = m.linear(m.add(Multiply, left=pair[0], right=pair[1]), m.shapes[source][-1], size=0.5)
    m.add(Add, left=source, right=made)


def _attention(m: _Maker) -> None:
    source, heads = m.some(), m.choose((1, 2))
    other = m.choose((source, m.some(lambda shape: shape[1] == m.shapes[source][1])))
    size, rows, keys = heads * m.choose((4, 6, 8)), m.shapes[source][0], m.shapes[other][0]
    if m.choose((True, False)):
        source, other = (m.norm(source),) * 2 if other == source else (m.norm(source), m.norm(other))
    query = m.linear(source, size)
    if source == other and m.choose((True, False)):
        both = m.linear(source, 2 * size)
        key, value = (m.add(Part, source=both, axis="channels", start=n * size, stop=(n + 1) * size) for n in range(2))
    else:
        key, value = m.linear(other, size), m.linear(other, size)
    if m.choose((False, True)):
        query, key = (_by_head(m, one, heads) for one in (query, key))
    windows = m.choose([n for n in (1, 2, 3) if rows % n == 0 and keys % n == 0])
    shape = (heads, rows // windows, keys // windows)
    bias = m.choose((None, "one", "each"))
    table = None if bias is None else m.weight(*(shape if bias == "one" else (windows, *shape)), size=2.0)
    mixed = m.add(Attend, query=query, key=key, value=value, heads=heads, scale=size**-0.5, windows=windows, bias=table)
    if m.choose((True, False)):
        m.onto(m.linear(mixed, m.choose((8, 12, 16))))


def _by_head(m: _Maker, source: str, heads: int) -> str:
    """A norm of each head's channels."""
    rows, channels = m.shapes[source]
    parts = m.add(Reshape, source=source, to=(rows * heads, channels // heads))
    return m.add(Reshape, source=m.norm(parts), to=(rows, channels))


def _experts(m: _Maker) -> None:
    source, experts, hidden = m.some(), m.choose((2, 3, 4)), m.choose((8, 12))
    channels = m.shapes[source][1]
    told = m.choose((0, 3))
    mixed = m.add(
        MixExperts,
        source=m.norm(source),
        gates=tuple(m.weight(channels + told, experts, size=channels**-0.5) for _ in range(m.tasks)),
        embeddings=tuple(m.weight(told) for _ in range(m.tasks)) if told else (),
        first_weight=m.weight(experts, hidden, channels, size=channels**-0.5),
        first_bias=m.weight(experts, hidden, size=0.3),
        second_weight=m.weight(experts, channels, hidden, size=hidden**-0.5),
        second_bias=m.weight(experts, channels, size=0.3),
        function=m.choose((ActivationFunction.GELU, ActivationFunction.RELU, ActivationFunction.SILU)),
        top_k=m.choose((1, 2)),
    )
    if m.choose((True, False, True)):
        m.add(Add, left=source, right=mixed)


def _join(m: _Maker) -> None:
    first = m.some()
    second = m.some(lambda shape: shape[1] == m.shapes[first][1] and shape[0] + m.shapes[first][0] <= 24)
    if m.shapes[first][1] == m.shapes[second][1] and m.shapes[first][0] + m.shapes[second][0] <= 24:
        m.add(Join, parts=m.choose(((first, second), (second, first))), axis="rows")


def _rows(m: _Maker) -> None:
    source = m.some()
    rows = m.shapes[source][0]
    start = m.choose(range(rows))
    m.add(Part, source=source, axis="rows", start=start, stop=m.choose(range(start + 1, rows + 1)))


def _channels(m: _Maker) -> None:
    source = m.linear(m.some(), 16)
    start = m.choose((0, 4, 3))
    part = m.add(Part, source=source, axis="channels", start=start, stop=m.choose((start + 4, start + 8, 16)))
    m.choose((m.function, m.norm, lambda name: name))(part)


def _transposed(m: _Maker) -> None:
    source = m.add(Transpose, source=m.some(lambda shape: shape[0] <= 16))
    mixed = m.linear(source, m.choose((m.shapes[source][1], 6)))
    if m.choose((True, False)):
        mixed = m.linear(m.function(mixed), m.shapes[source][1])
    if m.choose((True, False)):
        m.onto(m.add(Transpose, source=mixed))


def _mean(m: _Maker) -> None:
    m.add(Mean, source=m.some())


def _scale(m: _Maker) -> None:
    source = m.some()
    channels = m.shapes[source][1]
    bias = m.weight(channels, size=0.3) if m.choose((True, False)) else None
    m.add(Scale, source=source, weight=m.weight(channels), bias=bias)


def _gather(m: _Maker) -> None:
    source = m.some()
    rows = m.shapes[source][0]
    m.add(Gather, source=source, rows=tuple(m.choose(range(rows)) for _ in range(m.choose((2, 4, 5)))))


def _folded(m: _Maker) -> None:
    source = m.some(lambda shape: shape[0] % 2 == 0 and shape[1] <= 20)
    rows, channels = m.shapes[source]
    if rows % 2 == 0 and channels <= 20:
        m.linear(m.add(Reshape, source=source, to=(rows // 2, 2 * channels)), 8)


def _map(m: _Maker) -> None:
    """Rows as a map's positions, through convolutions and enlargement."""
    source = m.some(lambda shape: shape[0] in (2, 4, 6, 9) and shape[1] <= 20)
    rows, channels = m.shapes[source]
    size = m.choose([(n, rows // n) for n in range(1, rows + 1) if rows % n == 0])
    made = m.add(Reshape, source=source, to=(*size, channels))
    for _ in range(m.choose((1, 2))):
        made = m.choose((_convolved, _pooled, _enlarged))(m, made)
        if m.choose((True, False)):
            made = m.function(made)
    rows, columns, channels = m.shapes[made]
    m.onto(m.add(Reshape, source=made, to=(rows * columns, channels)))


def _convolved(m: _Maker, source: str) -> str:
    down, across, channels = m.shapes[source]
    kernel, padding = ((3, 3), (1, 1, 1, 1)) if m.choose((True, False)) else ((1, 2), (0, 1, 0, 0))
    stride = (m.choose((1, 2)), 1) if down > 1 else (1, 1)
    groups = m.choose((1, channels))
    outputs = channels if groups > 1 else m.choose((8, 12))
    inputs = channels // groups
    weight = m.weight(outputs, inputs, *kernel, size=(inputs * kernel[0] * kernel[1]) ** -0.5)
    bias = m.weight(outputs, size=0.5) if m.choose((True, False)) else None
    return m.add(Convolution, source=source, weight=weight, bias=bias, stride=stride, padding=padding, groups=groups)


def _pooled(m: _Maker, source: str) -> str:
    kernel = (2, 1) if m.shapes[source][0] > 1 else (1, 1)
    return m.add(AveragePool, source=source, kernel=kernel, stride=(1, 1))


def _enlarged(m: _Maker, source: str) -> str:
    if m.choose((True, False)):
        source = m.add(Activate, source=source, function=ActivationFunction.RELU)
    return m.add(Enlarge, source=source) if m.shapes[source][0] * m.shapes[source][1] <= 9 else source


MOVES = (
    *(_linear, _norm, _function, _add, _mlp, _attention, _experts, _multiply, _gated, _join, _rows),
    *(_channels, _transposed, _mean, _scale, _folded, _gather, _map, _map),
)
"""Everything that may come next."""
