"""M3ViT's published heads (``VisionTransformerUpHead``): from tokens to a map of the picture's size, for each task.

A head normalises the patches' tokens. Four times it convolves their map with kernels of 3 x 3, with batch norm and ReLU
behind; the first three times, it enlarges the map by two. A product of each position makes the classes, and a last
enlargement gives them the picture's size. Batch norm is folded into the convolutions.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from tessera.golden.config import HeadKind, ModelConfig
from tessera.golden.network.network import Network, Task
from tessera.golden.network.operators import (
    Activate,
    ActivationFunction,
    Convolution,
    Enlarge,
    Linear,
    Normalise,
    Operator,
    Parameter,
    Part,
    Reshape,
    Shape,
)
from tessera.golden.network.transformer import transformer
from tessera.sw.models.networks import Tensors
from tessera.sw.models.state_dict import Finding, axis, common

CONVOLUTIONS = 4
"""Convolutions with batch norm."""
ENLARGED = 16
"""How much larger the result is than the map of patches."""
TENSORS = re.compile(r"^decoder(?:s\.(?P<task>[^.]+))?\.")
"""Tensors of a head; a network of one task has one without the task's name."""
TRAINING_ONLY = re.compile(r"^decoders?\..*output_level_\d")
"""Results at other sizes, which only training looks at."""

_EPSILON = 1e-5  # PyTorch's batch norm


@dataclass(frozen=True, kw_only=True)
class Head:
    """The head of a task.

    Parameters
    ----------
    prefix:
        What names of its tensors begin with.
    channels, classes:
        Channels of its convolutions and of its result.
    """

    prefix: str
    channels: int
    classes: int

    def expected(self, dim: int) -> dict[str, Shape]:
        """Shapes by name, for tokens of so many channels."""
        shapes: dict[str, Shape] = {f"norm.{part}": (dim,) for part in ("weight", "bias")}
        for number in range(CONVOLUTIONS):
            inputs = self.channels if number else dim
            shapes |= {f"conv_{number}.weight": (self.channels, inputs, 3, 3), f"conv_{number}.bias": (self.channels,)}
            parts = ("weight", "bias", "running_mean", "running_var")
            shapes |= {f"syncbn_fc_{number}.{part}": (self.channels,) for part in parts}
        last = f"conv_{CONVOLUTIONS}"
        shapes |= {f"{last}.weight": (self.classes, self.channels, 1, 1), f"{last}.bias": (self.classes,)}
        return {self.prefix + name: shape for name, shape in shapes.items()}


def find_heads(tensors: Mapping[str, Tensor], tasks: tuple[str, ...]) -> dict[str, Head]:
    """Heads of this kind among tensors, by the tasks' names; a head of another kind is none."""
    found = {}
    for task in tasks:
        prefix = next((text for text in (f"decoders.{task}.", "decoder.") if _has(tensors, text)), None)
        if prefix is not None:
            some = re.escape(prefix)
            channels = common(axis(tensors, rf"{some}(conv_[0-3]\.weight|syncbn_fc_\d\.weight)", 0), 256)
            classes = common(axis(tensors, rf"{some}conv_{CONVOLUTIONS}\.(weight|bias)", 0), 1)
            found[task] = Head(prefix=prefix, channels=channels, classes=classes)
    return found


def _has(tensors: Mapping[str, Tensor], prefix: str) -> bool:
    return any(f"{prefix}{name}.weight" in tensors for name in ("conv_3", "conv_4", "syncbn_fc_3"))


def head_findings(config: ModelConfig, heads: Mapping[str, Head]) -> list[Finding]:
    """What is wrong with heads beside names and shapes: their result must have the picture's size."""
    if not heads or config.patch == ENLARGED:
        return []
    line = (
        f"unsupported: heads that make patches of {config.patch} x {config.patch} pixels {ENLARGED} times as large, "
        "and the result as large as the picture again; nearest: --backbone-only"
    )
    return [Finding(about=next(iter(heads.values())).prefix, line=line, explains="$^")]


def with_heads(config: ModelConfig, tensors: Tensors, heads: Mapping[str, Head]) -> tuple[Network, Tensors]:
    """The backbone's graph with heads behind it, and the weights of both.

    Parameters
    ----------
    config:
        The backbone, whose tasks have no heads.
    tensors:
        Weights of both; the backbone's under our names, the heads' as M3ViT has them.
    heads:
        Heads by the names of the tasks; a task without one keeps the residual stream as its result.
    """
    weights = {name: tensor for name, tensor in tensors.items() if not TENSORS.match(name)}
    backbone = transformer(config, {name: tuple(tensor.shape) for name, tensor in weights.items()})
    operators, tasks = list(backbone.operators), []
    for task in backbone.tasks:
        head = heads.get(task.name)
        if head is None:
            tasks.append(task)
            continue
        name = f"heads.{task.name}"
        weights |= _folded(tensors, head, name)
        made = _operators(config, name, task.result, head.classes)
        operators += made
        height, width = config.grid[0] * ENLARGED, config.grid[1] * ENLARGED
        tasks.append(
            replace(
                task,
                kind=_kind(task, head),
                channels=head.classes,
                cells=1,
                result=made[-1].name,
                grid=(height, width),
                prefix=0,
            )
        )
    shapes = {name: tuple(tensor.shape) for name, tensor in weights.items()}
    network = Network(name=config.name, operators=tuple(operators), tasks=tuple(tasks), weights=shapes)
    return network, weights


def _kind(task: Task, head: Head) -> HeadKind:
    """What a result is, as far as its channels tell: a value, or the logits of classes."""
    return "segmentation" if head.classes > 1 else "depth"


def _folded(tensors: Tensors, head: Head, name: str) -> Tensors:
    """Weights of a head under a name of its own, with batch norm folded into the convolutions."""
    part = {key.removeprefix(head.prefix): tensor.double() for key, tensor in tensors.items()}
    made = {f"norm.{kind}": part[f"norm.{kind}"] for kind in ("weight", "bias")}
    for number in range(CONVOLUTIONS):
        weight, bias = part[f"conv_{number}.weight"], part[f"conv_{number}.bias"]
        gain, offset, mean, variance = (
            part[f"syncbn_fc_{number}.{kind}"] for kind in ("weight", "bias", "running_mean", "running_var")
        )
        factor = gain / (variance + _EPSILON).sqrt()
        made |= {f"conv{number}.weight": weight * factor[:, None, None, None]}
        made |= {f"conv{number}.bias": (bias - mean) * factor + offset}
    last = f"conv_{CONVOLUTIONS}"
    made |= {"classes.weight": part[f"{last}.weight"].flatten(1), "classes.bias": part[f"{last}.bias"]}
    return {f"{name}.{key}": value.float() for key, value in made.items()}


def _operators(config: ModelConfig, head: str, stream: str, classes: int) -> list[Operator]:
    """The operators of a head, whose names begin with its own, that reads a residual stream."""

    def both(name: str) -> dict[str, Any]:
        return {kind: Parameter(tensor=f"{head}.{name}.{kind}") for kind in ("weight", "bias")}

    def named(part: str) -> str:
        return f"{head}.{part}"

    first = (named("norm"), named("patches"))
    made: list[Operator] = [
        Normalise(part=first[0], source=stream, epsilon=config.norm_epsilon, **both("norm")),
        Part(part=first[1], source=first[0], axis="rows", start=1, stop=config.tokens),
        Reshape(part=named("map"), source=first[1], to=(*config.grid, config.dim)),
    ]
    for number in range(CONVOLUTIONS):
        conv, relu = f"conv{number}", f"relu{number}"
        made.append(Convolution(part=named(conv), source=made[-1].name, padding=(1, 1, 1, 1), **both(conv)))
        made.append(Activate(part=named(relu), source=named(conv), function=ActivationFunction.RELU))
        if number == CONVOLUTIONS - 1:
            made.append(Linear(part=named("classes"), source=named(relu), **both("classes")))
        made.append(Enlarge(part=named(f"enlarged{number}"), source=made[-1].name))
    size = (config.grid[0] * ENLARGED, config.grid[1] * ENLARGED)
    return [*made, Reshape(part=named("positions"), source=made[-1].name, to=(size[0] * size[1], classes))]
