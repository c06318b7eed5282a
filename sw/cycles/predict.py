"""The analytical cycle model: what a frame and each of its commands will take, before anything is simulated."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tessera.golden.config import ModelConfig, layer_name
from tessera.program.program import Program
from tessera.program.tensors import tensor_name
from tessera.sw.cycles.frame import FrameModel


@dataclass(frozen=True, kw_only=True)
class CycleForecast:
    """What is expected of a frame: its cycles, and (index, start, end) of each command that runs, without END."""

    cycles: int
    commands: list[tuple[int, int, int]]


def predict(
    program: Program, task: int, *, loads: Mapping[int, Sequence[int]] | None = None, read_latency: int = 60
) -> CycleForecast:
    """Expected cycles of one frame.

    Parameters
    ----------
    program:
        A compiled model; its configuration is the machine.
    task:
        Number of the task.
    loads:
        Tokens of each expert by number of the layer, as ``FrameOutcome.load`` has them. Layers that are not there get
        balanced queues: routing depends on the picture.
    read_latency:
        Cycles from a read request to its first beat. Memory that pauses at random is not modelled.

    Raises
    ------
    ValueError
        For a task that the model has not, or loads of another number of experts.
    """
    if not 0 <= task < len(program.model.tasks):
        raise ValueError(f"task is {task}, model '{program.model.name}' has tasks 0 to {len(program.model.tasks) - 1}")
    for layer, counts in (loads or {}).items():
        if len(counts) != program.model.experts:
            raise ValueError(
                f"{layer_name(layer)}: loads of {len(counts)} experts, the model has {program.model.experts}"
            )
    frame = FrameModel(program, task, loads or {}, read_latency)
    return CycleForecast(cycles=frame.run(), commands=frame.stamps)


def queue_lengths(model: ModelConfig, golden: Mapping[str, Any]) -> dict[int, list[int]]:
    """Loads as the integer golden model routes: from its tensors, without a simulation."""
    return {
        layer: [len(queue.tokens) for queue in golden[tensor_name("queues", layer)]] for layer in model.expert_layers
    }
