"""From a checkpoint to a program for one machine, and what quantising cost in accuracy."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError, safe_open

from golden import checkpoint
from golden.checkpoint import Checkpoint, CheckpointError
from golden.integer import storage
from golden.integer.model import IntegerModel
from golden.integer.parameters import QuantisedModel
from golden.model import VisionTransformer
from golden.scenes_common import CLASS_NAMES
from hw.config import AcceleratorConfig
from hw.config import preset as find_preset
from sw.compiler import compile_model
from sw.files import PROJECT_ROOT, remembered
from sw.program import Program
from sw.quantise import calibration_images, evaluate, quantise

MODELS = PROJECT_ROOT / "models"
ACCURACY_SCENES = 100
"""Held-out scenes of the accuracy that a run reports."""

Report = Callable[[str, float, str], None]
"""Progress of a run: stage, its fraction done, a few words on where it is."""


def silent(stage: str, fraction: float, detail: str) -> None:
    """Report nothing."""


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """A model made ready for one machine: checkpoint, quantised and integer model, program."""

    path: Path
    checkpoint: Checkpoint
    quantised: QuantisedModel
    integer: IntegerModel
    program: Program

    @property
    def config(self) -> AcceleratorConfig:
        """The machine."""
        return self.program.config

    def task_indices(self, task: str) -> list[int]:
        """Indices of ``all`` tasks, or of the comma-separated names; ValueError lists the known ones."""
        model = self.program.model
        if task == "all":
            return list(range(len(model.tasks)))
        return [model.task_index(name.strip()) for name in task.split(",")]


def checkpoint_path(model: str | Path) -> Path:
    """The file of a model: ``nano`` is ``models/nano.safetensors``, anything like a path is a path."""
    text = str(model)
    if "/" in text or Path(text).suffix:
        return Path(text)
    path = MODELS / f"{text}.safetensors"
    if not path.is_file():
        known = ", ".join(sorted(file.stem for file in MODELS.glob("*.safetensors"))) or "none (run `make train`)"
        raise CheckpointError(
            f"unknown model '{text}'; trained models: {known}; or give the path of a .safetensors file"
        )
    return path


def machine(preset: str, activation_width: int = 8) -> AcceleratorConfig:
    """A preset with the given activation width; ValueError lists what there is."""
    config = find_preset(preset)
    return config if activation_width == 8 else config.with_activation_width(activation_width)


def prepare(
    model: str | Path = "nano", preset: str = "edge", activation_width: int = 8, *, on_progress: Report = silent
) -> Prepared:
    """Load a checkpoint, quantise it for a preset's formats and compile it.

    Raises
    ------
    ValueError
        For an unknown model, preset or width, an unusable checkpoint (CheckpointError), or a model that does not fit
        the preset (CapacityError); the message says what to do.
    """
    config = machine(preset, activation_width)
    path = checkpoint_path(model)
    on_progress("load", 0.0, str(path))
    loaded = checkpoint.load(path)
    calibration = calibration_images(loaded.model)
    quantised = quantise(
        loaded.model, calibration, config.numerics, progress=lambda done: on_progress("quantise", done, "")
    )
    on_progress("compile", 0.0, "")
    program = compile_model(quantised, config)
    on_progress("compile", 1.0, f"{len(program.commands)} commands")
    integer = IntegerModel(quantised, config.numerics)
    return Prepared(path=path, checkpoint=loaded, quantised=quantised, integer=integer, program=program)


def compile_file(
    model: str | Path, preset: str = "edge", activation_width: int = 8, *, on_progress: Report = silent
) -> Program:
    """Compile a trained model, a checkpoint, or a file of ``tessera quantize``."""
    path = checkpoint_path(model)
    if not _is_quantised(path):
        return prepare(model, preset, activation_width, on_progress=on_progress).program
    config = machine(preset, activation_width)
    return compile_model(storage.load(path), config)


def _is_quantised(path: Path) -> bool:
    try:
        with safe_open(path, framework="np") as file:
            return (file.metadata() or {}).get("format") == storage.FORMAT
    except (OSError, SafetensorError):
        return False  # the checkpoint's loader says what is wrong with it


def accuracy(
    path: Path,
    model: VisionTransformer,
    quantised: QuantisedModel,
    *,
    scenes: int = ACCURACY_SCENES,
    on_progress: Report = silent,
) -> dict | None:
    """Held-out mIoU and depth RMSE of float and integer model, remembered by the content of the checkpoint at ``path``.

    None if the model's tasks are not the scenes' classes and depth.
    """
    kinds = {(task.kind, task.channels) for task in model.config.tasks}
    if not kinds <= {("segmentation", len(CLASS_NAMES)), ("depth", 1)}:
        return None
    content = hashlib.sha256(path.read_bytes()).hexdigest()
    on_progress("accuracy", 0.0, f"{scenes} held-out scenes, float and integer model")
    return remembered(
        "accuracy",
        [content, quantised.activation_width, quantised.residual_width, scenes],
        lambda: evaluate(model, quantised, scenes=scenes, progress=lambda done: on_progress("accuracy", done, "")),
    )
