"""How long a run will take: predicted cycles, at the speed of the last simulation on this computer."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

from tessera.common.cache import Cache, Kind
from tessera.common.files import write_json
from tessera.hw.config import AcceleratorConfig
from tessera.program.program import Program
from tessera.sw.cycles import bound
from tessera.sw.cycles.predict import predict
from tessera.sw.results.outcome import FrameOutcome

_SPEED = Kind(name="speed", keep=64, suffix=".json")
_GUESSED_SPEED = {"cycles_per_s": 150_000.0}


@dataclass(frozen=True, kw_only=True)
class Duration:
    """What a run will take: ideal and predicted cycles of all frames, and seconds of simulation."""

    ideal_cycles: int
    cycles: int
    seconds: float


def _key(config: AcceleratorConfig) -> str:
    return f"{config.name}-{config.numerics.activation_width}"


def expected_duration(program: Program, tasks: Sequence[int], pictures: int, *, read_latency: int) -> Duration:
    """Expect so many cycles, with balanced experts, and seconds of simulation."""
    file = Cache().find(_SPEED, _key(program.config))
    speed = json.loads(file.read_text(encoding="utf-8")) if file else _GUESSED_SPEED
    ideal = pictures * sum(bound.total(program, task).ideal_cycles for task in tasks)
    expected = pictures * sum(predict(program, task, read_latency=read_latency).cycles for task in tasks)
    return Duration(ideal_cycles=ideal, cycles=expected, seconds=expected / speed["cycles_per_s"])


def remember_speed(config: AcceleratorConfig, outcomes: Sequence[FrameOutcome]) -> None:
    """Keep the speed of these frames for the next forecast, if caches can be written."""
    spent = sum(outcome.result.cycles for outcome in outcomes)
    seconds = sum(outcome.result.seconds for outcome in outcomes)
    if spent and seconds and all(outcome.bit_exact for outcome in outcomes):
        with suppress(OSError):
            Cache().put(_SPEED, _key(config), lambda file: write_json(file, {"cycles_per_s": spent / seconds}))
