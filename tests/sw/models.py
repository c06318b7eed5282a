"""Random models and geometries for tests."""

from __future__ import annotations

import numpy as np

from golden.config import ModelConfig, TaskConfig
from golden.integer.random_model import random_image, random_model
from hw.config import AcceleratorConfig

__all__ = ["random_geometry", "random_image", "random_model"]


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
