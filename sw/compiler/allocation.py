"""Addresses of regions: the lowest place that is free during a region's whole life."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate

import numpy as np

from tessera.sw.compiler.operations import Region
from tessera.sw.compiler.order import Life


@dataclass(frozen=True, kw_only=True)
class Buffer:
    """A region with its life in each task, by the task's index; it is not there in the tasks that do not use it."""

    region: Region
    lives: Mapping[int, Life]

    @property
    def words(self) -> int:
        """Its size."""
        return self.region.words

    @property
    def start(self) -> int:
        """Time at which it is first in use in any task."""
        return min(first for first, _ in self.lives.values())


class _Placed:
    """Buffers that have places, with their lives in arrays: a network in fine blocks has thousands."""

    def __init__(self, order: Sequence[Buffer]) -> None:
        tasks = sorted({task for buffer in order for task in buffer.lives})
        never = (_NEVER, -_NEVER)
        lives = np.array([[buffer.lives.get(task, never) for task in tasks] for buffer in order], np.int64)
        self._first, self._last = lives.reshape(len(order), len(tasks), 2).transpose(2, 0, 1)
        self._words = np.array([buffer.words for buffer in order], np.int64)
        self._bases = np.zeros(len(order), np.int64)

    def place(self, number: int) -> int:
        """The lowest place that is free during the life of a buffer; those before it have theirs."""
        first, last = self._first[:number], self._last[:number]
        meets = ((first <= self._last[number]) & (self._first[number] <= last)).any(axis=1)
        starts, words = self._bases[:number][meets], self._words[:number][meets]
        base = 0
        for at in np.argsort(starts, kind="stable").tolist():
            if starts[at] - base >= self._words[number]:
                break
            base = max(base, int(starts[at] + words[at]))
        self._bases[number] = base
        return base


_NEVER = 1 << 40
"""A time that does not come."""


def buffers(regions: Mapping[str, Region], lives: Sequence[Mapping[str, Life]]) -> list[Buffer]:
    """Every region that any task uses, with its lives."""
    found: dict[str, dict[int, Life]] = {}
    for task, used in enumerate(lives):
        for name, life in used.items():
            found.setdefault(name, {})[task] = life
    return [Buffer(region=regions[name], lives=by_task) for name, by_task in found.items() if name in regions]


def in_use(table: Sequence[Buffer], task: int) -> list[tuple[int, int]]:
    """Times at which the words in use change in a task, in order, each with the words from then on."""
    change: dict[int, int] = {}
    for buffer in table:
        if task in buffer.lives:
            first, last = buffer.lives[task]
            change[first] = change.get(first, 0) + buffer.words
            change[last + 1] = change.get(last + 1, 0) - buffer.words
    times = sorted(change)
    return list(zip(times, accumulate(change[time] for time in times), strict=True))


def alive(table: Sequence[Buffer]) -> int:
    """Words that are in use at once at most in any task: no allocation needs less."""
    tasks = {task for buffer in table for task in buffer.lives}
    return max((words for task in tasks for _, words in in_use(table, task)), default=0)


def first_fit(order: Sequence[Buffer]) -> dict[str, int]:
    """First word of each buffer: the lowest that is free during its whole life, in the order given."""
    if not order:
        return {}
    placed = _Placed(order)
    return {buffer.region.name: placed.place(number) for number, buffer in enumerate(order)}


@dataclass(frozen=True)
class Allocation:
    """Addresses in one memory: each region's first word by name, and the words in use at most."""

    bases: dict[str, int]
    peak: int

    @classmethod
    def of(cls, table: Sequence[Buffer]) -> Allocation:
        """The better of first fit by time and first fit by size."""
        by_time = sorted(table, key=lambda buffer: (buffer.start, -buffer.words))
        by_size = sorted(table, key=lambda buffer: (-buffer.words, buffer.start))
        words = {buffer.region.name: buffer.words for buffer in table}
        made = [first_fit(order) for order in (by_time, by_size)]
        return min(
            (cls(bases, max((base + words[name] for name, base in bases.items()), default=0)) for bases in made),
            key=lambda allocation: allocation.peak,
        )
