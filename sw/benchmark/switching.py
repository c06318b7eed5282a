"""What it costs to change the task: the same frame after another task and after none."""

from __future__ import annotations

from dataclasses import dataclass

from tessera.sim.machine.frames import Frame
from tessera.sim.machine.run import run_machine
from tessera.sw.data.pictures import scene_picture
from tessera.sw.run.prepare import prepare
from tessera.sw.run.profile import machine_simulator
from tessera.sw.run.target import Target


@dataclass(frozen=True, kw_only=True)
class TaskSwitch:
    """Cycles and bytes that a frame takes more because another task ran before it."""

    preset: str
    model: str
    extra_cycles: int
    extra_bytes: int


def measure_switching(model: str = "nano", preset: str = "edge") -> TaskSwitch:
    """Cycles and bytes of task B after task A, less those of task B first (simulated); and of A again after B."""
    prepared = prepare(Target(model=model, preset=preset))
    program = prepared.program
    image = scene_picture(program.model).image
    simulator = machine_simulator(prepared.config)

    def run(*tasks: int) -> list[tuple[int, int]]:
        results = run_machine(program, [Frame(task=task, image=image) for task in tasks], simulator=simulator)
        return [(result.cycles, result.counters["read_bytes"]) for result in results]

    alone, switched = run(1)[0], run(0, 1, 0)
    back = [after - before for after, before in zip(switched[2], switched[0], strict=True)]
    there = [after - before for after, before in zip(switched[1], alone, strict=True)]
    return TaskSwitch(
        preset=preset,
        model=program.model.name,
        extra_cycles=max(there[0], back[0]),
        extra_bytes=max(there[1], back[1]),
    )
