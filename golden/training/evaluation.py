"""Evaluate a float model on held-out scenes: both tasks' scores, the constant predictor's, and expert use."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from tessera.common.progress import Progress, silent
from tessera.golden import metrics
from tessera.golden.network.compute import FloatNetwork, as_map
from tessera.golden.network.network import Network
from tessera.golden.network.operators import MixExperts
from tessera.golden.scenes.scenes import HELD_OUT, generate_batch

CONSTANT_SCENES = 1000
"""Training scenes from which the best constant predictor is made."""


def score_held_out(model: FloatNetwork, *, scenes: int = 500, on_progress: Progress = silent) -> dict[str, Any]:
    """Score ``model`` on the first ``scenes`` held-out scenes.

    Parameters
    ----------
    model:
        A model whose tasks 0 and 1 are segmentation of the scenes' classes and depth.
    scenes:
        How many held-out scenes.
    on_progress:
        Callback for the stage ``evaluation``.

    Returns
    -------
    dict
        ``held_out`` (scores of the model), ``constant`` (scores of the best constant predictor on the same scenes)
        and ``routing``: for each expert layer and task, the share of token-expert choices that each expert receives.
    """
    network, chunk = model.network, 50
    size = {"height": network.image_height, "width": network.image_width}
    classes, depth_map = metrics.constant_predictor(generate_batch(range(CONSTANT_SCENES), **size))
    ours, constant = metrics.Scores(), metrics.Scores()
    counts = _no_choices(network)
    for start in range(0, scenes, chunk):
        batch = generate_batch(range(HELD_OUT + start, HELD_OUT + min(start + chunk, scenes)), **size)
        capture: dict[str, Any] = {}
        with torch.no_grad():
            images = torch.from_numpy(batch.image).permute(0, 3, 1, 2)
            results = model.run(images, [0, 1], capture=capture)
        logits, output = (as_map(result, task) for result, task in zip(results, network.tasks, strict=False))
        ours.add_segmentation(logits.argmax(dim=1).numpy(), batch.label)
        ours.add_depth(metrics.output_to_depth(output[:, 0].numpy()), batch.depth)
        constant.add_segmentation(classes, batch.label)
        constant.add_depth(depth_map, batch.depth)
        for mixture in network.of_kind(MixExperts):
            by_task = counts[mixture.place]
            for indices, task in zip(capture[f"{mixture.name}.expert_indices"].chunk(2), by_task, strict=True):
                by_task[task] += np.bincount(indices.flatten().numpy(), minlength=len(by_task[task]))
        on_progress("evaluation", min(start + chunk, scenes) / scenes, "")
    routing = {
        layer: {task: (count / count.sum()).round(5).tolist() for task, count in by_task.items()}
        for layer, by_task in counts.items()
    }
    return {
        "held_out": {"scenes": scenes, **ours.to_dict()},
        "constant": {"scenes": scenes, **constant.to_dict()},
        "routing": routing,
    }


def _no_choices(network: Network) -> dict[str, dict[str, np.ndarray]]:
    return {
        mixture.place: {task.name: np.zeros(mixture.experts(network.weights), np.int64) for task in network.tasks[:2]}
        for mixture in network.of_kind(MixExperts)
    }
