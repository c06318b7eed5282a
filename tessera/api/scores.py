"""Scores over labelled pictures."""

from __future__ import annotations

from pathlib import Path

from tessera.api.progress import Shown, shown
from tessera.sw.evaluate import evaluate as scoring
from tessera.sw.evaluate.data import choose_data
from tessera.sw.evaluate.evaluate import Sweep
from tessera.sw.evaluate.results import Evaluation
from tessera.sw.run import prepare


def evaluate(
    model: str | Path = "nano",
    *,
    data: str = "procedural",
    root: Path | None = None,
    sweep: Sweep | None = None,
    routing: str | None = None,
    progress: Shown = True,
) -> Evaluation:
    """Score a model in float, in integers of several widths, and on the simulated machine.

    Parameters
    ----------
    model:
        Name or path.
    data, root:
        ``procedural`` scenes, or a data set and its folder.
    sweep:
        Widths, calibrations, number of pictures and how many of them also run on the machine. By default 100 pictures,
        8 bits, none on the machine.
    routing:
        Loads that a seeded model's gates give.
    progress:
        Whether to show progress, or what to call with it.

    Returns
    -------
    Evaluation
        ``to_dict`` is what ``tessera evaluate`` writes.
    """
    chosen = sweep or Sweep(widths=(8,), scenes=100)
    with shown(progress) as report:
        path, loaded = prepare.load_model(model, routing, on_progress=report)
        pictures = choose_data(loaded.config, data, root, scenes=chosen.scenes or 100)
        return scoring.evaluate(path, loaded, pictures, chosen, on_progress=report)
