"""Addresses of regions: the lowest place that is free during a region's whole life."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate

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

    def meets(self, other: Buffer) -> bool:
        """Whether both are in use at some time of a task."""
        shared = self.lives.keys() & other.lives.keys()
        return any(
            self.lives[task][0] <= other.lives[task][1] and other.lives[task][0] <= self.lives[task][1]
            for task in shared
        )


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
    placed: list[tuple[Buffer, int]] = []
    for buffer in order:
        busy = sorted((base, base + other.words) for other, base in placed if other.meets(buffer))
        base = 0
        for start, end in busy:
            if start - base >= buffer.words:
                break
            base = max(base, end)
        placed.append((buffer, base))
    return {buffer.region.name: base for buffer, base in placed}


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
