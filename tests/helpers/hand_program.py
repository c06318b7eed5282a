"""Programs written command by command, for the emulator and for the simulated machine."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import numpy as np

from tessera.golden.integer import functions
from tessera.hw.config import AcceleratorConfig
from tessera.hw.isa import COMMAND_BYTES, EVERYTHING, Opcode, encode, fields
from tessera.program.memory_map import MemoryMap

ALIGNMENT = 4096


@dataclass
class HandProgram:
    """What :class:`tessera.program.program.Program` offers to those who run a program, without a model.

    Members
    -------
    config:
        The machine.
    image_bytes, output_bytes:
        Sizes of the image and of the output region.
    """

    config: AcceleratorConfig
    image_bytes: int = 0
    output_bytes: int = 64
    commands: list[Any] = field(default_factory=list)
    _code: bytearray = field(default_factory=bytearray)
    _weights: bytearray = field(default_factory=bytearray)
    plan: Any = field(default_factory=lambda: SimpleNamespace(steps=(SimpleNamespace(rows=0),)))
    model: Any = field(default_factory=lambda: SimpleNamespace(tasks=(None,), name="by hand"))

    def add(
        self, opcode: Opcode, stream: bytes = b"", *, beats: int = 0, after: int = EVERYTHING, **values: int
    ) -> None:
        """Append a command with its block of the weight stream; fields that are not given are 0.

        A block whose ``stream_bytes`` are given lies elsewhere.
        """
        known = fields(opcode)
        if "stream_bytes" in known and "stream_bytes" not in values:
            stream += bytes(-len(stream) % self.config.chunk_bytes)
            values |= {"stream_address": len(self._weights), "stream_bytes": len(stream)}
            self._weights += stream
        rest = known.keys() - {"opcode", "after", "follow", "task_mask"}
        self._code += encode(opcode, after=after, **(dict.fromkeys(rest, 0) | values))
        number = len(self.commands)
        self.commands.append(
            SimpleNamespace(
                index=number,
                op=opcode.name,
                ideal_cycles=beats,
                stream_bytes=values.get("stream_bytes", 0),
                name=f"{number}.{opcode.name}",
                runs=lambda task: True,
            )
        )

    @property
    def map(self) -> MemoryMap:
        """Where everything lies."""
        weights = -(-len(self._code) // ALIGNMENT) * ALIGNMENT
        image = weights + -(-len(self._weights) // ALIGNMENT) * ALIGNMENT
        output = image + -(-self.image_bytes // ALIGNMENT) * ALIGNMENT
        return MemoryMap(
            program=0,
            program_bytes=len(self._code),
            weights=weights,
            weights_bytes=len(self._weights),
            image=image,
            image_bytes=self.image_bytes,
            output=output,
            output_bytes=self.output_bytes,
            limit=output + ALIGNMENT + self.output_bytes,
        )

    def memory(self, image: np.ndarray) -> np.ndarray:
        """The memory before the run."""
        places, memory = self.map, np.zeros(self.map.limit, np.uint8)
        for start, content in ((0, self._code), (places.weights, self._weights), (places.image, image.tobytes())):
            memory[start : start + len(content)] = np.frombuffer(bytes(content), np.uint8)
        return memory

    def registers(self, task: int) -> dict[str, int]:
        """Control registers to write before start."""
        places = self.map
        return {
            "task": task,
            "program_address": places.program,
            "weight_address": places.weights,
            "image_address": places.image,
            "output_address": places.output,
            "window_base": 0,
            "window_limit": places.limit,
        }

    def command_bytes(self, index: int) -> bytes:
        """The 64 bytes of one command."""
        return bytes(self._code[index * COMMAND_BYTES :][:COMMAND_BYTES])


def parameter_bytes(bias: np.ndarray, multiplier: np.ndarray, shift: np.ndarray) -> bytes:
    """Parameter sets as they lie in a stream block, padded to whole pairs of chunks of any machine."""
    bias, multiplier, shift = (np.asarray(values, np.int64) for values in (bias, multiplier, shift))
    return ((bias & 0xFFFFFFFF) | multiplier << 32 | shift << 56).astype("<u8").tobytes()


def weight_bytes(config: AcceleratorConfig, weights: np.ndarray) -> bytes:
    """A matrix of int8 (rows of whole tiles, whole words) as it lies in a stream block."""
    p, t = config.elements, config.lanes
    rows, length = weights.shape
    tiles = weights.reshape(rows // p, p, length // t, t).transpose(0, 2, 1, 3)
    return np.ascontiguousarray(tiles, np.int8).tobytes()


def block(config: AcceleratorConfig, weights: np.ndarray, parameters: tuple[np.ndarray, ...]) -> bytes:
    """Stream block of a product: parameter sets, then tiles."""
    sets = parameter_bytes(*parameters)
    return sets + bytes(-len(sets) % config.chunk_bytes) + weight_bytes(config, weights)


class Product:
    """Random weights (outputs, inputs) of a product, its stream block and its results."""

    def __init__(
        self, config: AcceleratorConfig, random: np.random.Generator, shape: tuple[int, int], shift: int
    ) -> None:
        outputs, inputs = shape
        self.weights = random.integers(-128, 128, shape)
        self._parameters = (
            random.integers(-4096, 4096, outputs),
            random.integers(1 << 15, 1 << 16, outputs),
            np.full(outputs, shift),
        )
        self.stream = block(config, self.weights, self._parameters)
        self.shape = {"stationary_rows": outputs, "words": inputs // config.lanes}

    def __call__(self, rows: np.ndarray) -> np.ndarray:
        return functions.requantise(rows @ self.weights.T, *self._parameters)


def patches(image: np.ndarray, patch: int) -> np.ndarray:
    """Pixels (rows, columns, values of a patch) of an image (3, height, width)."""
    cut = image.reshape(3, image.shape[1] // patch, patch, -1, patch).transpose(1, 3, 0, 2, 4)
    return cut.reshape(*cut.shape[:2], -1).astype(np.int64)


def same_writes(config: AcceleratorConfig, expected: np.ndarray, got: np.ndarray, bits: int) -> bool:
    """Two records of one memory's writes agree in everything but their time."""
    return np.array_equal(_by_columns(config, expected, bits), _by_columns(config, got, bits))


def _by_columns(config: AcceleratorConfig, records: np.ndarray, bits: int) -> np.ndarray:
    """A row for each column that is written: command, address, column and values, whether written together or not."""
    column = np.arange(config.columns)
    written, which = np.nonzero(records["columns"][:, None] >> column & 1)
    values = records["data"].reshape(len(records), config.columns, config.elements)[written, which] & ((1 << bits) - 1)
    return np.column_stack([records["command"][written], records["address"][written], which, values])
