"""How the models that ship were trained: data, not code."""

from __future__ import annotations

from dataclasses import dataclass


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
        Steps between checkpoints that training can be resumed from.
    threads:
        PyTorch threads; results repeat exactly only for an equal number.
    half:
        The result is rounded to half precision, which halves its file; scored as rounded.
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
    half: bool = False


RECIPES = {
    "nano": Recipe(),
    # What one core of a CPU does in an hour and a half; a GPU takes many more steps of larger batches.
    "m3vit-tiny": Recipe(steps=1400, batch=16, pool=8192, rate=1e-3, warmup=80, save_every=100, half=True),
}
"""The recipes of the models that ship, by model name."""
