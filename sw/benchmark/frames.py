"""Frames of several models on several machines: cycles, their bound, utilisation, and where the cycles went."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from common.progress import Progress, silent
from golden.config import by_layer_name
from sim.machine.settings import MemorySettings
from sw.cycles.breakdown import grouped, named
from sw.data.pictures import scene_picture
from sw.results.outcome import FrameOutcome
from sw.run import execute
from sw.run.prepare import Prepared, prepare
from sw.run.target import Target


@dataclass(frozen=True, kw_only=True)
class Case:
    """One model on one machine; ``routing`` is for seeded models with experts."""

    preset: str
    model: str
    routing: str | None = None

    @property
    def target(self) -> Target:
        """The model and the machine."""
        return Target(model=self.model, preset=self.preset, routing=self.routing)

    def __str__(self) -> str:
        return f"{self.model}{f', {self.routing}' if self.routing else ''} on {self.preset}"


CASES = (
    Case(preset="edge", model="m3vit-backbone", routing="balanced"),
    Case(preset="edge", model="m3vit-backbone", routing="skewed"),
    Case(preset="edge", model="m3vit-backbone", routing="captured"),
    Case(preset="edge-8", model="m3vit-backbone", routing="balanced"),
    Case(preset="ecp5-85f", model="m3vit-backbone", routing="balanced"),
    Case(preset="edge", model="nano"),
    Case(preset="ecp5-85f", model="nano"),
    Case(preset="edge-large", model="deit-small"),
)
"""The paper's geometry in three routings, a bus of a quarter of the width, the board's preset, the trained model, and a
dense geometry that nothing was tuned on."""


def measure(case: Case, *, on_progress: Progress = silent) -> list[dict[str, Any]]:
    """One frame a task, back to back on one machine, verified."""
    prepared = prepare(case.target, on_progress=on_progress)
    model = prepared.program.model
    # Without experts every task but its head is the same.
    tasks = range(len(model.tasks)) if model.expert_layers else range(1)
    result = execute.execute(prepared, [scene_picture(model)], list(tasks), on_progress=on_progress)
    return [entry(prepared, outcome) for outcome in result.frames]


def entry(prepared: Prepared, outcome: FrameOutcome) -> dict[str, Any]:
    """A frame's numbers; all cycles are simulated but ``bound_cycles`` (computed) and ``predicted_cycles``."""
    program, result = prepared.program, outcome.result
    kinds = grouped(outcome.shares(), "kind")
    return {
        "preset": program.config.name,
        "memory_bytes_per_cycle": program.config.memory_bytes,
        "read_latency": MemorySettings().read_latency,
        "model": program.model.name,
        "weights": prepared.checkpoint.weights,
        "routing": prepared.routing,
        "task": outcome.task,
        "cycles": result.cycles,
        "bound_cycles": outcome.bound_cycles,
        "over_bound": result.cycles / outcome.bound_cycles,
        "ideal_cycles": outcome.work.ideal_cycles,
        "macs": outcome.work.macs,
        "mac_utilisation": outcome.mac_utilisation,
        "dram_bytes": result.counters["read_bytes"] + result.counters["write_bytes"],
        "expert_load": by_layer_name(outcome.load()),
        "bit_exact": outcome.bit_exact,
        "elements_compared": outcome.verdict.elements_compared,
        "sim_cycles_per_s": outcome.cycles_per_second,
        "predicted_cycles": outcome.predicted_cycles,
        "kinds": {
            share.kind: {
                "cycles": share.cycles,
                "macs": share.macs,
                "mac_utilisation": share.macs / (max(1, share.cycles) * program.config.elements * program.config.lanes),
                "causes": named(share.causes),
            }
            for share in kinds
        },
    }
