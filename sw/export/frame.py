"""A frame for the exported machine: memory image, expected output and register values, as files and numbers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tessera.sw.cycles.predict import predict, queue_lengths
from tessera.sw.data.pictures import Picture
from tessera.sw.run.prepare import Prepared

READ_LATENCY = 60
"""Cycles from a read request to its first data in the bench's memory."""
BYTES_PER_LINE = 16
"""Bytes in a line of the expected output."""


@dataclass(frozen=True, kw_only=True)
class ExpectedOutput:
    """What a task must leave in the output region.

    Parameters
    ----------
    task:
        Name of the task.
    registers:
        Values of the registers that start it, by name.
    rows, channels, row_bytes:
        Shape of the result, and bytes from one row to the next; a value has 4 bytes, and padding is 0.
    scale:
        Real value of a 1 in the output, the same for all channels or one for each.
    predicted_cycles:
        Cycles that the frame is expected to take with the bench's memory.
    content:
        Bytes of the region.
    first:
        Place of the first one in the file of all tasks.
    """

    task: str
    registers: dict[str, int]
    rows: int
    channels: int
    row_bytes: int
    scale: float | list[float]
    predicted_cycles: int
    content: bytes
    first: int


@dataclass(frozen=True, kw_only=True)
class ExportedFrame:
    """A program with a picture, and what comes of it.

    Parameters
    ----------
    prepared, picture:
        Program and picture.
    memory:
        Bytes from address 0 to the end of the window.
    outputs:
        Expected output of each task, in task order.
    """

    prepared: Prepared
    picture: Picture
    memory: bytes
    outputs: tuple[ExpectedOutput, ...]

    def memory_hex(self) -> str:
        """The memory for ``$readmemh``: a word of the bus per line, the byte at the highest address first."""
        width = self.prepared.config.memory_bytes
        content = self.memory + bytes(-len(self.memory) % width)
        words = (content[start : start + width] for start in range(0, len(content), width))
        return "".join(f"{word[::-1].hex()}\n" for word in words)

    def expected_hex(self) -> str:
        """The expected output of all tasks for ``$readmemh``, byte by byte."""
        content = b"".join(output.content for output in self.outputs)
        lines = (content[start : start + BYTES_PER_LINE] for start in range(0, len(content), BYTES_PER_LINE))
        return "".join(f"{line.hex(' ')}\n" for line in lines)


def exported_frame(prepared: Prepared, picture: Picture) -> ExportedFrame:
    """Compute what each task of a program makes of a picture, with the integer golden model."""
    program, outputs, first = prepared.program, [], 0
    for task in range(len(program.model.tasks)):
        output = _expected(prepared, picture, task, first)
        outputs.append(output)
        first += len(output.content)
    memory = program.memory(picture.image).tobytes()
    return ExportedFrame(prepared=prepared, picture=picture, memory=memory, outputs=tuple(outputs))


def _expected(prepared: Prepared, picture: Picture, task: int, first: int) -> ExpectedOutput:
    program, golden = prepared.program, prepared.integer.run(picture.image, task)
    output = program.outputs[task]
    rows, channels = output.shape
    region = np.zeros((rows, output.row_bytes // 4), "<i4")
    region[:, :channels] = prepared.integer.result(golden, task)
    return ExpectedOutput(
        task=output.task,
        registers=program.registers(task),
        rows=rows,
        channels=channels,
        row_bytes=output.row_bytes,
        scale=np.asarray(prepared.quantised.scales[program.plan.results[task].tensor]).tolist(),
        predicted_cycles=predict(program, task, loads=queue_lengths(program, golden), read_latency=READ_LATENCY).cycles,
        content=region.tobytes(),
        first=first,
    )
