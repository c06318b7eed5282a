"""When the image loader has its patches: lines of patches as bursts, beside the weight stream's."""

from __future__ import annotations

from bisect import bisect_left

import numpy as np

from tessera.hw.blocks.register_slice import RegisterSlice
from tessera.hw.bus.bursts import BurstSplitter, longest_burst
from tessera.hw.bus.prefetch import Prefetcher
from tessera.hw.bus.read_master import ReadMaster
from tessera.hw.config import AcceleratorConfig
from tessera.hw.image.loader import ImageLoader
from tessera.hw.image.packer import PatchPacker
from tessera.hw.image.walk import COLOURS, PatchWalker
from tessera.hw.interfaces.image import BLOCK_COLUMNS

START = 1 + PatchWalker.LATENCY + RegisterSlice.LATENCY
"""From the job's being taken to the first line."""
ARRIVED = ReadMaster.RESPONSE_LATENCY + Prefetcher.LATENCY
"""From a beat at the bus to the packer."""
WRITTEN = PatchPacker.LATENCY
"""From a word's last pixel to its being written."""


class ImageModel:
    """One LOAD_IMAGE; a competitor of the weight stream on the :class:`tessera.sw.cycles.bus.Bus`."""

    def __init__(self, config: AcceleratorConfig, taken: float, fields: dict[str, int]) -> None:
        patch, width = fields["patch"], config.memory_bytes
        step = min(patch, width, config.lanes)
        self._cycles_a_beat = max(width // step, 1)
        self._cycles_a_patch = patch // step
        self._columns = [
            min(BLOCK_COLUMNS, fields["grid_columns"] - first)
            for first in range(0, fields["grid_columns"], BLOCK_COLUMNS)
        ]
        # A burst: its beats, cycles to pack it, whether it ends its run, and the patches that it completes.
        longest = longest_burst(config, ImageLoader.BURST_BEATS)
        self._bursts: list[tuple[int, float, bool, int]] = []
        for row in range(fields["grid_rows"]):
            for block, columns in enumerate(self._columns):
                for line in range(COLOURS * patch):
                    colour, down = divmod(line, patch)
                    address = colour * fields["plane_bytes"] + (row * patch + down) * fields["row_bytes"]
                    address += fields["offset"]
                    beat = (address + block * BLOCK_COLUMNS * patch) // width
                    left, pack = -(-columns * patch // width), columns * self._cycles_a_patch
                    while left:
                        # Bursts are cut at multiples of their length; the image begins at one.
                        beats = min(left, longest - beat % longest)
                        beat += beats
                        left -= beats
                        cycles = beats * self._cycles_a_beat if left else pack
                        pack -= cycles
                        completed = columns if not left and line == COLOURS * patch - 1 else 0
                        self._bursts.append((beats, cycles, not left, completed))
        self._begin = taken + START + BurstSplitter.LATENCY
        self._next, self._asked = 0, 0
        self._beats, self._packed = [0], [self._begin]
        self._runs: list[float] = []
        self._answered = 0
        self.rows: list[float] = []

    def next_request(self) -> float:
        """When its next burst can be asked for; infinite when there is none."""
        if self._next == len(self._bursts):
            return float("inf")
        beat = self._asked + self._bursts[self._next][0] - ImageLoader.BEATS_AHEAD
        request = self._begin + self._next
        if beat > 0:
            at = bisect_left(self._beats, beat)
            missing = (self._beats[at] - beat) * self._cycles_a_beat
            request = max(request, self._packed[at] - missing + Prefetcher.RETURN_LATENCY)
        if len(self._runs) >= ImageLoader.RUNS_AHEAD and self._answered:
            request = max(request, self._runs[-ImageLoader.RUNS_AHEAD] if self._waits_for_run() else 0.0)
        return request

    def _waits_for_run(self) -> bool:
        return self._bursts[self._next - 1][2]

    def take(self) -> int:
        """Beats of that burst."""
        beats = self._bursts[self._next][0]
        self._asked += beats
        self._next += 1
        return beats

    def answered(self, finish: float) -> None:
        """Its last beat came: pack it."""
        beats, cycles, run_last, completed = self._bursts[self._answered]
        self._answered += 1
        end = max(self._packed[-1] + cycles, finish + ARRIVED + self._cycles_a_beat)
        self._beats.append(self._beats[-1] + beats)
        self._packed.append(end)
        if run_last:
            self._runs.append(end)
        for column in range(completed):
            self.rows.append(end - (completed - 1 - column) * self._cycles_a_patch + WRITTEN)

    @property
    def written(self) -> np.ndarray:
        """Cycles in which patch n is completely written."""
        return np.array(self.rows)
