"""Messages between the runner and the test bench in the simulator, as JSON: jobs in, positions and readouts back."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from tessera.sim.machine.settings import Upset


@dataclass(frozen=True, kw_only=True)
class FrameJob:
    """One frame as the test bench runs it.

    Parameters
    ----------
    number:
        Number of the frame in the run; the traces carry it.
    registers:
        Values of the control registers, by name.
    image_file, image_address:
        File with the pixels, and the byte address to write them to. The name is empty for the first frame because the
        memory's image contains its pixels.
    patches, memory, reset, upsets:
        As in :class:`tessera.sim.machine.frames.Frame`.
    stamps:
        Commands whose time stamps to read. An empty list reads no owners either.
    output_address, output_bytes, output_file:
        Region of the DRAM that holds the output, and the file to copy it to.
    limit:
        Cycles after which the test bench gives up.
    """

    number: int
    registers: dict[str, int]
    image_file: str
    image_address: int
    patches: list[tuple[int, bytes]]
    memory: dict[str, int]
    reset: bool
    upsets: list[Upset]
    stamps: list[int]
    output_address: int
    output_bytes: int
    output_file: str
    limit: int

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON-compatible form."""
        return asdict(self) | {"patches": [(address, content.hex()) for address, content in self.patches]}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> FrameJob:
        """Undo :meth:`to_dict`."""
        patches = [(address, bytes.fromhex(content)) for address, content in values["patches"]]
        return cls(**(values | {"patches": patches, "upsets": [Upset(**upset) for upset in values["upsets"]]}))


@dataclass(frozen=True, kw_only=True)
class FrameReadout:
    """What the host read after one frame.

    Parameters
    ----------
    first:
        Cycle 0 of the frame, on the clock of the traces.
    seconds:
        Seconds of real time from start to interrupt.
    counters:
        Values of the counters and error registers, by name.
    stamps:
        (start, end) cycle of each command that the job asked for.
    owners:
        [command, total of each cause] for each owner of cycles, from the last to the first.
    """

    first: int
    seconds: float
    counters: dict[str, int]
    stamps: list[list[int]]
    owners: list[list[int]]


@dataclass(frozen=True, kw_only=True)
class FramePosition:
    """Where a running simulation is.

    Parameters
    ----------
    frame:
        Number of the frame.
    cycle:
        Cycles since the frame's start.
    command:
        Index of the command in progress.
    seconds:
        Seconds of real time since the frame's start.
    """

    frame: int
    cycle: int
    command: int
    seconds: float
