"""From a checkpoint to a program for one machine, and what quantising cost in accuracy."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from tessera.common.cache import Cache, Kind, cache_key
from tessera.common.digest import content_digest
from tessera.common.expected import expect
from tessera.common.progress import Progress, silent, within
from tessera.golden import checkpoint
from tessera.golden.checkpoint import Checkpoint
from tessera.golden.integer import storage
from tessera.golden.integer.model import IntegerModel
from tessera.golden.integer.parameters import QuantisedModel
from tessera.golden.network.compute import FloatNetwork
from tessera.golden.network.network import Network
from tessera.golden.scenes.common import CLASS_NAMES
from tessera.hw.config import AcceleratorConfig
from tessera.hw.formats import Numerics
from tessera.program.program import Program
from tessera.sw.compiler.compile import compile_model
from tessera.sw.data.pictures import PictureChoice
from tessera.sw.data.procedural import ProceduralScenes
from tessera.sw.models.find import check_routing, find_model
from tessera.sw.quantiser.calibration import Calibration
from tessera.sw.quantiser.quantise import calibration_images, quantise
from tessera.sw.quantiser.saturation import saturation_notices
from tessera.sw.results.scoring import FLOAT, Scorer, score
from tessera.sw.results.truth import told_tasks
from tessera.sw.run.calibrated import SCENES, CalibratedOn, calibrated_on
from tessera.sw.run.target import Target

ACCURACY_SCENES = 100
"""Held-out scenes of the accuracy that a run reports."""

_QUANTISED = Kind(name="quantised", keep=12, suffix=".safetensors")
_ACCURACY = Kind(name="accuracy", keep=64, suffix=".json")
_SOURCES = ("golden/**/*.py", "hw/**/*.py", "sw/quantiser/**/*.py", "sw/run/**/*.py")
"""Whole packages that decide what a quantised model computes."""
_TOOLS = ("python", "numpy", "torch", "processor")


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """A model made ready for one machine: checkpoint, quantised and integer model, program; and how long it took.

    ``calibration`` is the rule that chose the ranges of activations, ``calibrated_on`` what it saw.
    """

    path: Path
    checkpoint: Checkpoint
    quantised: QuantisedModel
    integer: IntegerModel
    program: Program
    calibration: Calibration = Calibration.MAX
    calibrated_on: CalibratedOn = SCENES
    seconds: float = 0.0

    @property
    def config(self) -> AcceleratorConfig:
        """The machine."""
        return self.program.config

    @property
    def routing(self) -> str:
        """Where the experts' loads come from: ``model``, a mode of seeded gates, or ``none`` without experts."""
        return self.checkpoint.routing if self.program.mixtures else "none"

    @property
    def notices(self) -> tuple[str, ...]:
        """What a reader of results should know about the quantised model."""
        return self.calibrated_on.notices + saturation_notices(self.quantised)

    @property
    def label(self) -> str:
        """The model's name, with what one must know of its weights."""
        name, weights = self.program.model.name, self.checkpoint.weights
        if weights != "seeded":
            return name
        return f"{name} (seeded, not trained" + (f"; {self.routing} routing)" if self.routing != "none" else ")")

    def task_indices(self, task: str) -> list[int]:
        """Indices of ``all`` tasks, or of the comma-separated names; ValueError lists the known ones."""
        return _task_indices(self.program.model, task)


def _task_indices(model: Network, task: str) -> list[int]:
    expect("task", task, str, "'all', the name of a task, or several names with commas")
    if task == "all":
        return list(range(len(model.tasks)))
    return [model.task_index(name.strip()) for name in task.split(",")]


def prepare(
    target: Target, *, task: str = "all", pictures: PictureChoice | None = None, on_progress: Progress = silent
) -> Prepared:
    """Load a checkpoint (or make a seeded model), quantise it for a machine's formats and compile it.

    ``task`` and ``pictures`` are what is to run. They are looked at as soon as the model's geometry is known.

    Raises
    ------
    ValueError
        For an unknown model or routing, an unusable checkpoint (CheckpointError), calibration pictures that cannot be
        read, a model that does not fit the machine (CapacityError), a task that it has not, or a picture that it cannot
        take; the message says what to do.
    """
    began = time.perf_counter()
    config = target.config
    path, loaded = load_model(target.model, target.routing, on_progress=on_progress)
    _task_indices(loaded.network, task)
    if pictures is not None:
        pictures.check(loaded.network)
    seen = calibrated_on(target.calibration_images, loaded)
    quantised = quantised_model(
        path,
        loaded.model,
        config.numerics,
        images=seen.images,
        calibration=target.calibration,
        on_progress=on_progress,
    )
    on_progress("compile", 0.0, "")
    program = compile_model(quantised, config)
    on_progress("compile", 1.0, f"{len(program.commands)} commands")
    integer = IntegerModel(quantised, config.numerics)
    seconds = time.perf_counter() - began
    return Prepared(
        path=path,
        checkpoint=loaded,
        quantised=quantised,
        integer=integer,
        program=program,
        calibration=target.calibration,
        calibrated_on=seen,
        seconds=seconds,
    )


def load_model(
    model: str | Path, routing: str | None = None, *, on_progress: Progress = silent
) -> tuple[Path, Checkpoint]:
    """Find a model's file (:func:`tessera.sw.models.find.find_model`) and read it.

    Raises
    ------
    ValueError
        For an unknown model, a routing that it has not, or an unusable checkpoint (CheckpointError).
    """
    on_progress("load", 0.0, str(model))
    path = find_model(model, routing, on_progress=on_progress)
    loaded = checkpoint.load(path)
    check_routing(loaded, routing)
    on_progress("load", 1.0, str(path))
    return path, loaded


def quantised_model(
    path: Path,
    model: FloatNetwork,
    numerics: Numerics,
    *,
    images: NDArray[np.uint8] | None = None,
    calibration: Calibration = Calibration.MAX,
    on_progress: Progress = silent,
) -> QuantisedModel:
    """``model`` quantised for ``numerics``, remembered by the content of the checkpoint at ``path``.

    ``images`` (B, 3, H, W) are what it is calibrated with, by the rule ``calibration``; None for the first procedural
    training scenes.
    """
    pictures = None if images is None else [*images.shape, content_digest(images.tobytes())]
    widths = (numerics.activation_width, numerics.residual_width)
    content = content_digest(path.read_bytes())
    key = cache_key(content, widths, pictures, calibration, sources=_SOURCES, tools=_TOOLS)
    cache = Cache()
    if (kept := cache.find(_QUANTISED, key)) is not None:
        on_progress("quantise", 1.0, "as before")
        return storage.load_quantised(kept)

    def make(file: Path) -> None:
        chosen = calibration_images(model.network) if images is None else images
        quantised = quantise(model, chosen, numerics, calibration=calibration, on_progress=on_progress)
        storage.save_quantised(file, quantised)

    return storage.load_quantised(cache.get(_QUANTISED, key, make))


def compile_file(target: Target, *, on_progress: Progress = silent) -> Program:
    """Compile a model by name, a checkpoint, or a file of ``tessera quantize``."""
    return compile_and_tell(target, on_progress=on_progress)[0]


def compile_and_tell(target: Target, *, on_progress: Progress = silent) -> tuple[Program, tuple[str, ...]]:
    """What :func:`compile_file` does, with what a reader should know about the quantised model."""
    path = Path(target.model)
    if not (path.is_file() and _is_quantised(path)):
        prepared = prepare(target, on_progress=on_progress)
        return prepared.program, prepared.notices
    if target.routing is not None:
        raise ValueError(f"{path} is quantised and has its gates already; leave --routing out")
    if target.calibration is not Calibration.MAX:
        raise ValueError(f"{path} is quantised and has its ranges already; leave --calibration out")
    if target.calibration_images is not None:
        raise ValueError(f"{path} is quantised and has its ranges already; leave --calibration-images out")
    quantised = storage.load_quantised(path)
    return compile_model(quantised, target.config), saturation_notices(quantised)


def _is_quantised(path: Path) -> bool:
    try:
        with safe_open(path, framework="np") as file:
            return (file.metadata() or {}).get("format") == storage.FORMAT
    except (OSError, SafetensorError):
        return False  # the checkpoint's loader says what is wrong with it


def accuracy(
    path: Path,
    loaded: Checkpoint,
    quantised: QuantisedModel,
    *,
    scenes: int = ACCURACY_SCENES,
    on_progress: Progress = silent,
) -> dict | None:
    """Held-out mIoU and depth RMSE of float and integer model, remembered by the content of both.

    None if no task predicts the scenes' classes or depth.
    """
    tasks = told_tasks(loaded.network, loaded.weights)
    if not tasks:
        return None
    on_progress("accuracy", 0.0, f"{scenes} held-out scenes, float and integer model")
    content = [content_digest(data) for data in (path.read_bytes(), storage.quantised_bytes(quantised))]
    sources = (*_SOURCES, "sw/data/**/*.py", "sw/results/**/*.py")
    told = within(on_progress, "accuracy", detail="")
    return Cache().value(
        _ACCURACY,
        cache_key(content, scenes, sources=sources, tools=_TOOLS),
        lambda: float_and_integer(loaded.model, quantised, scenes, tasks, told),
    )


def float_and_integer(
    model: FloatNetwork,
    quantised: QuantisedModel,
    scenes: int,
    tasks: Mapping[str, int],
    on_progress: Progress = silent,
) -> dict:
    """Scores on the first held-out scenes; ``tasks`` are indices of those to score, by kind.

    Returns
    -------
    dict
        ``scenes``; ``scored``, names of the tasks by kind; ``float`` and ``integer`` as :class:`Scores` gives them;
        ``outputs``, the integer model's error against float over all scenes, by task.
    """
    widths = {"activation_width": quantised.activation_width, "residual_width": quantised.residual_width}
    data = ProceduralScenes(scenes, model.network.image_height, model.network.image_width)
    integers = {"integer": IntegerModel(quantised, Numerics(**widths))}
    scorer = Scorer(model, integers, CLASS_NAMES, tuple(tasks.values()))
    tallies = score(scorer, data, range(scenes), on_progress=on_progress)
    scores = {name: tallies[name].scores.to_dict() for name in (FLOAT, "integer")}
    scored = {kind: model.network.tasks[index].name for kind, index in tasks.items()}
    return {"scenes": scenes, "scored": scored, **scores, "outputs": tallies["integer"].outputs_to_dict()}
