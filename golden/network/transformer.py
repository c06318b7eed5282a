"""The graph of this project's own vision transformers, whose weights have M3ViT's names."""

from __future__ import annotations

import math
from collections.abc import Mapping

from tessera.golden.config import ModelConfig, TaskConfig, layer_name
from tessera.golden.network.network import Network, Task
from tessera.golden.network.operators import (
    Activate,
    ActivationFunction,
    Add,
    Attend,
    Constant,
    Convolution,
    Join,
    Linear,
    MixExperts,
    Normalise,
    Operator,
    Parameter,
    Part,
    PictureInput,
    Reshape,
    Shape,
)


def transformer(config: ModelConfig, weights: Mapping[str, Shape]) -> Network:
    """The graph of :class:`tessera.golden.model.VisionTransformer`.

    Parameters
    ----------
    config:
        Geometry.
    weights:
        Shapes of the model's state dict, by name.
    """
    operators = _embedding(config)
    stream = "embed"
    for layer in range(config.layers):
        operators += _attention(config, layer, stream)
        operators += _experts(config, layer) if layer in config.expert_layers else _mlp(layer)
        stream = f"{layer_name(layer)}.residual"
    tasks = []
    normed: dict[str, Operator] = {}
    for index, task in enumerate(config.tasks):
        made, result = _head(config, index, stream, normed)
        operators += made
        tasks.append(_task(config, task, result))
    return Network(name=config.name, operators=tuple(operators), tasks=tuple(tasks), weights=dict(weights))


def _embedding(config: ModelConfig) -> list[Operator]:
    """Patches with positions, behind the class token."""
    return [
        PictureInput(part="picture", height=config.image_height, width=config.image_width),
        Convolution(
            part="patch_map",
            source="picture",
            weight=Parameter(tensor="patch_embed.proj.weight"),
            bias=Parameter(tensor="patch_embed.proj.bias"),
            stride=(config.patch, config.patch),
        ),
        Reshape(part="patches", source="patch_map", to=(config.patches, config.dim)),
        Constant(part="class_token", value=Parameter(tensor="cls_token")),
        Join(part="tokens", parts=("class_token", "patches"), axis="rows"),
        Constant(part="positions", value=Parameter(tensor="pos_embed")),
        Add(part="embed", left="tokens", right="positions"),
    ]


def _norm(place: str, part: str, source: str, weights: str, epsilon: float) -> Normalise:
    weight, bias = Parameter(tensor=f"{weights}.weight"), Parameter(tensor=f"{weights}.bias")
    return Normalise(place=place, part=part, source=source, weight=weight, bias=bias, epsilon=epsilon)


def _linear(place: str, part: str, source: str, weights: str) -> Linear:
    weight, bias = Parameter(tensor=f"{weights}.weight"), Parameter(tensor=f"{weights}.bias")
    return Linear(place=place, part=part, source=source, weight=weight, bias=bias)


def _attention(config: ModelConfig, layer: int, stream: str) -> list[Operator]:
    place, weights, dim = layer_name(layer), f"blocks.{layer}", config.dim
    parts = [
        Part(place=place, part=part, source=f"{place}.qkv", axis="channels", start=index * dim, stop=(index + 1) * dim)
        for index, part in enumerate("qkv")
    ]
    return [
        _norm(place, "norm1", stream, f"{weights}.norm1", config.norm_epsilon),
        _linear(place, "qkv", f"{place}.norm1", f"{weights}.attn.qkv"),
        *parts,
        Attend(
            place=place,
            part="attention",
            query=f"{place}.q",
            key=f"{place}.k",
            value=f"{place}.v",
            heads=config.heads,
            scale=1 / math.sqrt(config.head_dim),
        ),
        _linear(place, "projection", f"{place}.attention", f"{weights}.attn.proj"),
        Add(place=place, part="residual_attention", left=stream, right=f"{place}.projection"),
        _norm(place, "norm2", f"{place}.residual_attention", f"{weights}.norm2", config.norm_epsilon),
    ]


def _mlp(layer: int) -> list[Operator]:
    place, weights = layer_name(layer), f"blocks.{layer}.mlp"
    return [
        _linear(place, "pre_gelu", f"{place}.norm2", f"{weights}.fc1"),
        Activate(place=place, part="hidden", source=f"{place}.pre_gelu", function=ActivationFunction.GELU),
        _linear(place, "mlp", f"{place}.hidden", f"{weights}.fc2"),
        Add(place=place, part="residual", left=f"{place}.residual_attention", right=f"{place}.mlp"),
    ]


def _experts(config: ModelConfig, layer: int) -> list[Operator]:
    place, weights, tasks = layer_name(layer), f"blocks.{layer}.mlp", range(len(config.tasks))
    if config.router == "multi_gate":
        gates = tuple(Parameter(tensor=f"{weights}.gate.{task}.w_gate") for task in tasks)
        embeddings: tuple[Parameter, ...] = ()
    else:
        gates = (Parameter(tensor=f"{weights}.gate.w_gate"),) * len(tasks)
        embeddings = tuple(Parameter(tensor="task_embedding", item=task) for task in tasks)
    return [
        MixExperts(
            place=place,
            part="experts",
            source=f"{place}.norm2",
            gates=gates,
            embeddings=embeddings,
            first_weight=Parameter(tensor=f"{weights}.experts.htoh4.weight"),
            first_bias=Parameter(tensor=f"{weights}.experts.htoh4.bias"),
            second_weight=Parameter(tensor=f"{weights}.experts.h4toh.weight"),
            second_bias=Parameter(tensor=f"{weights}.experts.h4toh.bias"),
            top_k=config.top_k,
        ),
        Add(place=place, part="residual", left=f"{place}.residual_attention", right=f"{place}.experts"),
    ]


def _head(config: ModelConfig, index: int, stream: str, normed: dict[str, Operator]) -> tuple[list[Operator], str]:
    """A task's head and the name of its result.

    ``normed`` has what earlier heads read, by name, and takes what this one adds.
    """
    task, read = config.tasks[index], config.head_tokens(index)
    if task.kind == "features":
        return [], stream
    source, needed = stream, list[Operator]()
    if config.final_norm:
        needed.append(_norm("", "norm", stream, "norm", config.norm_epsilon))
        source = "norm"
    part = "norm_class" if task.kind == "classification" else "norm_patches"
    needed.append(Part(part=part, source=source, axis="rows", start=read.start, stop=read.stop))
    made = [operator for operator in needed if operator.name not in normed]
    normed |= {operator.name: operator for operator in made}
    head = _linear("", f"head.{task.name}", part, f"heads.{task.name}")
    return [*made, head], head.name


def _task(config: ModelConfig, task: TaskConfig, result: str) -> Task:
    return Task(
        name=task.name,
        kind=task.kind,
        channels=task.channels,
        cells=task.cells,
        result=result,
        grid=(1, 1) if task.kind == "classification" else config.grid,
        prefix=1 if task.kind == "features" else 0,
    )
