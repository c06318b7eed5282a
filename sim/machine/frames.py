"""A frame to simulate, and the results that it leaves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from tessera.hw.isa import ErrorCode
from tessera.program.program import Program
from tessera.program.traces import Traces
from tessera.sim.machine.activity import Activity
from tessera.sim.machine.settings import Upset


@dataclass(frozen=True, kw_only=True)
class Frame:
    """One frame to run, with the faults of the self-test.

    Parameters
    ----------
    task:
        Index of the task.
    image:
        Pixels, uint8 (3, H, W).
    patches:
        (byte address, content) pairs, written into the DRAM before the frame starts.
    memory:
        New values of variables of ``memory.sv``, set before the frame starts.
    reset:
        Whether to reset the machine and its memory's control before the frame starts.
    registers:
        Register values that override the program's.
    upsets:
        Faults that happen while the frame runs.
    program:
        Another program for the same machine, written into the DRAM before the frame starts; None for the one before.
    """

    task: int
    image: np.ndarray
    patches: Sequence[tuple[int, bytes]] = ()
    memory: Mapping[str, int] = field(default_factory=dict)
    reset: bool = False
    registers: Mapping[str, int] = field(default_factory=dict)
    upsets: Sequence[Upset] = ()
    program: Program | None = None


@dataclass(frozen=True, kw_only=True)
class SimulatedFrame:
    """Results of one frame.

    Members
    -------
    task:
        Index of the task.
    counters:
        Values of the counters and error registers, by register name.
    stamps:
        Start and end cycle of each command, int64 (commands, 2); zero where the command did not run.
    causes:
        Cycles that each command owned, by ``tessera.hw.isa.CycleCause``, int64 (commands, causes). They add up to
        ``cycles``.
    traces:
        Every write into the on-chip memories, and the output region of the DRAM.
    activity:
        Activity of the units, summed up from the traces; None without traces.
    first_cycle:
        Cycle 0 of this frame, on the clock of the traces.
    seconds:
        Seconds of real time from start to interrupt.
    """

    task: int
    counters: dict[str, int]
    stamps: np.ndarray
    causes: np.ndarray
    traces: Traces
    activity: Activity | None
    first_cycle: int
    seconds: float

    @property
    def error(self) -> ErrorCode:
        """Reason for which the machine halted, or NONE."""
        return ErrorCode(self.counters["error_code"])

    @property
    def cycles(self) -> int:
        """Cycles from start to done."""
        return self.counters["cycles"]
