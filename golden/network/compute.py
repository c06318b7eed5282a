"""What every operator computes, in PyTorch: the float reference of a network that has no module of its own at hand.

Tensors have the batch first: (B, rows, channels), or (B, rows, columns, channels).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import singledispatch
from typing import Any

import torch
import torch.nn.functional as functional
from torch import Tensor

from tessera.golden.moe import mix, route
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

PIXEL_SCALE = 1 / 256
"""A pixel byte counts as byte/256, in [0, 1): exact in binary, no mean removed."""

Capture = dict[str, Any]

_FUNCTIONS = {
    ActivationFunction.GELU: functional.gelu,
    ActivationFunction.GELU_TANH: lambda x: functional.gelu(x, approximate="tanh"),
    ActivationFunction.QUICK_GELU: lambda x: x * torch.sigmoid(1.702 * x),
    ActivationFunction.SILU: functional.silu,
    ActivationFunction.HARDSWISH: functional.hardswish,
    ActivationFunction.RELU: functional.relu,
    ActivationFunction.SIGMOID: torch.sigmoid,
    ActivationFunction.HARD_SIGMOID: functional.hardsigmoid,
}


def apply_function(function: ActivationFunction, x: Tensor) -> Tensor:
    """An activation function of every value."""
    return _FUNCTIONS[function](x)


class FloatNetwork:
    """Computes a network in floating point.

    Parameters
    ----------
    network:
        The graph.
    weights:
        Its weights by name; they decide the precision.
    """

    def __init__(self, network: Network, weights: Mapping[str, Tensor]) -> None:
        self.network, self.weights = network, weights

    def double(self) -> FloatNetwork:
        """The same in float64."""
        return FloatNetwork(self.network, {name: value.detach().double() for name, value in self.weights.items()})

    def parameter(self, parameter: Parameter) -> Tensor:
        """The value of a parameter."""
        value = self.weights[parameter.tensor]
        value = value if parameter.item is None else value[parameter.item]
        return value.T if parameter.transposed else value

    def run(self, images: Tensor, tasks: Sequence[int], *, capture: Capture | None = None) -> list[Tensor]:
        """Run several tasks on the same pictures, sharing all work before the first operator that asks for the task.

        Parameters
        ----------
        images:
            (B, 3, H, W) bytes 0 to 255 (uint8, or any dtype holding the same values); scaled by 1/256 here.
        tasks:
            Indices of tasks.
        capture:
            When given, filled with every tensor by name, and for a mixture of experts ``NAME`` with
            ``NAME.gate_logits``, ``NAME.gate_probabilities``, ``NAME.expert_indices``, ``NAME.expert_weights`` and, as
            dictionaries by expert, ``NAME.expert_rows`` (flat token numbers b * N + n), ``NAME.expert_pre_gelu``,
            ``NAME.expert_hidden`` and ``NAME.expert_output`` (before its weight). Tensors that depend on the task have
            the tasks stacked along the batch.

        Returns
        -------
        list
            The result of each task: (B, rows, channels).
        """
        network, batch = self.network, len(images)
        size = (3, network.image_height, network.image_width)
        if images.ndim != 4 or tuple(images.shape[1:]) != size:
            raise ValueError(
                f"images have shape {tuple(images.shape)}, model '{network.name}' takes (batch, "
                f"{', '.join(map(str, size))}); resize them or transpose channels first"
            )
        values: dict[str, Tensor] = {}
        inside: Capture = {}
        for operator in network.operators:
            sources = [values[source] for source in operator.sources]
            stacked = operator.by_task or any(len(source) > batch for source in sources)
            if stacked and len(tasks) > 1:
                sources = [self._for_tasks(source, batch, len(tasks)) for source in sources]
            if isinstance(operator, PictureInput):
                made = (images.to(self._dtype) * PIXEL_SCALE).permute(0, 2, 3, 1)
            elif isinstance(operator, Constant):
                shape = network.shapes[operator.name]
                made = self.parameter(operator.value).reshape(1, *shape).expand(batch, *shape)
            elif isinstance(operator, MixExperts):
                made = self._mix(operator, sources[0], tasks, inside)
            else:
                made = compute(operator, sources, self.parameter)
            values[operator.name] = made
        if capture is not None:
            capture |= values | inside
        results = [self._for_tasks(values[network.tasks[task].result], batch, len(tasks)) for task in tasks]
        return [result.chunk(len(tasks))[index] for index, result in enumerate(results)]

    def predict(self, images: Tensor, task: str | int, *, capture: Capture | None = None) -> Tensor:
        """What people look at of one task: :func:`as_map` of its result, or features as they are."""
        index = self.network.task_index(task) if isinstance(task, str) else task
        return as_map(self.run(images, [index], capture=capture)[0], self.network.tasks[index])

    @property
    def _dtype(self) -> torch.dtype:
        return next((value.dtype for value in self.weights.values()), torch.float32)

    @staticmethod
    def _for_tasks(value: Tensor, batch: int, tasks: int) -> Tensor:
        """A tensor with the tasks stacked, which repeats what does not depend on them."""
        return value.repeat(tasks, *[1] * (value.ndim - 1)) if len(value) == batch else value

    def _mix(self, operator: MixExperts, x: Tensor, tasks: Sequence[int], inside: Capture) -> Tensor:
        logits = []
        for part, task in zip(x.chunk(len(tasks)), tasks, strict=True):
            if operator.embeddings:
                embedding = self.parameter(operator.embeddings[task])
                part = torch.cat([part, embedding.expand(*part.shape[:-1], -1)], dim=-1)
            logits.append(part @ self.parameter(operator.gates[task]))
        stacked = torch.cat(logits)
        indices, weights, probabilities = route(stacked, operator.top_k)
        found: Capture = {
            "gate_logits": stacked,
            "gate_probabilities": probabilities,
            "expert_indices": indices,
            "expert_weights": weights,
        }
        layers = [
            self.parameter(part)
            for part in (operator.first_weight, operator.first_bias, operator.second_weight, operator.second_bias)
        ]
        made = mix(x, indices, weights, layers, lambda z: apply_function(operator.function, z), found)
        inside |= {f"{operator.name}.{part}": value for part, value in found.items()}
        return made


def as_map(result: Tensor, task: Task) -> Tensor:
    """A result (B, rows, outputs) as a map (B, channels, cells down, cells across); features stay as they are.

    Logits of a whole picture become (B, channels, 1, 1).
    """
    if task.kind == "features":
        return result
    (rows, columns), cells = task.grid, task.cells
    parts = result.reshape(len(result), rows, columns, task.channels, cells, cells)
    return parts.permute(0, 3, 1, 4, 2, 5).reshape(len(result), task.channels, rows * cells, columns * cells)


@singledispatch
def compute(operator: Operator, sources: Sequence[Tensor], parameter: Any) -> Tensor:
    """The tensor that an operator makes of ``sources``; ``parameter`` gives the value of a parameter."""
    # Those that need more than their sources are done where networks run; every other kind is registered below.
    raise NotImplementedError(operator.tag)  # a new kind must not pass in silence


@compute.register
def _(operator: Linear, sources: Sequence[Tensor], parameter: Any) -> Tensor:
    return functional.linear(sources[0], parameter(operator.weight), _optional(operator.bias, parameter))


@compute.register
def _(operator: Convolution, sources: Sequence[Tensor], parameter: Any) -> Tensor:
    top, left, bottom, right = operator.padding
    x = sources[0].permute(0, 3, 1, 2)
    if any(operator.padding):
        x = functional.pad(x, (left, right, top, bottom))
    weight, bias = parameter(operator.weight), _optional(operator.bias, parameter)
    made = functional.conv2d(x, weight, bias, stride=operator.stride, groups=operator.groups)
    return made.permute(0, 2, 3, 1)


@compute.register
def _(operator: Normalise, sources: Sequence[Tensor], parameter: Any) -> Tensor:
    x, weight, bias = sources[0], parameter(operator.weight), _optional(operator.bias, parameter)
    if operator.kind is NormKind.LAYER:
        return functional.layer_norm(x, x.shape[-1:], weight, bias, operator.epsilon)
    made = functional.rms_norm(x, x.shape[-1:], weight, operator.epsilon)
    return made if bias is None else made + bias


@compute.register
def _(operator: Activate, sources: Sequence[Tensor], parameter: Any) -> Tensor:
    return apply_function(operator.function, sources[0])


@compute.register
def _(operator: Add, sources: Sequence[Tensor], parameter: Any) -> Tensor:
    return sources[0] + sources[1]


@compute.register
def _(operator: Multiply, sources: Sequence[Tensor], parameter: Any) -> Tensor:
    return sources[0] * sources[1]


@compute.register
def _(operator: Attend, sources: Sequence[Tensor], parameter: Any) -> Tensor:
    windows = operator.windows
    split = [source.reshape(len(source) * windows, -1, source.shape[-1]) for source in sources]
    query, key, value = (_heads(source, operator.heads) for source in split)
    bias = _optional(operator.bias, parameter)
    if bias is not None and bias.ndim == 4:
        bias = bias.repeat(len(sources[0]), 1, 1, 1)
    made = functional.scaled_dot_product_attention(query, key, value, attn_mask=bias, scale=operator.scale)
    return made.transpose(1, 2).reshape(*sources[0].shape[:-1], sources[2].shape[-1])


@compute.register
def _(operator: Join, sources: Sequence[Tensor], parameter: Any) -> Tensor:
    return torch.cat(list(sources), dim=1 if operator.axis == "rows" else -1)


@compute.register
def _(operator: Part, sources: Sequence[Tensor], parameter: Any) -> Tensor:
    return sources[0].narrow(1 if operator.axis == "rows" else -1, operator.start, operator.stop - operator.start)


@compute.register
def _(operator: Gather, sources: Sequence[Tensor], parameter: Any) -> Tensor:
    return sources[0].flatten(1, -2)[:, list(operator.rows)]


@compute.register
def _(operator: Scale, sources: Sequence[Tensor], parameter: Any) -> Tensor:
    made, bias = sources[0] * parameter(operator.weight), _optional(operator.bias, parameter)
    return made if bias is None else made + bias


@compute.register
def _(operator: Transpose, sources: Sequence[Tensor], parameter: Any) -> Tensor:
    return sources[0].flatten(1, -2).transpose(1, 2)


@compute.register
def _(operator: Mean, sources: Sequence[Tensor], parameter: Any) -> Tensor:
    return sources[0].flatten(1, -2).mean(dim=1, keepdim=True)


@compute.register
def _(operator: AveragePool, sources: Sequence[Tensor], parameter: Any) -> Tensor:
    made = functional.avg_pool2d(
        sources[0].permute(0, 3, 1, 2),
        operator.kernel,
        operator.stride,
        operator.padding,
        count_include_pad=operator.count_padding,
    )
    return made.permute(0, 2, 3, 1)


@compute.register
def _(operator: Enlarge, sources: Sequence[Tensor], parameter: Any) -> Tensor:
    made = functional.interpolate(sources[0].permute(0, 3, 1, 2), scale_factor=2, mode="bilinear")
    return made.permute(0, 2, 3, 1)


@compute.register
def _(operator: Reshape, sources: Sequence[Tensor], parameter: Any) -> Tensor:
    return sources[0].reshape(len(sources[0]), *operator.to)


def attention_scores(query: Tensor, key: Tensor, heads: int, scale: float) -> Tensor:
    """Scaled scores (B, heads, queries, keys) of an attention, without its bias."""
    return _heads(query, heads) @ _heads(key, heads).transpose(-2, -1) * scale


def _heads(x: Tensor, heads: int) -> Tensor:
    """(B, ..., D) as (B, heads, rows, D / heads)."""
    rows = math.prod(x.shape[1:-1])
    return x.reshape(len(x), rows, heads, x.shape[-1] // heads).transpose(1, 2)


def _optional(parameter: Parameter | None, value: Any) -> Tensor | None:
    return None if parameter is None else value(parameter)
