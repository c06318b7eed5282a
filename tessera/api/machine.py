"""The machine: run frames on the simulated RTL, and compare every tensor with the golden model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tessera.api.models import as_target
from tessera.api.progress import Shown, shown
from tessera.common.expected import MAYBE, expect, several
from tessera.common.summary import Summarised, Summary
from tessera.sim.machine.sdram import SdramSettings
from tessera.sim.machine.settings import MemorySettings
from tessera.sw.data.pictures import FIRST_SCENE, PictureChoice
from tessera.sw.results.outcome import RunResult
from tessera.sw.run import execute
from tessera.sw.run.calibrated import CalibrationImages
from tessera.sw.run.execute import Memory
from tessera.sw.run.prepare import Prepared, prepare
from tessera.sw.run.target import Target


def run(
    target: Target | str = "nano",
    image: PictureChoice | str | Path | NDArray[np.uint8] | None = None,
    *,
    task: str = "all",
    memory: Memory | None = None,
    out: Path | str | None = None,
    accuracy_scenes: int = 0,
    progress: Shown = True,
) -> RunResult:
    """Run a picture through a model on the simulated machine, and verify every tensor.

    Parameters
    ----------
    target:
        Model and machine, or a model's name for the preset ``edge``.
    image:
        Picture file; bytes (H, W, 3), (3, H, W) or grey (H, W); or a choice of several pictures. None takes a
        generated scene with labels.
    task:
        ``all``, one task of the model, or several with commas.
    memory:
        Behaviour of the simulated DRAM, or a board's SDRAM.
    out:
        Folder for the report. None writes nothing.
    accuracy_scenes:
        Held-out scenes to score the float and the integer model on; 0 for none.
    progress:
        Whether to show progress, or what to call with it.

    Returns
    -------
    RunResult
        ``bit_exact``, and for each frame the cycles, the prediction and the routing. ``to_dict`` is what ``run.json``
        holds. :func:`tessera.figures` draws it.

    Raises
    ------
    ValueError
        Unknown model, machine, task or picture, a value of another kind, a folder that cannot be written, or a model
        that the machine cannot hold.

    Examples
    --------
    >>> import tessera
    >>> result = tessera.run(tessera.Target(model="pico", preset="tiny"), progress=False)
    >>> result.bit_exact
    True
    """
    pictures = image if isinstance(image, PictureChoice) else PictureChoice(image=image)
    with shown(progress) as report:
        return execute.run(
            as_target(target),
            task=task,
            pictures=pictures,
            memory=memory,
            out=out,
            accuracy_scenes=accuracy_scenes,
            on_progress=report,
        )


@dataclass(frozen=True, kw_only=True, repr=False)
class Verification(Summarised):
    """Runs of one model on several machines, each compared with the golden model."""

    runs: tuple[RunResult, ...]

    @property
    def bit_exact(self) -> bool:
        """Whether every frame of every run is."""
        return all(run.bit_exact for run in self.runs)

    def summary(self) -> Summary:
        """One row per frame."""
        rows = [
            (
                f"{run.program.config.name}, {run.program.config.numerics.activation_width} bits, {frame.task}",
                "yes" if frame.bit_exact else "NO",
                f"{frame.verdict.tensors_compared:,}",
                f"{frame.result.cycles:,}",
            )
            for run in self.runs
            for frame in run.frames
        ]
        title = f"{self.runs[0].program.model.name} against the integer golden model"
        return Summary(title=title, columns=("bit-exact", "tensors", "cycles"), rows=tuple(rows))

    def to_dict(self) -> dict[str, Any]:
        """JSON-compatible form."""
        return {"bit_exact": self.bit_exact, "runs": [run.to_dict() for run in self.runs]}


def verify(
    model: str | Path = "nano",
    *,
    presets: Sequence[str] = ("edge",),
    activation_widths: Sequence[int] = (8,),
    images: PictureChoice = FIRST_SCENE,
    calibration_images: CalibrationImages | None = None,
    memory: Memory | None = None,
    progress: Shown = True,
) -> Verification:
    """Run a model on every combination of machine and width, and compare every tensor of every frame.

    Parameters
    ----------
    model:
        Name or path.
    presets, activation_widths:
        Machines, and bits of an activation: 8, 12 or 16.
    images:
        Pictures, run back to back without a reset.
    calibration_images:
        Folder of pictures, or bytes (B, 3, H, W), from which the ranges of activations follow; None for generated
        street scenes.
    memory:
        Behaviour of the simulated DRAM: ``MemorySettings(stall=60, seed=7)`` pauses at random.
    progress:
        Whether to show progress, or what to call with it.

    Raises
    ------
    ValueError
        Nothing to verify, or what :func:`run` refuses.
    """
    machines = several("presets", presets, "the names of machines")
    widths = several("activation_widths", activation_widths, "bits of an activation")
    if not machines or not widths:
        raise ValueError("nothing to verify: give at least one preset and one activation width")
    expect("images", images, PictureChoice, "a PictureChoice, such as PictureChoice(image='street.png')")
    expect("memory", memory, (MemorySettings, SdramSettings, MAYBE), execute.MEMORY_KINDS)
    targets = [
        Target(model=model, preset=preset, activation_width=width, calibration_images=calibration_images)
        for preset in machines
        for width in widths
    ]
    with shown(progress) as report:
        ready = [prepare(target, pictures=images, on_progress=report) for target in targets]
        return Verification(runs=tuple(_run(prepared, images, memory, report) for prepared in ready))


def _run(prepared: Prepared, images: PictureChoice, memory: Memory | None, report: Any) -> RunResult:
    shown_pictures = images.load(prepared.program.model)
    return execute.execute(prepared, shown_pictures, prepared.task_indices("all"), memory=memory, on_progress=report)
