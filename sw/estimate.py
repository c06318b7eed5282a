"""How long a run will take, from how long the last one took on this computer."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hw.config import AcceleratorConfig
from sw import cycles
from sw.files import CACHE, write_json
from sw.outcome import FrameOutcome
from sw.program import Program

_GUESSED_SPEED = {"overhead": 1.3, "cycles_per_s": 150_000.0}


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """What a run will take: ideal cycles of all frames, and cycles and seconds as the last run of this machine went."""

    ideal_cycles: int
    cycles: int
    seconds: float


def _speed_file(config: AcceleratorConfig) -> Path:
    return CACHE / f"speed-{config.name}-{config.numerics.activation_width}.json"


def estimate(program: Program, tasks: Sequence[int], pictures: int) -> Estimate:
    """Expect so many cycles and seconds of simulation."""
    file = _speed_file(program.config)
    speed = json.loads(file.read_text()) if file.is_file() else _GUESSED_SPEED
    ideal = pictures * sum(cycles.total(program, task).ideal_cycles for task in tasks)
    expected = int(ideal * speed["overhead"])
    return Estimate(ideal_cycles=ideal, cycles=expected, seconds=expected / speed["cycles_per_s"])


def remember_speed(config: AcceleratorConfig, outcomes: Sequence[FrameOutcome]) -> None:
    """Keep the speed of these frames for the next estimate."""
    spent = sum(outcome.result.cycles for outcome in outcomes)
    ideal = sum(outcome.work.ideal_cycles for outcome in outcomes)
    seconds = sum(outcome.result.seconds for outcome in outcomes)
    if ideal and spent and seconds and all(outcome.bit_exact for outcome in outcomes):
        write_json(_speed_file(config), {"overhead": spent / ideal, "cycles_per_s": spent / seconds})
