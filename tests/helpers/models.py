"""Geometries, number formats and machines that several tests share."""

from __future__ import annotations

import numpy as np

from tessera.golden.config import ModelConfig, TaskConfig
from tessera.hw.config import AcceleratorConfig
from tessera.hw.formats import Numerics

NUMERICS = {
    8: Numerics(activation_width=8, residual_width=18),
    12: Numerics(activation_width=12, residual_width=20),
    16: Numerics(activation_width=16, residual_width=22),
}
"""Number formats by activation width."""

LEAST = AcceleratorConfig(
    name="least",
    elements=2,
    lanes=4,
    memory_bytes=4,
    layernorm_lanes=2,
    max_tokens=32,
    max_experts=4,
    max_top_k=2,
    scratchpad_words=2048,
    residual_words=1024,
    bank_words=64,
    parameter_entries=64,
    stream_beats=64,
    max_commands=64,
)
"""The smallest machine, whose simulator is built soonest."""


def two_tasks(classes: int) -> tuple[TaskConfig, TaskConfig]:
    """Segmentation into so many classes, and depth: the demonstration model's kinds of tasks."""
    return (
        TaskConfig(name="segmentation", kind="segmentation", channels=classes, cells=2),
        TaskConfig(name="depth", kind="depth", channels=1, cells=2),
    )


UNEVEN = ModelConfig(
    name="uneven",
    image_height=8,
    image_width=12,
    patch=4,
    dim=12,
    heads=2,
    layers=2,
    mlp_hidden=20,
    expert_layers=(1,),
    experts=5,
    expert_hidden=9,
    top_k=2,
    tasks=two_tasks(3),
)
"""A very small geometry that leaves a tail in every dimension."""


def random_geometry(seed: int, machine: AcceleratorConfig) -> ModelConfig:
    """A small geometry with odd token counts, tails and uneven heads, sized to fit every preset."""
    generator = np.random.default_rng(seed)
    choose = lambda *options: options[generator.integers(len(options))]  # noqa: E731
    patch = int(choose(2, 4, 8))
    wide = max(patch, machine.memory_bytes)
    rows, columns = int(generator.integers(1, 5)), int(generator.integers(1, 4))
    heads, experts = int(choose(1, 2, 3)), int(choose(2, 3, 5, 8, 16))
    layers = int(generator.integers(1, 4))
    conditioned = bool(generator.integers(2))
    kinds = [
        TaskConfig(name="segmentation", kind="segmentation", channels=int(choose(3, 5)), cells=int(choose(1, 2))),
        TaskConfig(name="depth", kind="depth", channels=1, cells=2),
        TaskConfig(name="features", kind="features", channels=0, cells=0),
    ]
    return ModelConfig(
        name=f"random{seed}",
        image_height=rows * patch,
        image_width=columns * wide,
        patch=patch,
        dim=heads * int(choose(3, 6, 8, 16, 20)),
        heads=heads,
        layers=layers,
        mlp_hidden=int(choose(10, 24, 40)),
        expert_layers=tuple(layer for layer in range(layers) if generator.integers(3) or layer == layers - 1),
        experts=experts,
        expert_hidden=int(choose(7, 16, 30)),
        top_k=int(generator.integers(1, min(4, experts) + 1)),
        tasks=tuple(kinds[: int(generator.integers(1, 4))]),
        router="task_conditioned" if conditioned else "multi_gate",
        task_embedding=4 if conditioned else 0,
    )
