"""Differences between what a command must write of a tensor and what it wrote."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tessera.program.layouts.base import ExpectedWords, Rewrites, WordLayout
from tessera.sw.verifier.writes import Writes


@dataclass(frozen=True)
class Differences:
    """Result for one tensor.

    Parameters
    ----------
    wrong:
        Indices of the writes with a wrong element.
    lane, element:
        First wrong lane of each write in ``wrong``, and the number of the element there, -1 for padding.
    stray:
        Indices of the writes to places that hold no element.
    bad, missing:
        Numbers of the elements that are wrong, and of those never written.
    """

    wrong: np.ndarray
    lane: np.ndarray
    element: np.ndarray
    stray: np.ndarray
    bad: np.ndarray
    missing: np.ndarray


def differences(layout: WordLayout, expected: ExpectedWords, written: Writes) -> Differences:
    """Check ``written``, all of it inside the tensor, against ``expected``."""
    count, unit = len(expected.words), written.unit
    words, element = (array.reshape(count, -1, unit) for array in (expected.words, expected.element))
    cell = written.cell - layout.base * written.cells(layout)
    rank = written.ranks() if layout.rewrites == Rewrites.NEXT else np.zeros(len(cell), np.int64)
    beyond = rank >= count
    rank = np.where(beyond, 0, rank)
    elements = element[rank, cell]
    differs = written.data != words[rank, cell]
    if layout.tile is not None:
        # A tile's last queries may be none: their lanes hold anything, but only next to those of real ones.
        differs &= elements >= 0
        tiles = expected.element.reshape(count, -1, layout.tile).max(axis=-1) >= 0
        beyond |= ~tiles[rank, cell * unit // layout.tile]
    differs[beyond] = False
    wrong = np.flatnonzero(differs.any(axis=1))
    lane = differs[wrong].argmax(axis=1)
    seen = np.zeros(words.shape[:2], bool)
    seen[rank[~beyond], cell[~beyond]] = True
    unseen = element[~seen]
    bad = elements[differs]
    return Differences(
        wrong=wrong,
        lane=lane,
        element=elements[wrong, lane],
        stray=np.flatnonzero(beyond),
        bad=np.unique(bad[bad >= 0]),
        missing=np.unique(unseen[unseen >= 0]),
    )
