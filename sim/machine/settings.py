"""Settings of a simulated run: behaviour of the DRAM, faults, traces and waves.

``tessera.sim.machine.sdram`` has the settings of a board's SDRAM.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tessera.common.expected import several, whole

WATCHDOG_CYCLES = 100_000
"""Cycles without progress after which the machine halts itself, unless the options say otherwise."""


@dataclass(frozen=True, kw_only=True)
class MemorySettings:
    """Timing and faults of the simulated DRAM. They are set at run time, without a rebuild.

    Parameters
    ----------
    read_latency:
        Cycles from an accepted request to its first beat, at least 2.
    write_latency:
        Cycles from the last beat to the response, at least 2.
    stall:
        Chance in 256 that a channel pauses for a cycle, 0 to 255; all five channels pause independently.
    seed:
        Seed of the pauses.
    error_window:
        Byte addresses [low, high) that answer with a bus error.
    drop_read_beat:
        Fault: number of the read beat that never comes, counted over the whole run.
    flip:
        Fault: (byte address, bit) that reads inverted.

    Raises
    ------
    ValueError
        For a value of another kind, or out of its range.
    """

    read_latency: int = 60
    write_latency: int = 20
    stall: int = 0
    seed: int = 1
    error_window: tuple[int, int] | None = None
    drop_read_beat: int | None = None
    flip: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        for name, least in (("read_latency", 2), ("write_latency", 2), ("stall", 0), ("seed", 0)):
            object.__setattr__(self, name, whole(name, getattr(self, name), least))
        if self.seed >= 1 << 31:
            raise ValueError(f"seed is {self.seed}; choose 0 to {(1 << 31) - 1}")
        if self.stall > 255:
            raise ValueError(f"stall is {self.stall}; a chance in 256 is 0 to 255")
        if self.drop_read_beat is not None:
            object.__setattr__(self, "drop_read_beat", whole("drop_read_beat", self.drop_read_beat, 0))
        for name in ("error_window", "flip"):
            if (pair := getattr(self, name)) is not None:
                object.__setattr__(self, name, _pair(name, pair))
        if self.flip is not None and not 0 <= self.flip[1] <= 7:
            raise ValueError(f"the bit to flip is {self.flip[1]}; a byte has bits 0 to 7")

    def check(self, size: int) -> None:
        """ValueError for a fault that would do nothing, because it is not in the ``size`` bytes that a program uses."""
        if self.flip is not None and not 0 <= self.flip[0] < size:
            raise ValueError(
                f"the address of the bit to flip is {self.flip[0]:#x}; the memory of this program has {size:,} bytes: "
                f"choose an address from 0 to {size - 1:#x}"
            )

    def to_dict(self) -> dict[str, Any]:
        """Return the settings in JSON-compatible form, without those that are None."""
        return {name: value for name, value in asdict(self).items() if value is not None}

    def plusargs(self) -> list[str]:
        """Return the arguments of ``memory.sv``."""
        values: dict[str, Any] = {"read_latency": self.read_latency, "write_latency": self.write_latency}
        values |= {f"stall_{channel}": self.stall for channel in ("ar", "r", "aw", "w", "b")}
        values["stall_seed"] = self.seed
        if self.error_window:
            values |= {"error_low": f"{self.error_window[0]:x}", "error_high": f"{self.error_window[1]:x}"}
        if self.drop_read_beat is not None:
            values["drop_read_beat"] = self.drop_read_beat
        if self.flip:
            values |= {"flip_address": f"{self.flip[0]:x}", "flip_bit": self.flip[1]}
        return [f"+{name}={value}" for name, value in values.items()]


def _pair(name: str, given: Any) -> tuple[int, int]:
    """Two whole numbers."""
    numbers = tuple(whole(name, number) for number in several(name, given, "two whole numbers"))
    if len(numbers) != 2:
        raise ValueError(f"{name} has {len(numbers)} members; expected two whole numbers")
    return numbers[0], numbers[1]


@dataclass(frozen=True, kw_only=True)
class Upset:
    """Fault: bits of an on-chip memory that flip while the machine runs.

    Parameters
    ----------
    cycle:
        Cycle of the frame, counted from its start.
    memory:
        Name of the memory, one of :func:`tessera.sim.machine.simulator.backdoor_memories`.
    word:
        Index of the word.
    mask:
        Bits that flip.
    """

    cycle: int
    memory: str
    word: int
    mask: int


@dataclass(frozen=True, kw_only=True)
class WaveWindow:
    """Cycles of which to record waves; the simulation ends with them.

    Parameters
    ----------
    file:
        VCD file to write.
    first, last:
        First and last cycle, on the clock of the traces.
    units:
        Units to record, by their names in :func:`tessera.sim.machine.hierarchy.unit_modules`: signals that have
        names, and fields of structures. Without any, every signal is recorded as it is.
    """

    file: Path
    first: int
    last: int
    units: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class SimulationOptions:
    """What a run records, and when the machine gives up.

    Parameters
    ----------
    trace:
        Whether to record every write into the on-chip memories.
    waves:
        Window of waves. It needs a debug build, and only frames that end before it have results.
    watchdog:
        Cycles without progress after which the machine halts itself.
    """

    trace: bool = True
    waves: WaveWindow | None = None
    watchdog: int = WATCHDOG_CYCLES
