"""Float and integer arithmetic on the same pictures: how well each predicts, and how far the second is from the first.

A :class:`Scorer` takes one picture; :func:`score` takes many, in several processes, and adds up their tallies. Sums are
added in the order of the pictures, so the result does not depend on the number of processes.
"""

from __future__ import annotations

import multiprocessing
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from tessera.common.progress import Progress, silent
from tessera.golden import metrics
from tessera.golden.integer.model import IntegerModel
from tessera.golden.network.compute import FloatNetwork, as_map
from tessera.golden.network.network import Task
from tessera.golden.network.operators import MixExperts
from tessera.sw.data.dataset import CLASSIFICATION, DEPTH, SEGMENTATION, Dataset, Item, resized
from tessera.sw.results.hits import Hits

FLOAT = "float"
"""Name of the float model among the arithmetics."""

CHUNK = 4
"""Pictures that a process takes at a time."""

Choices = dict[str, NDArray[np.int64]]
"""Experts chosen, (tokens, top_k), by mixture."""


@dataclass(kw_only=True)
class Tally:
    """What one arithmetic made of some pictures.

    ``scores`` and ``hits`` are against the truth; ``far_pixels`` have a depth beyond what is scored. The rest is
    against the float model: ``choices``, for each task and mixture the expert choices that differ and all of them;
    ``outputs``, the deviation of each task's outputs; ``agreed``, by task that classifies whole pictures, of how many
    it gave the same class. ``saturated`` counts frames whose residual stream clipped.
    """

    scores: metrics.Scores
    hits: Hits = field(default_factory=Hits)
    pictures: int = 0
    far_pixels: int = 0
    saturated: int = 0
    choices: dict[str, dict[str, NDArray[np.int64]]] = field(default_factory=dict)
    outputs: dict[str, metrics.Deviation] = field(default_factory=dict)
    agreed: Counter[str] = field(default_factory=Counter)

    def add(self, other: Tally) -> None:
        """Count everything that ``other`` has counted."""
        self.scores.add(other.scores)
        self.hits.include(other.hits)
        self.agreed.update(other.agreed)
        self.pictures += other.pictures
        self.far_pixels += other.far_pixels
        self.saturated += other.saturated
        for task, layers in other.choices.items():
            ours = self.choices.setdefault(task, {})
            for layer, counts in layers.items():
                ours[layer] = ours.get(layer, 0) + counts
        for task, deviation in other.outputs.items():
            self.outputs.setdefault(task, metrics.Deviation()).include(deviation)

    def add_prediction(self, kind: str, output: NDArray, item: Item) -> None:
        """Score a task's map (channels, cells down, cells across) against the truth of a picture, where it has any."""
        if kind == SEGMENTATION and item.segmentation is not None:
            self.scores.add_segmentation(output.argmax(axis=0), item.segmentation)
        elif kind == DEPTH and item.depth is not None:
            self.scores.add_depth(metrics.output_to_depth(output[0]), item.depth)
            self.far_pixels += int(np.isinf(item.depth).sum())
        elif kind == CLASSIFICATION and item.label is not None:
            self.hits.add(output.ravel(), item.label)

    def add_choices(self, task: str, ours: Choices, reference: Choices) -> None:
        """Count which of a task's choices the float model did not make."""
        layers = self.choices.setdefault(task, {})
        for layer, chosen in ours.items():
            changed = metrics.changed_choices(chosen, reference[layer])
            layers[layer] = layers.get(layer, 0) + np.array([changed.sum(), changed.size])

    def add_outputs(self, task: Task, ours: NDArray, reference: NDArray) -> None:
        """Compare a task's real outputs with the float model's."""
        self.outputs.setdefault(task.name, metrics.Deviation()).add(ours, reference)
        if task.kind == CLASSIFICATION:
            self.agreed[task.name] += int(ours.argmax() == reference.argmax())

    @property
    def routing_changes(self) -> float | None:
        """Share of all choices (token, layer, expert) that differ from the float model's; None without experts."""
        counts = [counts for layers in self.choices.values() for counts in layers.values()]
        if not counts:
            return None
        changed, total = np.sum(counts, axis=0)
        return float(changed / total)

    def to_dict(self, scored: Sequence[str]) -> dict[str, Any]:
        """JSON-compatible form; of the truth only the kinds ``scored``, the others are None."""
        scores = self.scores
        return {
            "scenes": self.pictures,
            "mean_iou": scores.mean_iou if SEGMENTATION in scored else None,
            "class_iou": scores.class_iou if SEGMENTATION in scored else None,
            "depth_rmse_m": scores.depth_rmse if DEPTH in scored else None,
            "depth_abs_rel": scores.depth_abs_rel if DEPTH in scored else None,
            "top1": self.hits.top1 if CLASSIFICATION in scored else None,
            "top5": self.hits.top5 if CLASSIFICATION in scored else None,
            "routing_changes": self.routing_changes,
            "routing_changes_by_layer": {
                task: {layer: float(counts[0] / counts[1]) for layer, counts in layers.items()}
                for task, layers in self.choices.items()
            },
            "outputs": self.outputs_to_dict(),
            "saturated": self.saturated,
        }

    def outputs_to_dict(self) -> dict[str, dict[str, float]]:
        """Relative L2 error and cosine of each task's outputs against float, over all pictures.

        Of a task that classifies whole pictures ``same_class``, too: the share of them that float gives the same class.
        """
        found = {
            task: {"relative_l2": deviation.relative_l2, "cosine": deviation.cosine}
            for task, deviation in self.outputs.items()
        }
        for task, pictures in self.agreed.items():
            found[task]["same_class"] = pictures / self.pictures
        return found


class Scorer:
    """Runs pictures through a float model and through its integer forms.

    Parameters
    ----------
    model:
        The float model.
    integers:
        Its integer forms, by name.
    class_names:
        Classes of the truth that pictures will bring.
    tasks:
        Indices of the tasks to score against the truth, one of each kind; the others are compared with float alone.
    """

    def __init__(
        self,
        model: FloatNetwork,
        integers: Mapping[str, IntegerModel],
        class_names: Sequence[str],
        tasks: Sequence[int],
    ) -> None:
        self.model, self.integers = model, dict(integers)
        self.class_names, self.tasks = tuple(class_names), tuple(tasks)

    def tally(self) -> Tally:
        """An empty tally."""
        return Tally(scores=metrics.Scores(class_names=self.class_names))

    def picture(self, item: Item) -> dict[str, Tally]:
        """Tallies of one picture, by arithmetic."""
        network = self.model.network
        item = resized(item, network.image_height, network.image_width)
        image = np.ascontiguousarray(item.image.transpose(2, 0, 1))
        tallies = {name: self.tally() for name in (FLOAT, *self.integers)}
        reference, choices = float_outputs(self.model, image)
        for name, tally in tallies.items():
            tally.pictures = 1
            saturated = False
            for index, task in enumerate(network.tasks):
                output = reference[index]
                if name != FLOAT:
                    tensors = self.integers[name].run(image, index)
                    output = result_map(self.integers[name].output(tensors, index), task)
                    tally.add_outputs(task, output, reference[index])
                    chosen = {mixture: tensors[f"{mixture}.expert_indices"] for mixture in choices[index]}
                    tally.add_choices(task.name, chosen, choices[index])
                    saturated = saturated or tensors["saturated"]
                if index in self.tasks:
                    tally.add_prediction(task.kind, output, item)
            tally.saturated = int(saturated)
        return tallies


def float_outputs(model: FloatNetwork, image: NDArray[np.uint8]) -> tuple[list[NDArray], list[Choices]]:
    """Every task's output map (or features) and its chosen experts by mixture, of one picture (3, H, W)."""
    network, tasks = model.network, range(len(model.network.tasks))
    capture: dict[str, Any] = {}
    with torch.no_grad():
        outputs = model.run(torch.from_numpy(image[None]), tasks, capture=capture)
    experts = {step.name: capture[f"{step.name}.expert_indices"] for step in network.of_kind(MixExperts)}
    choices = [{name: chosen[task].numpy() for name, chosen in experts.items()} for task in tasks]
    maps = [as_map(output, task)[0] for output, task in zip(outputs, network.tasks, strict=True)]
    return [values.double().numpy() for values in maps], choices


def result_map(values: NDArray, task: Task) -> NDArray[np.float64]:
    """A result's real values (rows, outputs) as a map (channels, rows, columns); features stay as they are."""
    return as_map(torch.from_numpy(np.ascontiguousarray(values))[None], task)[0].numpy()


def score(
    scorer: Scorer,
    dataset: Dataset,
    numbers: range,
    *,
    jobs: int = 1,
    on_progress: Progress = silent,
) -> dict[str, Tally]:
    """Score the pictures ``numbers`` of ``dataset``, ``jobs`` processes side by side.

    Returns
    -------
    dict
        Tallies by arithmetic: ``float`` and the names of the scorer's integer forms.

    Raises
    ------
    ValueError
        For a picture that cannot be read; the message names it.
    """
    totals = {name: scorer.tally() for name in (FLOAT, *scorer.integers)}
    chunks = [numbers[start : start + CHUNK] for start in range(0, len(numbers), CHUNK)]
    done = 0
    for pictures, tallies in zip(map(len, chunks), _run(scorer, dataset, chunks, jobs), strict=True):
        for name, tally in tallies.items():
            totals[name].add(tally)
        done += pictures
        on_progress("score", done / len(numbers), "")
    return totals


def _run(scorer: Scorer, dataset: Dataset, chunks: Sequence[range], jobs: int) -> Iterator[dict[str, Tally]]:
    if jobs == 1 or len(chunks) < 2:
        for chunk in chunks:
            yield _chunk(scorer, dataset, chunk)
        return
    # Not forked: a progress display may be running in a thread of this process.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, context, initializer=_prepare_worker, initargs=(scorer, dataset)) as pool:
        try:
            yield from pool.map(_worker_chunk, chunks)
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _chunk(scorer: Scorer, dataset: Dataset, numbers: range) -> dict[str, Tally]:
    totals = {name: scorer.tally() for name in (FLOAT, *scorer.integers)}
    for number in numbers:
        for name, tally in scorer.picture(dataset[number]).items():
            totals[name].add(tally)
    return totals


_worker: dict[str, Any] = {}


def _prepare_worker(scorer: Scorer, dataset: Dataset) -> None:
    torch.set_num_threads(1)
    _worker.update(scorer=scorer, dataset=dataset)


def _worker_chunk(numbers: range) -> dict[str, Tally]:
    return _chunk(_worker["scorer"], _worker["dataset"], numbers)
