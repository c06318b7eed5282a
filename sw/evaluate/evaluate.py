"""What quantising does to a model on its tasks: float, integer and simulated machine on the same labelled pictures.

``tessera evaluate`` calls :func:`evaluate`; docs/models.md describes what it returns.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from tessera.common.expected import several, whole
from tessera.common.progress import Progress, silent, within
from tessera.golden.checkpoint import Checkpoint
from tessera.golden.integer.model import IntegerModel
from tessera.golden.integer.parameters import QuantisedModel
from tessera.hw.config import AcceleratorConfig
from tessera.program.program import Program
from tessera.sw.compiler.compile import compile_model
from tessera.sw.compiler.fit import CapacityError
from tessera.sw.data.dataset import SEGMENTATION, resized
from tessera.sw.data.pictures import Picture
from tessera.sw.evaluate.data import EvaluationData
from tessera.sw.evaluate.results import Evaluation, MachineScores, Scored
from tessera.sw.quantiser.calibration import Calibration
from tessera.sw.results.scoring import FLOAT, Scorer, Tally, float_outputs, result_map, score
from tessera.sw.run import prepare
from tessera.sw.run.calibrated import CalibratedOn
from tessera.sw.run.prepare import Prepared
from tessera.sw.run.target import machine

if TYPE_CHECKING:
    from tessera.sw.results.outcome import RunResult

WIDTHS = (8, 12, 16)


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """What a model is scored in, beside float.

    Parameters
    ----------
    widths, calibrations:
        Bits of an activation and rules for their ranges: one integer model for each width and rule.
    preset:
        Machine that simulates.
    rtl_samples:
        Pictures that also run on the simulated machine, with the first of ``widths`` and every rule. Every tensor is
        compared with the integer model's.
    scenes:
        Pictures to score, the first ones; None for all of the dataset.
    jobs:
        Processes that score side by side.

    Raises
    ------
    ValueError
        Too few of anything, an unknown width, rule or preset, or a value of another kind.
    """

    widths: Sequence[int] = WIDTHS
    calibrations: Sequence[Calibration] = (Calibration.MAX,)
    preset: str = "edge"
    rtl_samples: int = 0
    scenes: int | None = None
    jobs: int = 1

    def __post_init__(self) -> None:
        widths = several("widths", self.widths, "bits of an activation")
        rules = several("calibrations", self.calibrations, "rules")
        object.__setattr__(self, "widths", tuple(whole("a width", width) for width in widths))
        object.__setattr__(self, "calibrations", tuple(Calibration.named(rule) for rule in rules))
        for name in ("rtl_samples", "jobs"):
            object.__setattr__(self, name, whole(name, getattr(self, name)))
        if self.scenes is not None:
            object.__setattr__(self, "scenes", whole("scenes", self.scenes))
        enough = self.scenes is None or self.scenes >= 1
        if not self.widths or not self.calibrations or not enough or self.jobs < 1 or self.rtl_samples < 0:
            raise ValueError(
                f"widths {list(self.widths)}, calibrations {list(self.calibrations)}, scenes {self.scenes}, jobs "
                f"{self.jobs}, rtl samples {self.rtl_samples}: too few"
            )
        for width in self.widths:
            machine(self.preset, width)  # says so if there is no such machine


def evaluate(
    path: Path, checkpoint: Checkpoint, data: EvaluationData, sweep: Sweep, *, on_progress: Progress = silent
) -> Evaluation:
    """Score a model in float, in integers of several widths, and on the simulated machine.

    Parameters
    ----------
    path, checkpoint:
        The model, as :func:`tessera.sw.run.prepare.load_model` gives it.
    data:
        From :func:`tessera.sw.evaluate.data.choose_data`.
    sweep:
        What to score it in.
    on_progress:
        Called with stage, fraction and detail.

    Raises
    ------
    ValueError
        For an unknown width or preset, a model too large for it, or a picture that cannot be read.
    """
    began = time.perf_counter()
    count = len(data.dataset) if sweep.scenes is None else min(sweep.scenes, len(data.dataset))
    sample = min(sweep.rtl_samples, count)
    forms = _forms(path, checkpoint, data, sweep, on_progress)
    on_machine = [f"{sweep.widths[0]}, {rule}" for rule in sweep.calibrations if sample]
    prepared = {name: _compiled(path, checkpoint, forms[name], data.calibration) for name in on_machine}
    integers = {name: form.integer for name, form in forms.items()}
    names = data.class_names if SEGMENTATION in data.tasks else ()
    scorer = Scorer(checkpoint.model, integers, names, tuple(data.tasks.values()))

    words, whole = f"{count:,} pictures, {len(forms)} integer forms", max(count, 1)

    def part(numbers: range) -> dict[str, Tally]:
        return score(
            scorer,
            data.dataset,
            numbers,
            jobs=sweep.jobs,
            on_progress=within(on_progress, "score", numbers.start / whole, numbers.stop / whole, detail=words),
        )

    first = part(range(sample))
    # Before the long part: a machine that cannot be built or is wrong should not cost an hour's scores.
    simulated = [
        _on_machine(ready, scorer, data, sample, same=(first[FLOAT], first[name]), on_progress=on_progress)
        for name, ready in prepared.items()
    ]
    tallies = part(range(sample, count))
    for name, tally in tallies.items():
        tally.add(first[name])
    results = [Scored(tally=tallies[FLOAT])]
    for name, form in forms.items():
        numerics, rule = form.machine.numerics, form.calibration
        results.append(Scored(tally=tallies[name], numerics=numerics, calibration=rule))
    seconds = time.perf_counter() - began
    # Every form was calibrated with the same pictures, and saw the same values there.
    quantised = next(iter(forms.values())).quantised
    return Evaluation(
        checkpoint=checkpoint, data=data, quantised=quantised, results=results + simulated, seconds=seconds
    )


class _Form(NamedTuple):
    """An integer form of a model: by which rule, and for which machine."""

    quantised: QuantisedModel
    integer: IntegerModel
    machine: AcceleratorConfig
    calibration: Calibration


def _forms(
    path: Path, checkpoint: Checkpoint, data: EvaluationData, sweep: Sweep, on_progress: Progress
) -> dict[str, _Form]:
    """Integer forms of every width and rule, by width and rule."""
    forms: dict[str, _Form] = {}
    for configuration in [machine(sweep.preset, width) for width in sweep.widths]:
        numerics = configuration.numerics
        for rule in sweep.calibrations:
            quantised = prepare.quantised_model(
                path,
                checkpoint.model,
                numerics,
                images=data.calibration.images,
                calibration=rule,
                on_progress=on_progress,
            )
            integer = IntegerModel(quantised, numerics)
            forms[f"{numerics.activation_width}, {rule}"] = _Form(quantised, integer, configuration, rule)
    return forms


def _compiled(path: Path, checkpoint: Checkpoint, form: _Form, seen: CalibratedOn) -> Prepared:
    return Prepared(
        path=path,
        checkpoint=checkpoint,
        quantised=form.quantised,
        integer=form.integer,
        program=_program(form.quantised, form.machine),
        calibration=form.calibration,
        calibrated_on=seen,
    )


def _program(quantised: QuantisedModel, machine: AcceleratorConfig) -> Program:
    try:
        return compile_model(quantised, machine)
    except CapacityError as error:
        raise ValueError(f"{error}\n--rtl-samples 0 leaves the simulated machine out") from error


def _on_machine(
    prepared: Prepared,
    scorer: Scorer,
    data: EvaluationData,
    sample: int,
    *,
    same: tuple[Tally, Tally],
    on_progress: Progress,
) -> Scored:
    """Run the first pictures under every task on the simulated machine and score what it left in memory.

    ``same`` are the tallies of float and integer model on these pictures.
    """
    from tessera.sw.run import execute

    network = prepared.program.model
    items = [resized(data.dataset[number], network.image_height, network.image_width) for number in range(sample)]
    images = [np.ascontiguousarray(item.image.transpose(2, 0, 1)) for item in items]
    pictures = [Picture(image=image, source=item.name) for image, item in zip(images, items, strict=True)]
    run: RunResult = execute.execute(prepared, pictures, range(len(network.tasks)), on_progress=on_progress)
    tally = scorer.tally()
    references = [float_outputs(prepared.checkpoint.model, image) for image in images]
    for frame in run.frames:
        index, item = network.task_index(frame.task), items[frame.picture]
        reference, choices = references[frame.picture]
        output = result_map(frame.prediction.values, network.tasks[index])
        if index in scorer.tasks:
            tally.add_prediction(network.tasks[index].kind, output, item)
        tally.add_outputs(network.tasks[index], output, reference[index])
        tally.add_choices(frame.task, frame.routing, choices[index])
    tally.pictures = sample
    ran = MachineScores(
        preset=prepared.config.name,
        bit_exact=run.bit_exact,
        trouble=[frame.trouble for frame in run.frames if not frame.bit_exact],
        same_float=same[0],
        same_integer=same[1],
    )
    numerics = prepared.config.numerics
    return Scored(tally=tally, numerics=numerics, calibration=prepared.calibration, machine=ran)
