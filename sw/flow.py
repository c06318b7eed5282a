"""The Python API: a checkpoint is loaded, quantised, compiled, run on the simulated machine and verified.

The command line calls the same functions::

    from sw.flow import run

    result = run(model="nano", preset="edge", task="segmentation", image="street.png", out="build/run")
    print(result.bit_exact, result.frames[0].result.cycles)
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from golden import checkpoint
from golden.checkpoint import Checkpoint, CheckpointError
from golden.integer.model import IntegerModel
from golden.integer.parameters import QuantisedModel
from golden.scenes_common import CLASS_NAMES
from hw.config import AcceleratorConfig
from hw.config import preset as find_preset
from sim.machine import Frame, FrameResult, MemorySettings, Progress, build_machine, run_machine
from sim.tools import git_id, tool_versions
from sw import cycles
from sw.compiler import compile_model
from sw.files import CACHE, PROJECT_ROOT, remembered, write_json
from sw.outcome import FrameOutcome, RunResult, routing
from sw.pictures import Picture, load_picture, scene_picture
from sw.predictions import compare
from sw.program import Program
from sw.quantise import calibration_images, evaluate, quantise
from sw.verify import verify

MODELS = PROJECT_ROOT / "models"
ACCURACY_SCENES = 100
"""Held-out scenes of the accuracy that a run reports."""
WINDOW_BEFORE, WINDOW_AFTER = 200, 50
"""Cycles of waves around a mismatch."""
_GUESSED_SPEED = {"overhead": 1.3, "cycles_per_s": 150_000.0}

Report = Callable[[str, float, str], None]
"""Progress of a run: stage, its fraction done, a few words on where it is."""


def _silent(stage: str, fraction: float, detail: str) -> None:
    pass


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
        raise CheckpointError(f"unknown model '{text}'; trained models: {known}; or give the path of a .safetensors file")
    return path


def machine(preset: str, activation_width: int = 8) -> AcceleratorConfig:
    """A preset with the given activation width; ValueError lists what there is."""
    config = find_preset(preset)
    return config if activation_width == 8 else config.with_activation_width(activation_width)


def prepare(
    model: str | Path = "nano", preset: str = "edge", activation_width: int = 8, *, on_progress: Report = _silent
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


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """What a run will take: ideal cycles of all frames, and cycles and seconds as the last run of this machine went."""

    ideal_cycles: int
    cycles: int
    seconds: float


def _speed_file(config: AcceleratorConfig) -> Path:
    return CACHE / f"speed-{config.name}-{config.numerics.activation_width}.json"


def estimate(prepared: Prepared, tasks: Sequence[int], pictures: int) -> Estimate:
    """Expect so many cycles and seconds of simulation."""
    file = _speed_file(prepared.config)
    speed = json.loads(file.read_text()) if file.is_file() else _GUESSED_SPEED
    ideal = pictures * sum(cycles.total(prepared.program, task).ideal_cycles for task in tasks)
    expected = int(ideal * speed["overhead"])
    return Estimate(ideal_cycles=ideal, cycles=expected, seconds=expected / speed["cycles_per_s"])


def accuracy(prepared: Prepared, *, scenes: int = ACCURACY_SCENES, on_progress: Report = _silent) -> dict | None:
    """Held-out mIoU and depth RMSE of float and integer model; remembered by content. None for other kinds of task."""
    model = prepared.program.model
    kinds = {(task.kind, task.channels) for task in model.tasks}
    if not kinds <= {("segmentation", len(CLASS_NAMES)), ("depth", 1)} or scenes < 1:
        return None
    numerics = prepared.config.numerics
    content = hashlib.sha256(prepared.path.read_bytes()).hexdigest()
    on_progress("accuracy", 0.0, f"{scenes} held-out scenes, float and integer model")
    return remembered(
        "accuracy",
        [content, numerics.activation_width, numerics.residual_width, scenes],
        lambda: evaluate(
            prepared.checkpoint.model,
            prepared.quantised,
            scenes=scenes,
            progress=lambda done: on_progress("accuracy", done, ""),
        ),
    )


def execute(
    prepared: Prepared,
    pictures: Sequence[Picture],
    tasks: Sequence[int],
    *,
    memory: MemorySettings | None = None,
    waves: Path | None = None,
    accuracy_scenes: int = 0,
    on_progress: Report = _silent,
) -> RunResult:
    """Run every picture under every task on one machine, back to back, and verify each frame.

    Parameters
    ----------
    prepared, pictures, tasks:
        What to run.
    memory:
        Behaviour of the simulated DRAM.
    waves:
        VCD file for the cycles around the first mismatch, recorded in a second run of the debug build.
    accuracy_scenes:
        Held-out scenes to score float and integer model on; 0 for none.
    on_progress:
        Called with stage, fraction and detail.

    Raises
    ------
    sim.tools.ToolError, sim.build.BuildError
        No compiler, or it rejected the design.
    sim.bench.BenchFailure
        The simulation did not come to its end.
    """
    program, memory = prepared.program, memory or MemorySettings()
    on_progress("build", 0.0, f"simulator of preset {program.config.name}: minutes the first time, then kept")
    simulator = build_machine(program.config)
    on_progress("build", 1.0, "")
    frames = [Frame(task=task, image=picture.image) for picture in pictures for task in tasks]
    follow = _Follower(program, frames, on_progress)
    results = run_machine(program, frames, memory_settings=memory, simulator=simulator, on_progress=follow)
    on_progress("simulate", 1.0, "")
    outcomes = []
    for number, (frame, result) in enumerate(zip(frames, results, strict=True)):
        on_progress("verify", number / len(frames), program.model.tasks[frame.task].name)
        index = number // len(tasks)
        outcomes.append(_outcome(prepared, pictures[index], index, frame, result))
    on_progress("verify", 1.0, "")
    _remember_speed(program.config, outcomes)
    written = waves is not None and _window(program, frames, outcomes, memory, waves, on_progress)
    scores = accuracy(prepared, scenes=accuracy_scenes, on_progress=on_progress) if accuracy_scenes else None
    return RunResult(
        program=program,
        pictures=list(pictures),
        frames=outcomes,
        facts=_facts(prepared, memory),
        accuracy=scores,
        waves=str(waves) if written else None,
    )


def run(
    *,
    model: str | Path = "nano",
    preset: str = "edge",
    task: str = "all",
    image: Path | str | None = None,
    scene: int = 0,
    frames: int = 1,
    activation_width: int = 8,
    memory: MemorySettings | None = None,
    waves: bool = False,
    out: Path | str | None = None,
    accuracy_scenes: int = ACCURACY_SCENES,
    on_progress: Report = _silent,
) -> RunResult:
    """Everything that ``tessera run`` does: see its help for the parameters; ``out`` None writes no report."""
    prepared = prepare(model, preset, activation_width, on_progress=on_progress)
    pictures = choose_pictures(prepared, image, scene, frames)
    file = Path(out or "build/run") / "mismatch.vcd" if waves else None
    result = execute(
        prepared,
        pictures,
        prepared.task_indices(task),
        memory=memory,
        waves=file,
        accuracy_scenes=accuracy_scenes,
        on_progress=on_progress,
    )
    if out is not None:
        from sw.report import write_report

        on_progress("report", 0.0, str(out))
        write_report(result, Path(out))
    return result


def choose_pictures(prepared: Prepared, image: Path | str | None, scene: int, frames: int) -> list[Picture]:
    """The picture file repeated ``frames`` times, or as many held-out scenes from ``scene`` on."""
    model = prepared.program.model
    if frames < 1:
        raise ValueError(f"frames is {frames}; choose at least 1")
    if image is not None:
        return [load_picture(image, model)] * frames
    return [scene_picture(model, scene + number) for number in range(frames)]


class _Follower:
    """Turns the simulator's progress into a fraction of all ideal cycles, by the commands that are finished."""

    def __init__(self, program: Program, frames: Sequence[Frame], report: Report) -> None:
        self._program, self._frames, self._report = program, frames, report
        self._whole = [cycles.total(program, frame.task).ideal_cycles for frame in frames]

    def __call__(self, progress: Progress) -> None:
        task = self._frames[progress.frame].task
        commands = self._program.commands
        done = sum(c.ideal_cycles for c in commands[: progress.command] if c.runs(task))
        name = commands[min(progress.command, len(commands) - 1)].name
        speed = progress.cycle / max(progress.seconds, 1e-9)
        detail = f"{self._program.model.tasks[task].name} {name}, {speed / 1000:,.0f} kcycles/s"
        fraction = (sum(self._whole[: progress.frame]) + done) / max(1, sum(self._whole))
        self._report("simulate", fraction, detail)


def _outcome(prepared: Prepared, picture: Picture, number: int, frame: Frame, result: FrameResult) -> FrameOutcome:
    program, task = prepared.program, frame.task
    model, name = program.model, program.model.tasks[task].name
    golden = prepared.integer.run(picture.image, task)
    capture: dict[str, Any] = {}
    with torch.no_grad():
        output = prepared.checkpoint.model(torch.from_numpy(picture.image[None]), task, capture=capture)
    reference = capture["head"] if "head" in capture else output
    values = program.outputs[task].read(result.traces.output)
    tensor = f"head.{name}" if model.tasks[task].kind != "features" else f"layer{model.layers - 1:02d}.residual"
    chosen = routing(program, result)
    changes = [
        (np.sort(experts, axis=1) != np.sort(capture[f"{layer}.expert_indices"][0].numpy(), axis=1)).any(axis=1).mean()
        for layer, experts in chosen.items()
    ]
    return FrameOutcome(
        program=program,
        picture=number,
        task=name,
        verdict=verify(program, golden, result.traces, task),
        result=result,
        prediction=compare(
            model,
            task,
            reference[0].double().numpy(),
            prepared.integer.dequantise(tensor, values),
            picture.scene,
        ),
        routing=chosen,
        routing_changes=float(np.mean(changes)) if changes else None,
    )


def _window(
    program: Program,
    frames: Sequence[Frame],
    outcomes: Sequence[FrameOutcome],
    memory: MemorySettings,
    path: Path,
    on_progress: Report,
) -> bool:
    """Record the waves around the first mismatch, if there is one."""
    wrong = next((outcome for outcome in outcomes if not outcome.bit_exact), None)
    if wrong is None:
        return False
    result, first = wrong.result, wrong.verdict.first
    cycle = result.first_cycle + result.cycles
    if first is not None:
        cycle = first.cycle if first.cycle is not None else result.first_cycle + int(result.stamps[first.command][1])
    on_progress("waves", 0.0, f"debug build, cycles {cycle - WINDOW_BEFORE} to {cycle + WINDOW_AFTER}")
    window = (path, max(1, int(cycle) - WINDOW_BEFORE), int(cycle) + WINDOW_AFTER)
    run_machine(program, frames, memory_settings=memory, waves=window, trace=False)
    on_progress("waves", 1.0, str(path))
    return True


def _remember_speed(config: AcceleratorConfig, outcomes: Sequence[FrameOutcome]) -> None:
    spent = sum(outcome.result.cycles for outcome in outcomes)
    ideal = sum(outcome.work.ideal_cycles for outcome in outcomes)
    seconds = sum(outcome.result.seconds for outcome in outcomes)
    if ideal and spent and seconds and all(outcome.bit_exact for outcome in outcomes):
        write_json(_speed_file(config), {"overhead": spent / ideal, "cycles_per_s": spent / seconds})


def _facts(prepared: Prepared, memory: MemorySettings) -> dict[str, Any]:
    config, origin = prepared.config, prepared.checkpoint
    return {
        "model": prepared.program.model.name,
        "preset": config.name,
        "activation_width": config.numerics.activation_width,
        "residual_width": config.numerics.residual_width,
        "tool_versions": tool_versions(),
        "git": git_id(),
        "geometry": prepared.program.model.to_dict(),
        "machine": config.to_dict(),
        "checkpoint": {"seed": origin.seed, "data_version": origin.data_version, "tools": dict(origin.tools)},
        "memory": {name: value for name, value in vars(replace(memory)).items() if value is not None},
        "memory_map": vars(replace(prepared.program.map)),
    }
