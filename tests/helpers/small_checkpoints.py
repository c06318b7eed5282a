"""A checkpoint of a small seeded model with the demonstration model's kinds of tasks."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from tessera.golden import checkpoint
from tessera.golden.model import seeded
from tessera.sw.selftest.faults import MODEL
from tests.helpers.models import two_tasks

SMALL = replace(MODEL, name="small", tasks=two_tasks(8))
"""The self-test's geometry, with the classes of the scenes."""


def save_small(path: Path, **changes: object) -> Path:
    """Write the model, with some of its geometry changed."""
    config = replace(SMALL, **changes)  # type: ignore[arg-type]
    checkpoint.save(path, checkpoint.Checkpoint.of(seeded(config, 1), seed=1, data_version=1))
    return path
