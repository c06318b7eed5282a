"""Scores over labelled pictures."""

from __future__ import annotations

from pathlib import Path

from tessera.api.progress import Shown, shown
from tessera.common.expected import MAYBE, PATH, expect
from tessera.golden.seeded.gates import ROUTINGS
from tessera.sw.data.datasets import PROCEDURAL
from tessera.sw.evaluate import evaluate as scoring
from tessera.sw.evaluate.data import choose_data
from tessera.sw.evaluate.evaluate import Sweep
from tessera.sw.evaluate.results import Evaluation
from tessera.sw.run import prepare
from tessera.sw.run.calibrated import CalibrationImages, check_calibration_images


def evaluate(
    model: str | Path = "nano",
    *,
    data: str = "procedural",
    root: Path | str | None = None,
    sweep: Sweep | None = None,
    routing: str | None = None,
    calibration_images: CalibrationImages | None = None,
    split: str | None = None,
    progress: Shown = True,
) -> Evaluation:
    """Score a model in float, in integers of several widths, and on the simulated machine.

    Parameters
    ----------
    model:
        Name or path.
    data, root:
        ``procedural`` scenes, a published data set and its folder, or ``folder:PATH``, a folder for each class.
    sweep:
        Widths, calibrations, number of pictures and how many of them also run on the machine. By default 100 pictures,
        8 bits, none on the machine.
    routing:
        Loads that a seeded model's gates give.
    calibration_images:
        Folder of pictures, or bytes (B, 3, H, W), from which the ranges of activations follow. None takes training
        pictures of the data set, or generated street scenes.
    split:
        Part of the data set; None for ``val``.
    progress:
        Whether to show progress, or what to call with it.

    Returns
    -------
    Evaluation
        ``to_dict`` is what ``tessera evaluate`` writes.

    Raises
    ------
    ValueError
        Unknown model, data set, part or routing, pictures that cannot be read, or a value of another kind.
    """
    expect("data", data, str, "the name of a data set, such as 'procedural', or folder:PATH")
    expect("root", root, (*PATH, MAYBE), "the folder of the data set")
    expect("sweep", sweep, (Sweep, MAYBE), "a Sweep, such as Sweep(widths=(8, 16), scenes=50)")
    expect("routing", routing, (str, MAYBE), f"None, or one of: {', '.join(ROUTINGS)}")
    expect("split", split, (str, MAYBE), "the name of a part of the data set, such as 'val'")
    for name, value in (("root", root), ("split", split)):
        if data == PROCEDURAL and value is not None:
            raise ValueError(f"{name} is given, which generated scenes do not have: leave it out, or choose other data")
    if calibration_images is not None:
        check_calibration_images(calibration_images)
    folder = None if root is None else Path(root)
    chosen = sweep or Sweep(widths=(8,), scenes=100)
    with shown(progress) as report:
        path, loaded = prepare.load_model(model, routing, on_progress=report)
        pictures = choose_data(
            loaded,
            data,
            folder,
            scenes=chosen.scenes,
            calibration_images=calibration_images,
            split=split,
        )
        return scoring.evaluate(path, loaded, pictures, chosen, on_progress=report)
