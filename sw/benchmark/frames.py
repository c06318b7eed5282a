"""Frames of several models on several machines: cycles, their bound, utilisation, and where the cycles went."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tessera.common.progress import Progress, silent
from tessera.sim.machine.settings import MemorySettings
from tessera.sw.cycles.breakdown import grouped, named
from tessera.sw.data.pictures import scene_picture
from tessera.sw.results.outcome import FrameOutcome
from tessera.sw.run import execute
from tessera.sw.run.prepare import Prepared, prepare
from tessera.sw.run.target import Target


@dataclass(frozen=True, kw_only=True)
class Case:
    """One model on one machine; ``routing`` is for seeded models with experts.

    ``calibration_images`` are a folder of pictures for the ranges of its activations.
    """

    preset: str
    model: str
    routing: str | None = None
    calibration_images: Path | None = None

    @property
    def target(self) -> Target:
        """The model and the machine."""
        return Target(
            model=self.model,
            preset=self.preset,
            routing=self.routing,
            calibration_images=self.calibration_images,
        )

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


@dataclass(frozen=True, kw_only=True)
class KindCycles:
    """Cycles and work of one kind of command in a frame, and the causes of these cycles."""

    cycles: int
    macs: int
    mac_utilisation: float
    causes: dict[str, int]


@dataclass(frozen=True, kw_only=True)
class MeasuredFrame:
    """A frame's numbers; ``expert_load`` are the tokens of each expert by mixture.

    All cycles are simulated but ``bound_cycles`` and ``ideal_cycles`` (computed) and ``predicted_cycles``.
    """

    preset: str
    program_digest: str
    memory_bytes_per_cycle: int
    read_latency: int
    model: str
    weights: str
    routing: str
    task: str
    cycles: int
    bound_cycles: int
    over_bound: float
    ideal_cycles: int
    macs: int
    mac_utilisation: float
    dram_bytes: int
    expert_load: dict[str, list[int]]
    bit_exact: bool
    elements_compared: int
    sim_cycles_per_s: float
    predicted_cycles: int
    kinds: dict[str, KindCycles]

    def to_dict(self) -> dict[str, Any]:
        """An entry of ``frames`` in bench.json."""
        return asdict(self)

    @classmethod
    def of(cls, prepared: Prepared, outcome: FrameOutcome) -> MeasuredFrame:
        """The numbers of a frame that was run."""
        program, result = prepared.program, outcome.result
        config = program.config
        return cls(
            preset=config.name,
            program_digest=program.digest,
            memory_bytes_per_cycle=config.memory_bytes,
            read_latency=MemorySettings().read_latency,
            model=program.model.name,
            weights=prepared.checkpoint.weights,
            routing=prepared.routing,
            task=outcome.task,
            cycles=result.cycles,
            bound_cycles=outcome.bound_cycles,
            over_bound=result.cycles / outcome.bound_cycles,
            ideal_cycles=outcome.work.ideal_cycles,
            macs=outcome.work.macs,
            mac_utilisation=outcome.mac_utilisation,
            dram_bytes=result.counters["read_bytes"] + result.counters["write_bytes"],
            expert_load=outcome.load(),
            bit_exact=outcome.bit_exact,
            elements_compared=outcome.verdict.elements_compared,
            sim_cycles_per_s=outcome.cycles_per_second,
            predicted_cycles=outcome.predicted_cycles,
            kinds={
                share.kind: KindCycles(
                    cycles=share.cycles,
                    macs=share.macs,
                    mac_utilisation=share.macs / (max(1, share.cycles) * config.elements * config.lanes),
                    causes=named(share.causes),
                )
                for share in grouped(outcome.shares(), "kind")
            },
        )


def measure_frames(case: Case, *, on_progress: Progress = silent) -> list[MeasuredFrame]:
    """One frame a task, back to back on one machine, verified."""
    prepared = prepare(case.target, on_progress=on_progress)
    model = prepared.program.model
    # Without experts every task but its head is the same.
    tasks = range(len(model.tasks)) if prepared.program.mixtures else range(1)
    result = execute.execute(prepared, [scene_picture(model)], list(tasks), on_progress=on_progress)
    return [MeasuredFrame.of(prepared, outcome) for outcome in result.frames]
