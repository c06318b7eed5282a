"""``tessera train``: a demonstration model on procedural scenes."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from sw.commands.terminal import Display, console, reported, table


@reported
def command(
    model: Annotated[str, typer.Option(help="Geometry to train (golden/config.py).")] = "nano",
    seed: Annotated[int, typer.Option(help="Seed of weights, batches and gate noise.")] = 0,
    steps: Annotated[
        int | None, typer.Option(min=1, help="Optimiser steps; the default is the shipped model's.")
    ] = None,
    pool: Annotated[int | None, typer.Option(min=1, help="Distinct training scenes; likewise.")] = None,
    held_out: Annotated[int | None, typer.Option(min=1, help="Held-out scenes of the final score; likewise.")] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Checkpoint; default models/NAME.safetensors.")
    ] = None,
) -> None:
    """Train a model on generated scenes (about half an hour on two cores); reproducible for a seed.

    The checkpoint, its metrics (.json) and loss curve (.csv) appear together at the end; on the way there they grow in
    build/train.

    Examples
    --------
      tessera train

      tessera train --steps 100 --pool 256 -o build/quick.safetensors
    """
    from golden.config import MODELS
    from golden.training import Progress, Recipe, train
    from sw.files import PROJECT_ROOT

    if model not in MODELS:
        raise ValueError(f"unknown geometry '{model}'; golden/config.py has: {', '.join(MODELS)}")
    headless = [task.name for task in MODELS[model].tasks if task.kind == "features"]
    if headless:
        raise ValueError(
            f"model '{model}' has tasks without a head ({', '.join(headless)}), so nothing to learn from scenes; "
            "it comes with seeded weights: tessera run --model " + model
        )
    given = {"steps": steps, "pool": pool, "held_out": held_out}
    chosen = {name: value for name, value in given.items() if value is not None}
    target = out or PROJECT_ROOT / "models" / f"{model}.safetensors"
    if target.suffix != ".safetensors":
        raise ValueError(f"the checkpoint is to be called {target}; give a name that ends in .safetensors")
    aside = PROJECT_ROOT / "build" / "train" / target.name
    aside.parent.mkdir(parents=True, exist_ok=True)
    console.print(f"Training {model} with seed {seed} into {target} (unfinished: {aside})", soft_wrap=True)
    with Display() as display:

        def report(progress: Progress) -> None:
            loss = "" if progress.loss is None else f"loss {progress.loss:.4f}"
            display(progress.stage, progress.fraction, loss)

        metrics = train(MODELS[model], out=aside, seed=seed, recipe=Recipe(**chosen), report=report)
    target.parent.mkdir(parents=True, exist_ok=True)
    for suffix in (".json", ".csv", ".safetensors"):
        os.replace(aside.with_suffix(suffix), target.with_suffix(suffix))
    rows = [
        ("mIoU", f"{metrics['held_out']['mean_iou']:.4f}", f"{metrics['constant']['mean_iou']:.4f}"),
        ("depth RMSE in m", f"{metrics['held_out']['depth_rmse_m']:.3f}", f"{metrics['constant']['depth_rmse_m']:.3f}"),
    ]
    table(f"{metrics['held_out']['scenes']} held-out scenes", ["", "model", "best constant"], rows)
