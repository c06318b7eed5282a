"""What quantising does to a model on its tasks: float, integer and simulated machine on the same labelled pictures.

``tessera evaluate`` calls :func:`evaluate`; docs/models.md describes what it returns.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from common.progress import Progress, silent, within
from golden.checkpoint import Checkpoint
from golden.config import ModelConfig
from golden.integer.model import IntegerModel
from golden.integer.parameters import QuantisedModel
from golden.scenes.common import CLASS_NAMES
from hw.config import AcceleratorConfig
from program.program import Program
from sw.compiler.compile import CapacityError, compile_model
from sw.data.dataset import DEPTH, SEGMENTATION
from sw.data.datasets import DATASETS, PROCEDURAL, Dataset, ProceduralScenes, Request, open_dataset, resized
from sw.data.pictures import Picture
from sw.quantiser.calibration import Calibration
from sw.quantiser.quantise import CALIBRATION_SCENES
from sw.results.scoring import FLOAT, Scorer, Tally, as_map, float_outputs, score
from sw.run import prepare
from sw.run.prepare import Prepared

if TYPE_CHECKING:
    from sw.results.outcome import RunResult

SCHEMA = "tessera-evaluation-1"
SCENES = 500
"""Procedural scenes to score on unless told otherwise."""

RTL_SAMPLES = 8
WIDTHS = (8, 12, 16)


@dataclass(frozen=True, kw_only=True)
class Data:
    """Pictures to score on and pictures to calibrate with.

    Members: ``dataset``; ``tasks``, for each kind that it has truth for, the index of the model's task that is scored;
    ``calibration`` (B, 3, H, W) bytes, None for procedural training scenes; ``notices``, what a reader of results
    should know.
    """

    dataset: Dataset
    tasks: dict[str, int]
    calibration: NDArray[np.uint8] | None
    notices: tuple[str, ...]

    @property
    def scored(self) -> tuple[str, ...]:
        """Kinds of the tasks that are scored."""
        return tuple(self.tasks)


def choose_data(
    model: ModelConfig, name: str = PROCEDURAL, root: Path | None = None, *, scenes: int = SCENES, **request: Any
) -> Data:
    """Open what ``model`` is to be scored on.

    Parameters
    ----------
    model:
        The geometry; of its tasks the first of each kind is scored that the dataset has truth for, with as many
        classes.
    name, root:
        ``procedural``, or one of :data:`sw.data.datasets.DATASETS` and its folder.
    scenes:
        How many procedural scenes to open.
    request:
        ``split``, ``partial`` and ``raw_depth`` of :class:`sw.data.datasets.Request`.

    Raises
    ------
    ValueError
        For an unknown dataset, one that is not whole (DatasetProblems), or one that the model's heads don't fit.
    """
    offered, counts = ProceduralScenes.tasks, (len(CLASS_NAMES),)  # type: tuple[str, ...], tuple[int, ...]
    if name != PROCEDURAL and name in DATASETS:
        offered, counts = DATASETS[name].tasks, DATASETS[name].classes
    tasks: dict[str, int] = {}
    notices: list[str] = []
    for index, task in enumerate(model.tasks):
        if task.kind == "features":
            notices.append(f"task '{task.name}' has no head: only its routing and features are compared with float")
        elif task.kind == "classification":
            notices.append(f"task '{task.name}' classifies whole pictures: only its logits are compared with float")
        elif task.kind not in offered:
            notices.append(f"task '{task.name}' is not scored: {name} has no {task.kind}")
        elif task.kind == SEGMENTATION and task.channels not in counts:
            known = " or ".join(map(str, counts))
            notices.append(f"task '{task.name}' is not scored: it tells {task.channels} classes, {name} has {known}")
        elif task.kind in tasks:
            notices.append(
                f"task '{task.name}' is not scored: '{model.tasks[tasks[task.kind]].name}' is of its kind too"
            )
        else:
            tasks[task.kind] = index
    if not tasks and all(task.kind in (SEGMENTATION, DEPTH) for task in model.tasks):
        raise ValueError(
            f"nothing that '{model.name}' predicts can be scored on {name}: {'; '.join(notices)}; "
            "train heads for this dataset, or choose another with --data"
        )
    if name == PROCEDURAL:
        procedural = ProceduralScenes(scenes, model.image_height, model.image_width)
        return Data(dataset=procedural, tasks=tasks, calibration=None, notices=tuple(notices))
    classes = model.tasks[tasks[SEGMENTATION]].channels if SEGMENTATION in tasks else None
    dataset = open_dataset(name, root, Request(tasks=tuple(tasks), classes=classes, **request))
    calibration = _calibration(model, name, root, request)
    if calibration is None:
        notices.append(f"{name} has no training pictures in {root}: calibrated with procedural scenes")
    return Data(
        dataset=dataset,
        tasks=tasks,
        calibration=calibration,
        notices=(*notices, *dataset.notices),
    )


def _calibration(model: ModelConfig, name: str, root: Path | None, request: dict[str, Any]) -> NDArray[np.uint8] | None:
    """The first training pictures of a dataset at the model's size, if there are any."""
    wanted = {**request, "split": "train", "partial": True}
    try:
        training = open_dataset(name, root, Request(tasks=(), **wanted))
    except ValueError:
        return None
    count = min(len(CALIBRATION_SCENES), len(training))
    items = (resized(training[number], model.image_height, model.image_width) for number in range(count))
    return np.stack([item.image.transpose(2, 0, 1) for item in items]) if count else None


def evaluate(
    path: Path,
    checkpoint: Checkpoint,
    data: Data,
    *,
    widths: Sequence[int] = WIDTHS,
    calibrations: Sequence[Calibration] = (Calibration.MAX,),
    scenes: int | None = None,
    rtl_samples: int = 0,
    preset: str = "edge",
    jobs: int = 1,
    on_progress: Progress = silent,
) -> dict[str, Any]:
    """Score a model in float, in integers of several widths, and on the simulated machine.

    Parameters
    ----------
    path, checkpoint:
        The model, as :func:`sw.run.prepare.load` gives it.
    data:
        From :func:`choose_data`.
    widths, calibrations:
        Bits of an activation and rules for their ranges, one integer model for each width and rule.
    scenes:
        Pictures to score, the first ones; None for all of the dataset.
    rtl_samples:
        How many of them also run on the simulated machine of ``preset``, with the first of ``widths`` and every rule,
        and are compared tensor by tensor with the integer model.
    jobs:
        Processes that score side by side.
    on_progress:
        Called with stage, fraction and detail.

    Returns
    -------
    dict
        As docs/models.md has it: ``schema``, ``model``, ``data``, ``results``, ``seconds``.

    Raises
    ------
    ValueError
        For an unknown width or preset, a model too large for it, or a picture that cannot be read.
    """
    began = time.perf_counter()
    if not widths or not calibrations or scenes is not None and scenes < 1 or jobs < 1 or rtl_samples < 0:
        raise ValueError(
            f"widths {list(widths)}, calibrations {list(calibrations)}, scenes {scenes}, jobs {jobs}, "
            f"rtl samples {rtl_samples}: too few"
        )
    count = len(data.dataset) if scenes is None else min(scenes, len(data.dataset))
    sample = min(rtl_samples, count)
    machines = {width: prepare.machine(preset, width) for width in widths}
    forms: dict[str, _Form] = {}
    for width, machine in machines.items():
        for rule in calibrations:
            quantised = prepare.quantised_model(
                path,
                checkpoint.model,
                machine.numerics,
                images=data.calibration,
                calibration=rule,
                on_progress=on_progress,
            )
            integer = IntegerModel(quantised, machine.numerics)
            forms[f"{width}, {rule}"] = _Form(quantised, integer, machine, rule)
    on_machine = [f"{widths[0]}, {rule}" for rule in calibrations if sample]
    prepared = {name: _compiled(path, checkpoint, forms[name]) for name in on_machine}
    classes = data.dataset.classes.names if data.dataset.classes is not None else ()
    integers = {name: form.integer for name, form in forms.items()}
    scorer = Scorer(checkpoint.model, integers, classes, tuple(data.tasks.values()))

    words, whole = f"{count:,} pictures, {len(forms)} integer forms", max(count, 1)

    def part(numbers: range) -> dict[str, Tally]:
        return score(
            scorer,
            data.dataset,
            numbers,
            jobs=jobs,
            on_progress=within(on_progress, "score", numbers.start / whole, numbers.stop / whole, detail=words),
        )

    tallies = part(range(sample))
    first = {name: tally.to_dict(data.scored) for name, tally in tallies.items()}
    # Before the long part: a machine that cannot be built or is wrong should not cost an hour's scores.
    simulated = [
        _on_machine(ready, scorer, data, sample, on_progress)
        | {"same_scenes": {FLOAT: _against_truth(first[FLOAT]), "integer": first[name]}}
        for name, ready in prepared.items()
    ]
    for name, tally in part(range(sample, count)).items():
        tallies[name].add(tally)
    results: list[dict[str, Any]] = [{"arithmetic": FLOAT, **_against_truth(tallies[FLOAT].to_dict(data.scored))}]
    for name, form in forms.items():
        facts = _facts(form.machine, form.calibration)
        results.append({"arithmetic": "integer", **facts, **tallies[name].to_dict(data.scored)})
    results += simulated
    config = checkpoint.config
    return {
        "schema": SCHEMA,
        "model": config.name,
        "weights": checkpoint.weights,
        "routing": checkpoint.routing if config.expert_layers else "none",
        "data": {
            "name": data.dataset.name,
            "split": data.dataset.split,
            "pictures": len(data.dataset),
            "height": config.image_height,
            "width": config.image_width,
            "classes": list(classes),
            "scored": list(data.scored),
            "calibration": "procedural training scenes" if data.calibration is None else "its training pictures",
            "notices": list(data.notices),
        },
        "results": results,
        "seconds": time.perf_counter() - began,
    }


def _against_truth(values: dict[str, Any]) -> dict[str, Any]:
    """The part of a tally that makes sense for the float model."""
    return {key: values[key] for key in ("scenes", "mean_iou", "class_iou", "depth_rmse_m", "depth_abs_rel")}


class _Form(NamedTuple):
    """An integer form of a model: by which rule, and for which machine."""

    quantised: QuantisedModel
    integer: IntegerModel
    machine: AcceleratorConfig
    calibration: Calibration


def _facts(machine: AcceleratorConfig, calibration: Calibration) -> dict[str, Any]:
    """What tells one integer form from another in a report."""
    numerics = machine.numerics
    widths = {"activation_width": numerics.activation_width, "residual_width": numerics.residual_width}
    return {**widths, "calibration": calibration}


def _compiled(path: Path, checkpoint: Checkpoint, form: _Form) -> Prepared:
    return Prepared(
        path=path,
        checkpoint=checkpoint,
        quantised=form.quantised,
        integer=form.integer,
        program=_program(form.quantised, form.machine),
        calibration=form.calibration,
    )


def _program(quantised: QuantisedModel, machine: AcceleratorConfig) -> Program:
    try:
        return compile_model(quantised, machine)
    except CapacityError as error:
        raise ValueError(f"{error}\n--rtl-samples 0 leaves the simulated machine out") from error


def _on_machine(prepared: Prepared, scorer: Scorer, data: Data, sample: int, on_progress: Progress) -> dict[str, Any]:
    """Run the first pictures under every task on the simulated machine and score what it left in memory."""
    from sw.run import execute

    config = prepared.program.model
    items = [resized(data.dataset[number], config.image_height, config.image_width) for number in range(sample)]
    images = [np.ascontiguousarray(item.image.transpose(2, 0, 1)) for item in items]
    pictures = [Picture(image=image, source=item.name) for image, item in zip(images, items, strict=True)]
    run: RunResult = execute.execute(prepared, pictures, range(len(config.tasks)), on_progress=on_progress)
    tally = scorer.tally()
    references = [float_outputs(prepared.checkpoint.model, image) for image in images]
    for frame in run.frames:
        index, item = config.task_index(frame.task), items[frame.picture]
        reference, choices = references[frame.picture]
        output = as_map(frame.prediction.values, config, index)
        if index in scorer.tasks:
            tally.add_prediction(config.tasks[index].kind, output, item)
        tally.add_outputs(frame.task, output, reference[index])
        tally.add_choices(frame.task, frame.routing, choices[index])
    tally.pictures = sample
    machine = prepared.config
    values = {key: value for key, value in tally.to_dict(data.scored).items() if key != "saturated"}
    return {
        "arithmetic": "rtl",
        "preset": machine.name,
        **_facts(machine, prepared.calibration),
        "bit_exact": run.bit_exact,
        "trouble": [frame.trouble for frame in run.frames if not frame.bit_exact],
        **values,
    }
