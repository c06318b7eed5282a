"""Train a model on procedural scenes, both tasks together, reproducibly on a CPU."""

from __future__ import annotations

import csv
import json
import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as functional
from torch import Tensor

from golden import checkpoint, metrics, scenes
from golden.config import ModelConfig
from golden.evaluation import evaluate
from golden.model import VisionTransformer
from golden.moe import ExpertMlp
from golden.scenes_common import CLASS_NAMES


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How to train.

    Parameters
    ----------
    steps, batch:
        Optimiser steps, and scenes in each; every scene is run under both tasks.
    pool:
        Distinct training scenes (indices 0 to ``pool`` - 1), generated first; each is also seen mirrored.
    rate, warmup, decay:
        Peak learning rate, steps of linear warm-up before the cosine, AdamW weight decay of matrices.
    depth_weight, balance_weight:
        Weights of the depth loss and of the load-balancing loss (M3ViT: 0.01) against the segmentation loss.
    rarity:
        Segmentation classes weigh frequency ** -rarity.
    held_out:
        Held-out scenes of the final evaluation.
    save_every:
        Steps between checkpoints.
    threads:
        PyTorch threads; results repeat exactly only for an equal number.
    """

    steps: int = 1600
    batch: int = 32
    pool: int = 16_384
    rate: float = 1.5e-3
    warmup: int = 200
    decay: float = 0.02
    depth_weight: float = 0.3
    balance_weight: float = 0.01
    rarity: float = 0.4
    held_out: int = 500
    save_every: int = 250
    threads: int = 1


@dataclass(frozen=True, kw_only=True)
class Progress:
    """What a progress display needs: stage name, its fraction done, latest loss, estimated seconds left in it."""

    stage: str
    fraction: float
    loss: float | None
    seconds_left: float | None


Report = Callable[[Progress], None]


class Pool:
    """Training scenes held in memory: images, labels, and depth averaged over each cell as the head's target."""

    def __init__(self, config: ModelConfig, size: int, cell: int, report: Callable[[float], None]) -> None:
        height, width = config.image_height, config.image_width
        self.images = torch.empty(size, 3, height, width, dtype=torch.uint8)
        self.labels = torch.empty(size, height, width, dtype=torch.uint8)
        self.depths = torch.empty(size, 1, height // cell, width // cell)
        for index in range(size):
            scene = scenes.generate(index, height=height, width=width)
            self.images[index] = torch.from_numpy(scene.image).permute(2, 0, 1)
            self.labels[index] = torch.from_numpy(scene.label)
            mean = scene.depth.reshape(height // cell, cell, width // cell, cell).mean(axis=(1, 3))
            self.depths[index, 0] = torch.from_numpy(metrics.depth_to_output(mean))
            if index % 64 == 63 or index == size - 1:
                report((index + 1) / size)

    def class_weights(self, rarity: float) -> Tensor:
        """Class weights frequency ** -rarity, scaled so that the mean weight of a pixel is 1."""
        counts = torch.bincount(self.labels.flatten(), minlength=len(CLASS_NAMES)).double()
        share = counts.clamp(min=1) / counts.sum()
        weights = share**-rarity
        return (weights / (share * weights).sum()).float()

    def batch(self, rows: Tensor, mirror: bool) -> tuple[Tensor, Tensor, Tensor]:
        """Images, labels and depth targets of some scenes, as they are or mirrored."""
        parts = self.images[rows], self.labels[rows], self.depths[rows]
        return tuple(part.flip(-1) for part in parts) if mirror else parts  # type: ignore[return-value]


def segmentation_loss(logits: Tensor, labels: Tensor, weights: Tensor) -> Tensor:
    """Class-weighted cross-entropy of cell logits (B, C, h, w) against every pixel label (B, H, W) of each cell."""
    cell = labels.shape[-1] // logits.shape[-1]
    counts = functional.one_hot(labels.long(), logits.shape[1]).permute(0, 3, 1, 2).to(logits.dtype)
    share = functional.avg_pool2d(counts, cell)
    return -(share * functional.log_softmax(logits, dim=1) * weights[:, None, None]).sum(dim=1).mean()


def train(
    config: ModelConfig,
    *,
    out: str | Path,
    seed: int = 0,
    recipe: Recipe | None = None,
    report: Report | None = None,
) -> dict[str, Any]:
    """Train ``config`` from scratch and write ``out`` (.safetensors), its metrics (.json) and loss curve (.csv).

    A checkpoint is also written every ``recipe.save_every`` steps. Equal arguments and tool versions give an equal
    result on one machine.

    Parameters
    ----------
    config:
        A model with one segmentation task of the scenes' classes and one depth task, equal in cells.
    out:
        Path of the checkpoint; the other files take its stem.
    seed:
        Seed of weights, batches and gate noise.
    recipe:
        Schedule; the default is the shipped model's.
    report:
        Called with :class:`Progress` a few times a second at most.

    Returns
    -------
    dict
        The metrics written to the JSON file.

    Raises
    ------
    ValueError
        If the model's tasks are not a segmentation of the scenes' classes and a depth.
    """
    recipe, out, started = recipe or Recipe(), Path(out), time.monotonic()
    cell = _check_tasks(config)
    show = _throttle(report)
    torch.set_num_threads(recipe.threads)
    torch.manual_seed(seed)
    model = VisionTransformer(config)
    origin: dict[str, Any] = {"seed": seed, "data_version": scenes.DATA_VERSION, "tools": checkpoint.tool_versions()}
    pool = Pool(config, recipe.pool, cell, lambda fraction: show("scenes", fraction, None))
    curve: list[dict[str, float]] = []

    def save_now(done: int) -> None:
        partial = {"model": config.name, "steps": done, "unfinished": True}
        checkpoint.save(out, checkpoint.Checkpoint(model=model, metrics=partial, **origin))
        _write_curve(out.with_suffix(".csv"), curve)

    _optimise(model, pool, recipe, seed, curve, save_now, lambda f, loss: show("training", f, loss))
    model.eval()
    result: dict[str, Any] = {"model": config.name, **origin, "recipe": asdict(recipe)}
    result |= evaluate(model, scenes=recipe.held_out, report=lambda fraction: show("evaluation", fraction, None))
    result["minutes"] = round((time.monotonic() - started) / 60, 1)
    checkpoint.save(out, checkpoint.Checkpoint(model=model, metrics=result, **origin))
    _write_curve(out.with_suffix(".csv"), curve)
    out.with_suffix(".json").write_text(json.dumps(result, indent=2) + "\n")
    return result


def _check_tasks(config: ModelConfig) -> int:
    kinds = [(task.kind, task.channels, config.patch % max(task.cells, 1)) for task in config.tasks]
    cells = {task.cells for task in config.tasks}
    if kinds != [("segmentation", len(CLASS_NAMES), 0), ("depth", 1, 0)] or len(cells) != 1:
        tasks = [(task.name, task.kind, task.channels, task.cells) for task in config.tasks]
        raise ValueError(
            f"model '{config.name}' has tasks (name, kind, channels, cells) {tasks}; training "
            f"needs a segmentation of {len(CLASS_NAMES)} classes, then a depth, with equal cells that divide the patch"
        )
    return config.patch // cells.pop()


def _optimise(
    model: VisionTransformer,
    pool: Pool,
    recipe: Recipe,
    seed: int,
    curve: list[dict[str, float]],
    save_now: Callable[[int], None],
    show: Callable[[float, float], None],
) -> None:
    model.train()
    mixtures = [module for module in model.modules() if isinstance(module, ExpertMlp)]
    matrices = [p for name, p in model.named_parameters() if p.ndim > 1 and "embed" not in name and "token" not in name]
    others = [p for p in model.parameters() if all(p is not q for q in matrices)]
    groups = [{"params": matrices, "weight_decay": recipe.decay}, {"params": others, "weight_decay": 0.0}]
    optimiser = torch.optim.AdamW(groups, lr=recipe.rate, betas=(0.9, 0.99))
    weights = pool.class_weights(recipe.rarity)
    generator = np.random.default_rng(seed)
    order = np.empty(0, np.int64)
    for step in range(recipe.steps):
        while len(order) < recipe.batch:
            order = np.concatenate([order, generator.permutation(len(pool.images))])
        rows, order = torch.from_numpy(order[: recipe.batch]), order[recipe.batch :]
        images, labels, targets = pool.batch(rows, mirror=bool(generator.random() < 0.5))
        rate = recipe.rate * min(
            (step + 1) / max(recipe.warmup, 1), 0.01 + 0.99 * (1 + math.cos(math.pi * step / recipe.steps)) / 2
        )
        for group in optimiser.param_groups:
            group["lr"] = rate
        logits, depth = model.forward_tasks(images, [0, 1])
        losses = {
            "segmentation": segmentation_loss(logits, labels, weights),
            "depth": functional.mse_loss(depth, targets),
            "balance": torch.stack([m.balance for m in mixtures]).mean() if mixtures else torch.zeros(()),
        }
        loss = losses["segmentation"] + recipe.depth_weight * losses["depth"]
        loss = loss + recipe.balance_weight * len(mixtures) * losses["balance"]
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        if step % 10 == 0 or step == recipe.steps - 1:
            curve.append({"step": step, "rate": rate, **{k: float(v.detach()) for k, v in losses.items()}})
            show((step + 1) / recipe.steps, float(loss.detach()))
        if (step + 1) % recipe.save_every == 0:
            save_now(step + 1)


def _write_curve(path: Path, curve: list[dict[str, float]]) -> None:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, ["step", "segmentation", "depth", "balance", "rate"])
        writer.writeheader()
        writer.writerows({k: v if k == "step" else f"{v:.6g}" for k, v in row.items()} for row in curve)


def _throttle(report: Report | None) -> Callable[[str, float, float | None], None]:
    """Wrap ``report``: at most four calls a second and one at each stage's end, with the time left in the stage."""
    begun: dict[str, float] = {}
    last = 0.0

    def show(stage: str, fraction: float, loss: float | None) -> None:
        nonlocal last
        now = time.monotonic()
        spent = now - begun.setdefault(stage, now)
        if report is None or (fraction < 1 and now - last < 0.25):
            return
        last = now
        left = spent * (1 - fraction) / fraction if spent > 0 else None
        report(Progress(stage=stage, fraction=fraction, loss=loss, seconds_left=left))

    return show
