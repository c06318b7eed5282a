"""When LayerNorm, gate, image loader and store do their work."""

from __future__ import annotations

from bisect import bisect_right
from collections import deque

import numpy as np

from tessera.hw.blocks.exp2 import Exp2
from tessera.hw.bus.bursts import longest_burst
from tessera.hw.config import AcceleratorConfig
from tessera.hw.gate.weights import GateWeights
from tessera.hw.interfaces.layernorm import wide_channels
from tessera.hw.interfaces.memory import MEMORY_LATENCY, RESIDUAL_LATENCY
from tessera.hw.layernorm.lanes import LayerNormLanes
from tessera.hw.layernorm.layernorm import LayerNorm
from tessera.hw.layernorm.output import LayerNormOutput
from tessera.sw.cycles.latencies import unit_latencies

LOOKED_AT = 1
"""From rows' being ready to the cycle in which LayerNorm or gate may choose them."""


class NormModel:
    """LayerNorm pass by pass, as ``tessera.hw.layernorm.walk`` chooses them."""

    START = 2
    """From the job's being taken to the first choice of a pass."""

    def __init__(self, config: AcceleratorConfig) -> None:
        latencies = unit_latencies(config)
        depth = (config.layernorm_lanes - 1).bit_length()
        self._interval = latencies.row_interval
        self._buffered = config.layernorm_row_buffer
        # Residual memory, three stages of the lanes, their tree, the register of sums; then the table of rows.
        self._scaled = RESIDUAL_LATENCY + 3 + depth + 1 + latencies.row_statistics + 1
        # Residual memory, lanes, the word, its queue.
        self._written = RESIDUAL_LATENCY + LayerNormLanes.LATENCY + LayerNormOutput.LATENCY + 1
        self._parts = config.lanes // config.layernorm_lanes
        self._wide_parts = config.lanes // wide_channels(config)

    def run(
        self, taken: float, *, rows: int, words: int, wide: bool, copies: bool, ready: list[float], reads: list[float]
    ) -> np.ndarray:
        """When each row is completely written; one that ``copies`` has no statistics.

        ``ready[r]`` is when row r may be read; ``reads`` are write-back's of the residual memory, which come first.
        """
        ready = [time + LOOKED_AT for time in ready]
        narrow, wide_beats = words * self._parts, words * self._wide_parts if wide else 0
        if self._buffered:
            return self._run_buffered(taken + self.START, rows, narrow, narrow + wide_beats, ready, reads)
        if copies:
            return self._copy(taken + self.START, narrow + wide_beats, ready, reads)
        time, spaced = taken + self.START, 0.0
        scaled: list[float] = []
        written = np.zeros(rows)
        summed = normalised = 0
        output_ended = False
        infinite = float("inf")
        while normalised < rows:
            may_sum = summed < rows and ready[summed] <= time
            known = normalised < summed and scaled[normalised] <= time
            if may_sum and (output_ended or not known):
                time = self._pass(time, narrow, reads)
                time = max(time, spaced)
                spaced = time + self._interval
                scaled.append(time + self._scaled)
                summed += 1
                output_ended = False
            elif known:
                time = self._pass(time, narrow, reads)
                if wide:
                    time = self._pass(time, wide_beats, reads)
                written[normalised] = time + self._written
                normalised += 1
                output_ended = True
            else:
                # Nothing to read: it looks again every cycle.
                time = min(
                    ready[summed] if summed < rows else infinite,
                    scaled[normalised] if normalised < summed else infinite,
                )
                output_ended = False
        return written

    def _copy(self, time: float, beats: int, ready: list[float], reads: list[float]) -> np.ndarray:
        """Outputs only, each row as it becomes ready."""
        written = []
        for row_ready in ready:
            time = self._pass(max(time, row_ready), beats, reads)
            written.append(time + self._written)
        return np.array(written)

    def _run_buffered(
        self, begin: float, rows: int, narrow: int, outputs: int, ready: list[float], reads: list[float]
    ) -> np.ndarray:
        """With a row buffer: statistics and outputs side by side, as many rows apart as it holds."""
        summing = output = begin
        spaced = 0.0
        chosen = np.zeros(rows)
        written = np.zeros(rows)
        for row in range(rows):
            ahead = row + 1 - LayerNorm.ROWS_AHEAD
            place = chosen[ahead] + 1 if ahead > 0 else 0.0
            summing = max(self._pass(max(summing, ready[row], place), narrow, reads), spaced)
            spaced = summing + self._interval
            chosen[row] = max(output, summing + self._scaled)
            output = chosen[row] + outputs
            written[row] = output + self._written
        return written

    @staticmethod
    def _pass(time: float, beats: int, reads: list[float]) -> float:
        """Last beat of a pass chosen at ``time``: write-back's reads of the residual memory come first."""
        if not reads:
            return time + beats
        end = time + beats
        held = 0
        first = bisect_right(reads, time)
        while True:
            more = bisect_right(reads, end + held) - first
            if more == held:
                return end + held
            held = more


class GateModel:
    """The gate, token by token."""

    def __init__(self, config: AcceleratorConfig) -> None:
        self._reciprocal = unit_latencies(config).gate_reciprocal

    def run(self, taken: float, *, tokens: int, experts: int, top_k: int, ready: np.ndarray) -> float:
        """When the queues are complete."""
        interval = max(experts + 1, GateWeights.INTERVAL)
        order = np.arange(tokens)
        chosen = np.maximum(ready[:tokens] + LOOKED_AT, taken + 2)
        starts = np.maximum.accumulate(chosen - order * interval) + order * interval
        ranked = starts[-1] + experts - 1 + MEMORY_LATENCY + 3
        raised = ranked + experts + 2 + Exp2.LATENCY + 1
        return float(raised + self._reciprocal + GateWeights.LATENCY + top_k + 2)


class StoreModel:
    """STORE: the residual memory's rows to memory, a beat a cycle, and the answer to the last."""

    OVERHEAD = 8
    """From the job's being taken to the cycle before its first beat on the bus: job, row, burst, check, queue."""
    ANSWER = 1
    """From the answer to ``done``."""

    def __init__(self, config: AcceleratorConfig, write_latency: int) -> None:
        self._beats_a_word = 4 * config.lanes // config.memory_bytes
        self._longest = longest_burst(config)
        self._latency = write_latency

    def run(self, taken: float, *, rows: int, words: int) -> float:
        """When everything is written and answered."""
        beats = words * self._beats_a_word
        time = taken + self.OVERHEAD
        answers: deque[float] = deque([0.0] * 8, 8)
        for _ in range(rows):
            left = beats
            while left:
                part = min(left, self._longest)
                time = max(time, answers[0] + 2) + part
                answers.append(time + self._latency)
                left -= part
        return time + self._latency + self.ANSWER
