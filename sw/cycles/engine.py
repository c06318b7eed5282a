"""When the compute engine takes, issues and writes its jobs, tile by tile; rows only where something waits for them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from tessera.hw.blocks.exp2 import Exp2
from tessera.hw.blocks.multiplier import Multiplier
from tessera.hw.compute.bank import StationaryBanks
from tessera.hw.compute.engine import ComputeEngine
from tessera.hw.compute.finder import RowFinder
from tessera.hw.compute.writeback import Writeback
from tessera.hw.config import AcceleratorConfig
from tessera.hw.interfaces.memory import MEMORY_LATENCY
from tessera.sw.cycles.latencies import unit_latencies
from tessera.sw.cycles.stream import DELIVERED, WeightStreamModel

START = 2
"""From a job's being taken to its start."""
LISTED = 3
"""From a job's start to the first cycle in which its first phase can be taken."""
LOOKED_UP = 1 + RowFinder.QUEUE_LATENCY
"""The same when that phase's rows are looked up."""
TAPS_FOUND = 1 + RowFinder.TAP_LATENCY
"""The same when they are made of a convolution's taps."""
SEEN = 1
"""From a row's being readable to the step that is begun with it."""
COUNTED = 2
"""From a pulse (a tile is filled, loaded or raised) to the phase that waits for it."""
LOAD_BEGINS = 2
"""From a job's start, or the event that frees an attention buffer, to the first word of the next held tile."""


@dataclass(kw_only=True)
class EngineJob:
    """What is known of a job: when it was taken, when every row was written, and when all of it was.

    ``rows`` are the cycles in which row r is written (the last tile's); ``reads`` those in which write-back reads the
    residual memory, empty for other destinations.
    """

    taken: float
    last_beat: float = 0.0
    written: float = 0.0
    rows: np.ndarray = field(default_factory=lambda: np.zeros(0))
    reads: np.ndarray = field(default_factory=lambda: np.zeros(0))
    period: int = 0


@dataclass(frozen=True, kw_only=True)
class LinearShape:
    """What a linear job computes.

    Parameters
    ----------
    steps:
        Input rows.
    words:
        Words per input row.
    tiles:
        Tiles of weights, or of held rows of all windows if ``swapped``.
    swapped:
        Whether the scratchpad holds the tiles, and not the weight stream.
    listed:
        Cycles from the job's start to the first in which its first phase can be taken.
    pace:
        Cycles that a step takes at least, whatever its words: a convolution's kernel moves meanwhile.
    residual:
        Whether results go to the residual memory.
    function:
        Function behind the product, its multiplier and its shift; None for none.
    multiplies:
        Whether the results are multiplied with the residual memory.
    """

    steps: int
    words: int
    tiles: int
    swapped: bool = False
    listed: int = LISTED
    pace: int = 1
    residual: bool = False
    function: tuple[int, int, int] | None = None
    multiplies: bool = False


@dataclass(frozen=True, kw_only=True)
class AttentionShape:
    """What an attention job computes.

    Parameters
    ----------
    windows, queries, keys, heads:
        Their numbers; queries and keys of each window.
    head_words, value_words:
        Words of one head's channels: of Q and K, and of V.
    bias_words:
        Words of bias behind those of a key.
    """

    windows: int
    queries: int
    keys: int
    heads: int
    head_words: int
    value_words: int
    bias_words: int


class EngineModel:
    """Job after job; at most one linear job has results on their way when the next is taken."""

    def __init__(self, config: AcceleratorConfig, stream: WeightStreamModel) -> None:
        self._config, self._stream = config, stream
        self.groups = config.elements // config.requantise_lanes
        array = StationaryBanks.LATENCY + Multiplier.LATENCY + (config.lanes - 1).bit_length() + 1
        self.write = array + Writeback.LATENCY + self.groups - 1
        self._overhead = unit_latencies(config).softmax_overhead
        self._scaling = self._overhead - MEMORY_LATENCY - Exp2.LATENCY - 4
        self._freed = [0.0, 0.0]
        self._function: tuple[int, ...] | None = None
        self.jobs: list[EngineJob] = []
        self.ready = 0.0

    def tile_chunks(self, words: int) -> int:
        """Chunks of a streamed tile."""
        return words * self._config.elements // self._config.words_per_chunk

    def tile(self, words: int) -> float:
        """The stream delivers the next tile, once the last but one was read; when its last chunk is taken."""
        return self._stream.chunks(self.tile_chunks(words), self._freed[-2] + 1)

    def _take(self, offered: float) -> EngineJob:
        job = EngineJob(taken=max(offered, self.ready))
        self.jobs.append(job)
        return job

    def linear(
        self,
        offered: float,
        shape: LinearShape,
        *,
        parameters: float,
        ready: np.ndarray | None = None,
        delivered: Sequence[float] = (),
    ) -> EngineJob:
        """Run a linear job.

        Parameters
        ----------
        offered:
            Cycle from which the engine can take the job.
        shape:
            Size and kind of the job.
        parameters:
            Cycle in which the parameter sets are there.
        ready:
            Cycle in which each row of the source is there; None if all are.
        delivered:
            Cycles in which the chunks of the first tiles were taken; the others are taken from the stream.
        """
        steps, words, swapped = shape.steps, shape.words, shape.swapped
        job = self._take(offered)
        before = self.jobs[-2].written if len(self.jobs) > 1 else 0.0
        start = max(job.taken + START, parameters)
        if shape.function is not None or shape.multiplies:
            function = (*(shape.function or (0, 0, 0)), shape.multiplies)
            if shape.multiplies or function != self._function:
                start = max(start, before + 1)
            self._function = function
        first = start + shape.listed
        job.period = period = max(words, self.groups, shape.pace)
        end, begin, first_begin, infinite = first, first, first, float("inf")
        freed = [start + LOAD_BEGINS, start + LOAD_BEGINS]
        loads = 0.0
        rows: np.ndarray | None = None
        for tile in range(shape.tiles):
            if swapped:
                writes = first_begin + period + self.write if tile else infinite
                loads = shared(max(loads, freed[tile % 2]), words * self._config.elements, period, writes, infinite)
                available = loads - 1 + MEMORY_LATENCY + COUNTED
                loads += 1
            else:
                taken = delivered[tile] if tile < len(delivered) else self.tile(words)
                available = taken + DELIVERED + COUNTED
            begin = max(end, available)
            first_begin = first_begin if tile else begin
            if tile == 0 and ready is not None:
                rows = follow(np.maximum(ready[:steps] + SEEN, begin), period)
                end = float(rows[-1])
            else:
                rows = None
                end = begin + steps * period
            if swapped:
                freed[tile % 2] = end + LOAD_BEGINS
            else:
                self._freed = [self._freed[-1], end]
        if rows is None:
            rows = begin + period * np.arange(1.0, steps + 1)
        job.last_beat = end
        update = Writeback.RESIDUAL_UPDATE if shape.residual else 0
        job.rows = rows + self.write + update
        if shape.residual:
            job.reads = job.rows - RESIDUAL_READ
        job.written = end + self.write + update
        self.ready = max(end + ComputeEngine.NEXT_JOB, before + 1)
        return job

    def attention(self, offered: float, shape: AttentionShape) -> EngineJob:
        """QK and AV in turns, softmax behind them, queries held ahead."""
        config = self._config
        job = self._take(offered)
        start = job.taken + START
        keys, per_head = shape.keys, -(-shape.queries // config.elements)
        tiles = per_head * shape.heads * shape.windows
        key_words = shape.head_words + shape.bias_words
        score = keys * max(key_words, self.groups)
        value = shape.value_words * config.lanes * max(-(-keys // config.lanes), self.groups)
        lanes = config.elements // config.exponential_lanes
        drain = keys * lanes + config.elements + self._overhead
        freed = [start + LOAD_BEGINS, start + LOAD_BEGINS]
        held = config.elements * key_words
        loads, end, raised, drained = 0.0, start + LISTED, 0.0, 0.0
        for tile in range(tiles + 1):
            ready = raised
            if tile < tiles:
                loads = max(loads, freed[tile % 2]) + held
                available = loads - 1 + MEMORY_LATENCY + COUNTED
                loads += 1
                end = max(end, available) + score
                freed[tile % 2] = end + LOAD_BEGINS
                if tile + 2 < tiles:
                    # Held rows come first at the banks: exponentials of the tile before wait for the tile after next.
                    begins = max(loads, freed[tile % 2]) + MEMORY_LATENCY
                    raised += max(0.0, min(begins + held, drained) - max(begins, drained - keys * lanes))
                ready = raised
                taken = max(end + self.write + 1, raised + 1) + 1  # softmax wakes up
                raised = taken + drain
                drained = raised - config.elements - self._scaling
            if tile:
                end = max(end, ready + COUNTED) + value
        job.last_beat = end
        queries = shape.queries - (per_head - 1) * config.elements
        job.written = end + self.write + 2 + queries
        self.ready = job.written + 1
        return job


RESIDUAL_READ = 4
"""From write-back's read of the residual memory to the write of the sum."""


def follow(ready: np.ndarray, period: int) -> np.ndarray:
    """Last beats of rows that take ``period`` each, one after the other, row r not before ``ready[r]``."""
    order = np.arange(len(ready))
    return np.maximum.accumulate(ready - order * period) + (order + 1) * period


def shared(start: float, words: int, period: int, begin: float, end: float) -> float:
    """When ``words`` are through a port, one a cycle from ``start`` on, that write-back takes once a ``period``.

    Write-back comes first, from ``begin`` to ``end``.
    """
    before = min(words, max(0.0, begin - start))
    left = words - before
    start = start + before
    if not left or period < 2:
        return start + left
    slow = min(left, max(0.0, end - start) * (period - 1) / period)
    return start + slow * period / (period - 1) + (left - slow)
