"""A checkpoint of a small seeded model with the demonstration model's kinds of tasks."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from golden import checkpoint
from golden.config import ModelConfig, TaskConfig
from tests.helpers.random_weights import random_weights

SMALL = ModelConfig(
    name="small",
    image_height=16,
    image_width=32,
    patch=8,
    dim=24,
    heads=3,
    layers=2,
    mlp_hidden=48,
    expert_layers=(1,),
    experts=4,
    expert_hidden=16,
    top_k=2,
    tasks=(
        TaskConfig(name="segmentation", kind="segmentation", channels=8, cells=2),
        TaskConfig(name="depth", kind="depth", channels=1, cells=2),
    ),
)


def save_small(path: Path, **changes: object) -> Path:
    """Write the model, with some of its geometry changed."""
    config = replace(SMALL, **changes)  # type: ignore[arg-type]
    checkpoint.save(path, checkpoint.Checkpoint(model=random_weights(config, 1), seed=1, data_version=1))
    return path
