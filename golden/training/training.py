"""Train a model on procedural scenes, both tasks together: reproducible on a CPU, in mixed precision on a GPU.

Noisy top-k gating and the load-balancing loss are M3ViT's (NeurIPS 2022); they live in :mod:`tessera.golden.moe`.
"""

from __future__ import annotations

import csv
import math
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as functional
from torch import Tensor

from tessera.common.files import file_aside
from tessera.common.progress import Progress, silent, throttled
from tessera.common.stamped import Schema, write_document
from tessera.golden import checkpoint
from tessera.golden.config import ModelConfig
from tessera.golden.model import VisionTransformer
from tessera.golden.moe import ExpertMlp
from tessera.golden.scenes import scenes
from tessera.golden.scenes.common import CLASS_NAMES
from tessera.golden.training.evaluation import score_held_out
from tessera.golden.training.recipes import Recipe
from tessera.golden.training.scene_pool import ScenePool
from tessera.golden.training.state import TrainingState

TRAINING = Schema(name="tessera-training", version=1)
"""The metrics of a training, as JSON."""


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
    device: str = "cpu",
    resume: bool = False,
    on_progress: Progress = silent,
) -> dict[str, Any]:
    """Train ``config`` and write ``out`` (.safetensors), its metrics (.json) and loss curve (.csv).

    Every ``recipe.save_every`` steps a checkpoint, the curve and a state to resume from (.resume) are written; the
    state goes once training is done. Equal arguments and tool versions give an equal result on one CPU, resumed or
    not.

    Parameters
    ----------
    config:
        A model with one segmentation task of the scenes' classes and one depth task, equal in cells.
    out:
        Path of the checkpoint; the other files take its stem.
    seed:
        Seed of weights, batches and gate noise.
    recipe:
        Schedule; the default is that of ``nano``.
    device:
        PyTorch's name of the device. On ``cuda`` matrix products run in bfloat16, on the CPU all is float32.
    resume:
        Go on from the state beside ``out`` instead of beginning anew.
    on_progress:
        Callback for the stages ``scenes``, ``training`` (with the loss) and ``evaluation``, a few times a second at
        most.

    Returns
    -------
    dict
        The metrics written to the JSON file.

    Raises
    ------
    ValueError
        If the model's tasks are not a segmentation of the scenes' classes and a depth; if there is no state to resume
        from, or one of another model, seed or recipe.
    """
    recipe, out = recipe or Recipe(), Path(out)
    cell = _check_tasks(config)
    on_progress = throttled(on_progress)
    torch.set_num_threads(recipe.threads)
    torch.manual_seed(seed)
    model = VisionTransformer(config).to(device)
    origin: dict[str, Any] = {"seed": seed, "data_version": scenes.DATA_VERSION, "tools": checkpoint.training_tools()}
    purpose = {"config": config.to_dict(), "recipe": asdict(recipe), **origin}
    state = TrainingState(model, _optimiser(model, recipe), seed)
    if resume:
        state.load(out.with_suffix(".resume"), purpose)
    began = time.monotonic() - 60 * state.minutes
    pool = ScenePool(config, recipe.pool, cell, on_progress, device)

    def save_now() -> None:
        state.minutes = (time.monotonic() - began) / 60
        partial = {"model": config.name, "steps": state.step, "unfinished": True}
        checkpoint.save(out, checkpoint.Checkpoint.of(model, metrics=partial, **origin))
        _write_curve(out.with_suffix(".csv"), state.curve)
        state.save(out.with_suffix(".resume"), purpose)

    _optimise(state, pool, recipe, save_now, on_progress)
    model = model.cpu().eval()
    if recipe.half:
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.copy_(parameter.half())
    result: dict[str, Any] = {"model": config.name, **origin, "recipe": asdict(recipe)}
    result |= {"device": device if device == "cpu" else torch.cuda.get_device_name(device)}
    result |= score_held_out(model.as_network(), scenes=recipe.held_out, on_progress=on_progress)
    result["minutes"] = round((time.monotonic() - began) / 60, 1)
    checkpoint.save(out, checkpoint.Checkpoint.of(model, metrics=result, **origin), half=recipe.half)
    _write_curve(out.with_suffix(".csv"), state.curve)
    write_document(out.with_suffix(".json"), TRAINING, result)
    out.with_suffix(".resume").unlink(missing_ok=True)
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


def _optimiser(model: VisionTransformer, recipe: Recipe) -> torch.optim.AdamW:
    matrices = [p for name, p in model.named_parameters() if p.ndim > 1 and "embed" not in name and "token" not in name]
    others = [p for p in model.parameters() if all(p is not q for q in matrices)]
    groups = [{"params": matrices, "weight_decay": recipe.decay}, {"params": others, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=recipe.rate, betas=(0.9, 0.99))


def _optimise(
    state: TrainingState,
    pool: ScenePool,
    recipe: Recipe,
    save_now: Callable[[], None],
    on_progress: Progress,
) -> None:
    model, optimiser = state.model.train(), state.optimiser
    mixtures = [module for module in model.modules() if isinstance(module, ExpertMlp)]
    weights = pool.class_weights(recipe.rarity)
    for step in range(state.step, recipe.steps):
        images, labels, targets = pool.batch(*state.draw(len(pool), recipe.batch))
        rate = recipe.rate * min(
            (step + 1) / max(recipe.warmup, 1), 0.01 + 0.99 * (1 + math.cos(math.pi * step / recipe.steps)) / 2
        )
        for group in optimiser.param_groups:
            group["lr"] = rate
        with torch.autocast(pool.device.type, torch.bfloat16, enabled=pool.device.type != "cpu"):
            logits, depth = model.forward_tasks(images, [0, 1])
        losses = {
            "segmentation": segmentation_loss(logits.float(), labels, weights),
            "depth": functional.mse_loss(depth.float(), targets),
            "balance": torch.stack([m.balance for m in mixtures]).mean() if mixtures else torch.zeros(()),
        }
        loss = losses["segmentation"] + recipe.depth_weight * losses["depth"]
        loss = loss + recipe.balance_weight * len(mixtures) * losses["balance"]
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        state.step = step + 1
        if step % 10 == 0 or step == recipe.steps - 1:
            state.curve.append({"step": step, "rate": rate, **{k: float(v.detach()) for k, v in losses.items()}})
            on_progress("training", (step + 1) / recipe.steps, f"loss {float(loss.detach()):.4f}")
        if (step + 1) % recipe.save_every == 0:
            save_now()


def _write_curve(path: Path, curve: list[dict[str, float]]) -> None:
    with file_aside(path) as aside, aside.open("w", newline="") as file:
        writer = csv.DictWriter(file, ["step", "segmentation", "depth", "balance", "rate"])
        writer.writeheader()
        writer.writerows({k: v if k == "step" else f"{v:.6g}" for k, v in row.items()} for row in curve)
