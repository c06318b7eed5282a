"""The analytical cycle model: what a frame and each of its commands will take, before anything is simulated."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tessera.program.program import Program
from tessera.sw.cycles.frame import FrameModel


@dataclass(frozen=True, kw_only=True)
class CycleForecast:
    """What is expected of a frame: its cycles, and (index, start, end) of each command that runs, without END."""

    cycles: int
    commands: list[tuple[int, int, int]]


def predict(
    program: Program, task: int, *, loads: Mapping[str, Sequence[int]] | None = None, read_latency: int = 60
) -> CycleForecast:
    """Expected cycles of one frame.

    Parameters
    ----------
    program:
        A compiled model; its configuration is the machine.
    task:
        Number of the task.
    loads:
        Tokens of each expert by name of the mixture, as ``FrameOutcome.load`` has them. Mixtures that are not there
        get balanced queues: routing depends on the picture.
    read_latency:
        Cycles from a read request to its first beat. Memory that pauses at random is not modelled.

    Raises
    ------
    ValueError
        For a task that the model has not, or loads of another number of experts.
    """
    if not 0 <= task < len(program.model.tasks):
        raise ValueError(f"task is {task}, model '{program.model.name}' has tasks 0 to {len(program.model.tasks) - 1}")
    for name, counts in (loads or {}).items():
        experts = program.mixtures[name].experts if name in program.mixtures else 0
        if len(counts) != experts:
            raise ValueError(f"{name}: loads of {len(counts)} experts, the model has {experts}")
    frame = FrameModel(program, task, loads or {}, read_latency)
    return CycleForecast(cycles=frame.run(), commands=frame.stamps)


def queue_lengths(program: Program, golden: Mapping[str, Any]) -> dict[str, list[int]]:
    """Loads as the integer golden model routes: from its tensors, without a simulation."""
    return {
        name: [len(queue.tokens) for queue in golden[step.inner("queues")]]
        for name, step in program.mixtures.items()
        if step.inner("queues") in golden
    }
