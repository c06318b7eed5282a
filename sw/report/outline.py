"""The outline of a network: its operators, or the machine's steps, by layer, and layers that repeat once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import singledispatch
from math import prod
from typing import Any

from tessera.golden.integer.plan import Plan
from tessera.golden.integer.steps import (
    AttentionStep,
    ExpertsStep,
    NormStep,
    PatchStep,
    ProductStep,
    Step,
    StreamStep,
)
from tessera.golden.network.network import Network
from tessera.golden.network.operators import (
    Activate,
    Attend,
    AveragePool,
    Constant,
    Convolution,
    Gather,
    Linear,
    MixExperts,
    Normalise,
    NormKind,
    Operator,
    Part,
    PictureInput,
    Shape,
)

LONGEST_PATTERN = 4
"""Layers in turn at most that repeat together."""


@dataclass(frozen=True, kw_only=True)
class OutlineItem:
    """An operator or a step.

    Parameters
    ----------
    name, place, part, kind:
        As the operator or step has them.
    shape:
        Of what it makes.
    sources:
        Names of the items that it reads.
    detail:
        What is special about it, in words.
    parameters:
        Numbers of weights.
    tasks:
        Tasks whose result it is.
    """

    name: str
    place: str
    part: str
    kind: str
    shape: Shape
    sources: tuple[str, ...]
    detail: str = ""
    parameters: int = 0
    tasks: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """JSON-compatible form."""
        return {**vars(self), "shape": list(self.shape), "sources": list(self.sources), "tasks": list(self.tasks)}


@dataclass(frozen=True, kw_only=True)
class Layer:
    """Items that follow each other in one place."""

    place: str
    items: tuple[OutlineItem, ...]


@dataclass(frozen=True, kw_only=True)
class Series:
    """Layers in turn, as often as they follow each other alike.

    Parameters
    ----------
    layers:
        The first of each.
    times:
        How often they come.
    last:
        Places of the last ones.
    """

    layers: tuple[Layer, ...]
    times: int = 1
    last: tuple[str, ...] = ()

    def title(self, index: int) -> str:
        """What to call a layer."""
        first, times = self.layers[index].place, self.times
        if times == 1:
            return first
        between = "and" if times == 2 else "to"
        each = f", every {_ordinal(len(self.layers))}" if len(self.layers) > 1 and times > 2 else ""
        return f"{first} {between} {self.last[index]}{each}"


def of_network(network: Network) -> list[Series]:
    """The outline of a network's operators."""
    results = _results(network, [task.result for task in network.tasks])
    items = []
    for operator in network.operators:
        used = {parameter.tensor for parameter in operator.parameters}
        items.append(
            OutlineItem(
                name=operator.name,
                place=operator.place,
                part=operator.part,
                kind=operator.tag,
                shape=network.shapes[operator.name],
                sources=operator.sources,
                detail=detail(operator, network),
                parameters=sum(prod(network.weights[tensor]) for tensor in used),
                tasks=results.get(operator.name, ()),
            )
        )
    return folded(items)


def of_plan(plan: Plan, network: Network) -> list[Series]:
    """The outline of a plan's steps."""
    results = _results(network, [rows.tensor for rows in plan.results])
    return folded(
        [
            OutlineItem(
                name=step.name,
                place=step.place,
                part=step.part,
                kind=step.tag,
                shape=(step.rows, step.channels),
                sources=tuple(dict.fromkeys(rows.tensor for rows in step.reads)),
                detail=_step_detail(step, network),
                tasks=results.get(step.name, ()),
            )
            for step in plan.steps
        ]
    )


def _results(network: Network, names: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Tasks with their kinds by the name of their result."""
    found: dict[str, tuple[str, ...]] = {}
    for task, name in zip(network.tasks, names, strict=True):
        told = task.name if task.name == task.kind else f"{task.name} ({task.kind})"
        found[name] = (*found.get(name, ()), told)
    return found


def folded(items: Sequence[OutlineItem]) -> list[Series]:
    """Items as layers, with those that repeat once."""
    layers: list[Layer] = []
    for item in items:
        if layers and layers[-1].place == item.place:
            layers[-1] = Layer(place=item.place, items=(*layers[-1].items, item))
        else:
            layers.append(Layer(place=item.place, items=(item,)))
    keys = [_key(layer, before) for before, layer in zip([None, *layers], layers, strict=False)]
    made, index = [], 0
    while index < len(layers):
        length, times = _pattern(layers[index:], keys[index:])
        final = layers[index + (times - 1) * length : index + times * length]
        shown = [_with_tasks(one, last) for one, last in zip(layers[index : index + length], final, strict=True)]
        made.append(Series(layers=tuple(shown), times=times, last=tuple(layer.place for layer in final)))
        index += length * times
    return made


def _pattern(layers: Sequence[Layer], keys: Sequence[Any]) -> tuple[int, int]:
    """How many layers repeat, and how often; those that cover most, of these the fewest.

    Only the last ones may have results of tasks.
    """
    results = [any(item.tasks for item in layer.items) for layer in layers]
    best = (1, 1)
    for length in range(1, min(LONGEST_PATTERN, len(keys) // 2) + 1):
        times = 1
        while keys[times * length : (times + 1) * length] == keys[:length] and not any(results[: times * length]):
            times += 1
        if times > 1 and times * length > best[0] * best[1]:
            best = (length, times)
    return best


def _with_tasks(layer: Layer, last: Layer) -> Layer:
    """A layer with the results of the last one like it."""
    items = [replace(item, tasks=other.tasks) for item, other in zip(layer.items, last.items, strict=True)]
    return Layer(place=layer.place, items=tuple(items))


def _key(layer: Layer, before: Layer | None) -> Any:
    """Equal for layers that differ in nothing but their names."""
    inside = {item.name: index for index, item in enumerate(layer.items)}
    known: dict[str, Any] = {} if before is None else {item.name: item.part for item in before.items}
    if before is not None:
        known[before.items[-1].name] = "before"
    known |= inside
    rows = [
        (item.part, item.kind, item.shape, item.detail, item.parameters)
        + tuple(known.get(source, source) for source in item.sources)
        for item in layer.items
    ]
    return bool(layer.place), rows


def _ordinal(number: int) -> str:
    return {2: "second", 3: "third", 4: "fourth"}[number]


# Words ----------------------------------------------------------------------------------------------------------------

_TITLES: Mapping[str, str] = {
    "gelu": "GELU",
    "gelu_tanh": "GELU (tanh)",
    "quick_gelu": "QuickGELU",
    "silu": "SiLU",
    "relu": "ReLU",
}


def sized(shape: Shape) -> str:
    """A shape as people write it."""
    return " x ".join(map(str, shape))


@singledispatch
def detail(operator: Operator, network: Network) -> str:
    """What is special about an operator, in words."""
    return ""


@detail.register
def _(operator: Linear, network: Network) -> str:
    return f"{network.shapes[operator.source][-1]} to {network.shapes[operator.name][-1]}"


@detail.register
def _(operator: Convolution, network: Network) -> str:
    *_, height, width = network.weights[operator.weight.tensor]
    channels = f"{network.shapes[operator.source][-1]} to {network.shapes[operator.name][-1]}"
    words = [f"{height} x {width}", channels]
    words += [f"stride {operator.stride[0]}"] if operator.stride != (height, width) else []
    words += [f"padding {max(operator.padding)}"] if any(operator.padding) else []
    return ", ".join([*words, f"{operator.groups} groups"] if operator.groups > 1 else words)


@detail.register
def _(operator: Normalise, network: Network) -> str:
    return "LayerNorm" if operator.kind is NormKind.LAYER else "RMSNorm"


@detail.register
def _(operator: Activate, network: Network) -> str:
    return _TITLES.get(operator.function, operator.function.replace("_", " "))


@detail.register
def _(operator: Attend, network: Network) -> str:
    words = [_counted(operator.heads, "head")]
    words += [_counted(operator.windows, "window")] if operator.windows > 1 else []
    return ", ".join([*words, "bias"] if operator.bias is not None else words)


@detail.register
def _(operator: MixExperts, network: Network) -> str:
    experts, hidden = operator.experts(network.weights), operator.hidden(network.weights)
    return f"{experts} experts of {hidden}, top {operator.top_k}"


@detail.register
def _(operator: Part, network: Network) -> str:
    return f"{operator.axis} {operator.start} to {operator.stop - 1}"


@detail.register
def _(operator: Gather, network: Network) -> str:
    return f"{len(operator.rows)} rows by a list"


@detail.register
def _(operator: PictureInput, network: Network) -> str:
    return "three colours"


@detail.register
def _(operator: Constant, network: Network) -> str:
    return "learned rows"


@detail.register
def _(operator: AveragePool, network: Network) -> str:
    return f"{operator.kernel[0]} x {operator.kernel[1]}, stride {operator.stride[0]}"


def _counted(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def _step_detail(step: Step, network: Network) -> str:
    """What a step does, in words."""
    match step:
        case PatchStep():
            return f"patches of {step.patch} x {step.patch}"
        case StreamStep():
            return "begins the stream"
        case ProductStep():
            words = [] if step.matrix.kind == "full" else [f"{step.matrix.kind} matrix"]
            words += [_TITLES.get(step.function, step.function.replace("_", " "))] if step.function else []
            words += [] if step.taps is None else [f"windows of {step.taps.kernel[0]} x {step.taps.kernel[1]}"]
            words += ["transposed"] if step.swapped else []
            added = "multiplies the stream" if step.factor else "added to the stream"
            return ", ".join([*words, added] if step.onto else [*words, "a stream"] if step.residual else words)
        case NormStep():
            copied = "a copy without what is negative" if step.rectified else "a copy"
            return copied if step.kind is None else "LayerNorm" if step.kind is NormKind.LAYER else "RMSNorm"
        case AttentionStep():
            return _counted(step.heads, "head") + (f", {step.windows} windows" if step.windows > 1 else "")
        case ExpertsStep():
            return f"{step.experts} experts of {step.hidden}, top {step.top_k}, added to the stream"
    return ""
