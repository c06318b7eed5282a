"""How good predictions are, and how far values and routing of one arithmetic are from those of another.

All scores against the truth are taken over full-resolution pixels: predicted cells are enlarged by nearest neighbour.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tessera.golden.scenes.common import CLASS_NAMES, DEPTH_CAP
from tessera.golden.scenes.scenes import Scene

IGNORE = 255
"""Label of a pixel that belongs to no class and is not scored."""

_DEPTH_SCALE = 1.5
_DEPTH_CENTRE = 5.0


def depth_to_output(depth: NDArray) -> NDArray[np.float32]:
    """Depth in metres to the depth head's value: 1.5 * (sqrt(depth) - 5), within -7.5 to 5.92 up to the cap of 80 m.

    The square root spreads the near range, where depth matters, without making the far range worthless for RMSE.
    """
    return (_DEPTH_SCALE * (np.sqrt(depth) - _DEPTH_CENTRE)).astype(np.float32)


def output_to_depth(output: NDArray) -> NDArray[np.float32]:
    """The depth head's value to metres, limited to 0 to the cap of 80 m; inverse of :func:`depth_to_output`."""
    root = np.clip(np.asarray(output, np.float32) / _DEPTH_SCALE + _DEPTH_CENTRE, 0, np.sqrt(DEPTH_CAP))
    return (root * root).astype(np.float32)


def enlarge(cells: NDArray, height: int, width: int) -> NDArray:
    """Nearest-neighbour enlargement of the last two axes to ``height`` x ``width`` (whole multiples)."""
    down, across = height // cells.shape[-2], width // cells.shape[-1]
    return cells.repeat(down, axis=-2).repeat(across, axis=-1)


@dataclass(kw_only=True)
class Scores:
    """Accumulates segmentation and depth scores over pixels.

    ``class_names`` are the classes to tell apart. ``confusion[label, predicted]`` counts pixels; ``squared_error`` is
    in square metres and ``relative_error`` the sum of |error| / depth, both over ``depth_pixels``.
    """

    class_names: Sequence[str] = CLASS_NAMES
    confusion: NDArray[np.int64] = field(init=False)
    squared_error: float = 0.0
    relative_error: float = 0.0
    depth_pixels: int = 0

    def __post_init__(self) -> None:
        self.confusion = np.zeros((len(self.class_names),) * 2, np.int64)

    def add_segmentation(self, predicted: NDArray, label: NDArray) -> None:
        """Count class maps ``predicted``, at cell or pixel resolution, against ``label`` (..., H, W).

        Pixels labelled ``IGNORE`` count nowhere. ValueError if any other label, or a prediction, is no class.
        """
        predicted = np.broadcast_to(enlarge(predicted, *label.shape[-2:]), label.shape)
        counted, classes = label != IGNORE, len(self.class_names)
        truth, guess = label[counted].astype(np.int64), predicted[counted]
        if truth.size and max(truth.max(), guess.max()) >= classes:
            raise ValueError(f"labels reach {truth.max()}, predictions {guess.max()}; there are {classes} classes")
        pairs = np.bincount(truth * classes + guess, minlength=classes * classes)
        self.confusion += pairs.reshape(classes, classes)

    def add_depth(self, metres: NDArray, depth: NDArray) -> None:
        """Count depths ``metres``, at cell or pixel resolution, against the true ``depth`` (..., H, W), NaN unknown."""
        truth = depth.astype(np.float64)
        known = np.isfinite(truth)
        error = np.abs(enlarge(metres, *depth.shape[-2:]).astype(np.float64) - truth)[known]
        self.squared_error += float(np.square(error).sum())
        self.relative_error += float((error / truth[known]).sum())
        self.depth_pixels += int(known.sum())

    def add(self, other: Scores) -> None:
        """Count everything that ``other`` has counted, of the same classes."""
        self.confusion += other.confusion
        self.squared_error += other.squared_error
        self.relative_error += other.relative_error
        self.depth_pixels += other.depth_pixels

    @property
    def class_iou(self) -> dict[str, float]:
        """Intersection over union of each class that occurs in the labels or the predictions."""
        both = np.diag(self.confusion)
        union = self.confusion.sum(axis=0) + self.confusion.sum(axis=1) - both
        return {name: float(both[c] / union[c]) for c, name in enumerate(self.class_names) if union[c]}

    @property
    def mean_iou(self) -> float | None:
        """Mean of :attr:`class_iou`; None if no pixel had a label."""
        values = self.class_iou.values()
        return sum(values) / len(values) if values else None

    @property
    def depth_rmse(self) -> float | None:
        """Root mean square depth error in metres; None if no pixel had a depth."""
        return float(np.sqrt(self.squared_error / self.depth_pixels)) if self.depth_pixels else None

    @property
    def depth_abs_rel(self) -> float | None:
        """Mean of |error| / true depth; None if no pixel had a depth."""
        return self.relative_error / self.depth_pixels if self.depth_pixels else None

    def to_dict(self) -> dict[str, Any]:
        """Plain form for metrics files."""
        return {
            "mean_iou": self.mean_iou,
            "class_iou": self.class_iou,
            "depth_rmse_m": self.depth_rmse,
            "depth_abs_rel": self.depth_abs_rel,
        }


@dataclass(kw_only=True)
class Deviation:
    """How far values are from a reference, over all pairs that were added.

    ``sums`` are the squares of the difference, of the reference and of the values, and the products of the two.
    """

    sums: NDArray[np.float64] = field(default_factory=lambda: np.zeros(4))

    def add(self, values: NDArray, reference: NDArray) -> None:
        """Count real ``values`` beside a ``reference`` of the same shape."""
        difference = values - reference
        pairs = ((difference, difference), (reference, reference), (values, values), (reference, values))
        self.sums += [(a * b).sum(dtype=np.float64) for a, b in pairs]

    def include(self, other: Deviation) -> None:
        """Count everything that ``other`` has counted."""
        self.sums += other.sums

    @property
    def relative_l2(self) -> float:
        """Norm of the difference, divided by the norm of the reference; 0 for a reference of zeros."""
        difference, reference = self.sums[:2]
        return float(np.sqrt(difference / reference)) if reference else 0.0

    @property
    def cosine(self) -> float:
        """Cosine of the angle between values and reference; 0 if either is all zeros."""
        _, reference, values, product = self.sums
        return float(product / np.sqrt(reference * values)) if reference and values else 0.0


def row_relative_l2(values: NDArray, reference: NDArray) -> NDArray[np.float64]:
    """Relative L2 error of each row of ``values`` (rows, channels)."""
    return np.linalg.norm(values - reference, axis=1) / np.maximum(np.linalg.norm(reference, axis=1), 1e-12)


def changed_sets(chosen: NDArray, reference: NDArray) -> NDArray[np.bool_]:
    """Tokens (N,) whose set of experts differs from the reference; both arguments are (N, top_k)."""
    return (np.sort(chosen, axis=1) != np.sort(reference, axis=1)).any(axis=1)


def changed_choices(chosen: NDArray, reference: NDArray) -> NDArray[np.bool_]:
    """Choices (N, top_k) of experts that the reference did not make for the same token."""
    return ~(chosen[:, :, None] == reference[:, None, :]).any(axis=2)


def constant_predictor(training: Scene) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """The best predictor that ignores its input: each pixel's commonest class and mean depth in training scenes.

    Parameters
    ----------
    training:
        A batch of scenes, (B, H, W) labels and depths.

    Returns
    -------
    tuple
        Class map (H, W) and depth map (H, W) in metres.
    """
    counts = np.stack([(training.label == c).sum(axis=0) for c in range(len(CLASS_NAMES))])
    return counts.argmax(axis=0).astype(np.uint8), training.depth.mean(axis=0, dtype=np.float64).astype(np.float32)
