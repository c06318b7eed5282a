"""How long the estimator takes for a machine that it has not seen, and for one that it has."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace

from tessera.hw.boards.board import board as find_board
from tessera.hw.presets import preset as find_preset
from tessera.sw.fpga.resources.estimate import estimate

UNSEEN_COMMANDS = 384
"""Length of program that no preset has, so that nothing is remembered of the machine."""


@dataclass(frozen=True, kw_only=True)
class EstimateSpeed:
    """Seconds of this process for an estimate of a preset on a board: the first of a machine, and the next."""

    preset: str
    board: str
    first_seconds: float
    again_seconds: float


def measure_estimates(preset: str = "ecp5-85f", board: str = "ulx3s-85f") -> EstimateSpeed:
    """Estimate a machine that differs from the preset in the length of its program, twice."""
    config = replace(find_preset(preset), max_commands=UNSEEN_COMMANDS)
    seconds = []
    for _ in range(2):
        start = time.process_time()
        estimate(config, find_board(board)).to_dict()
        seconds.append(time.process_time() - start)
    return EstimateSpeed(preset=preset, board=board, first_seconds=seconds[0], again_seconds=seconds[1])
