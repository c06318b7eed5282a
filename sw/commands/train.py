"""``tessera train``: a demonstration model on procedural scenes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast, get_args

import typer
from rich.markup import escape

from tessera.golden.config import MODELS, ModelConfig, Router
from tessera.sw.commands import options
from tessera.sw.commands.terminal import Display, console, reported, table

if TYPE_CHECKING:
    from tessera.golden.training.recipes import Recipe

_SUFFIXES = (".json", ".csv", ".safetensors")  # of what a training makes, the checkpoint last
TASK_EMBEDDING = 16
"""Values of a task's embedding when ``--router task_conditioned`` asks for one."""


@dataclass(frozen=True, kw_only=True)
class RecipeOptions:
    """Options of a training; those that are not given are the shipped model's."""

    steps: Annotated[
        int | None, typer.Option(min=1, max=10**8, help="Optimiser steps; the default is the shipped model's.")
    ] = None
    batch: Annotated[int | None, typer.Option(min=1, max=65_536, help="Scenes a step; likewise.")] = None
    pool: Annotated[int | None, typer.Option(min=1, max=500_000, help="Distinct training scenes; likewise.")] = None
    rate: Annotated[float | None, typer.Option(help="Peak learning rate; likewise.")] = None
    held_out: Annotated[
        int | None, typer.Option(min=1, max=options.MOST_PICTURES, help="Held-out scenes of the final score; likewise.")
    ] = None

    def recipe(self, model: str) -> Recipe:
        """How to train ``model``."""
        from tessera.golden.training.recipes import RECIPES, Recipe

        if self.rate is not None and not 0 < self.rate <= 1:
            raise ValueError(f"--rate is {self.rate:g}; choose more than 0 and at most 1, such as 0.001")
        given = {name: value for name, value in vars(self).items() if value is not None}
        return replace(RECIPES.get(model, Recipe()), **given)


@reported
@options.with_groups
def command(
    recipe: RecipeOptions,
    model: Annotated[str, typer.Option(help="Geometry to train: nano or m3vit-tiny (golden/config.py).")] = "nano",
    router: Annotated[
        str, typer.Option(help="multi_gate (a gate a task) or task_conditioned (one gate that sees the task).")
    ] = "multi_gate",
    seed: Annotated[int, typer.Option(min=0, max=2**31 - 1, help="Seed of weights, batches and gate noise.")] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda; a GPU computes in mixed precision.")] = "auto",
    resume: Annotated[bool, typer.Option("--resume", help="Go on where a training that was cut off stopped.")] = False,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Checkpoint; default models/NAME.safetensors.")
    ] = None,
) -> None:
    """Train a model on generated scenes (nano half an hour on a CPU, m3vit-tiny an hour and a half).

    Noisy top-k gating and a load-balancing loss, as in M3ViT. On a CPU reproducible for a seed. The checkpoint, its
    metrics (.json) and loss curve (.csv) appear together at the end; on the way there they grow in build/train, where
    --resume finds them.

    Examples
    --------
      tessera train

      tessera train --model m3vit-tiny --steps 20000 --batch 64 --device cuda

      tessera train --steps 100 --pool 256 -o build/quick.safetensors
    """
    from tessera.common.files import check_file, move_file
    from tessera.common.paths import CHECKOUT, PROJECT_ROOT, build_folder
    from tessera.golden.training.training import train

    config, chosen = _geometry(model, router), recipe.recipe(model)
    where = _device(device)
    models = PROJECT_ROOT / "models" if CHECKOUT else Path()
    target = out or models / f"{config.name}.safetensors"
    if target.suffix != ".safetensors":
        raise ValueError(f"the checkpoint is to be called {target}; give a name that ends in .safetensors")
    for suffix in _SUFFIXES:
        check_file(target.with_suffix(suffix))
    aside = build_folder() / "train" / target.name
    aside.parent.mkdir(parents=True, exist_ok=True)
    console.print(
        f"Training {config.name} with seed {seed} on {where} into {escape(str(target))} "
        f"(unfinished: {escape(str(aside))})",
        soft_wrap=True,
    )
    with Display() as display:
        metrics = train(config, out=aside, seed=seed, recipe=chosen, device=where, resume=resume, on_progress=display)
    for suffix in _SUFFIXES:
        move_file(aside.with_suffix(suffix), target.with_suffix(suffix))
    _show(metrics)


def _show(metrics: dict[str, Any]) -> None:
    rows = [
        ("mIoU", f"{metrics['held_out']['mean_iou']:.4f}", f"{metrics['constant']['mean_iou']:.4f}"),
        ("depth RMSE in m", f"{metrics['held_out']['depth_rmse_m']:.3f}", f"{metrics['constant']['depth_rmse_m']:.3f}"),
    ]
    table(f"{metrics['held_out']['scenes']} held-out scenes", ["", "model", "best constant"], rows)
    ious = [(name, f"{value:.4f}") for name, value in metrics["held_out"]["class_iou"].items()]
    table("IoU of each class", ["", "model"], ious)


def _geometry(model: str, router: str) -> ModelConfig:
    """The geometry to train; ValueError for one that there is not, or that cannot be trained."""
    if model not in MODELS:
        raise ValueError(f"unknown geometry '{model}'; golden/config.py has: {', '.join(MODELS)}")
    config = MODELS[model]
    headless = [task.name for task in config.tasks if task.kind == "features"]
    if headless:
        raise ValueError(
            f"model '{model}' has tasks without a head ({', '.join(headless)}), so nothing to learn from scenes; "
            "it comes with seeded weights: tessera run --model " + model
        )
    if router not in get_args(Router):
        raise ValueError(f"unknown router '{router}'; choose one of: {', '.join(get_args(Router))}")
    if router == config.router:
        return config
    embedding = TASK_EMBEDDING if router == "task_conditioned" else 0
    return replace(config, name=f"{config.name}-{router}", router=cast(Router, router), task_embedding=embedding)


def _device(name: str) -> str:
    import torch

    if name not in ("auto", "cpu", "cuda"):
        raise ValueError(f"unknown device '{name}'; choose auto, cpu or cuda")
    if name == "cuda" and not torch.cuda.is_available():
        raise ValueError("PyTorch finds no GPU here; choose cpu, or install a PyTorch built for your GPU")
    return "cuda" if name != "cpu" and torch.cuda.is_available() else "cpu"
