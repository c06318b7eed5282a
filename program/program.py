"""A compiled program: commands, memory image, memory map and the table that says where every tensor lies.

The accelerator sees only the bytes; the table of tensors is for the verifier, the emulator's tests and reports.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from safetensors import safe_open
from safetensors.numpy import save_file

from common.files import file_aside
from golden.config import ModelConfig
from hw.config import AcceleratorConfig
from hw.isa import COMMAND_BYTES

Space = Literal["scratchpad", "residual", "score", "exponential", "query", "queue", "memory"]
Layout = Literal[
    "rows",
    "last",
    "wide",
    "transposed",
    "scores",
    "logits",
    "exponentials",
    "queries",
    "positions",
    "accumulated",
    "queue",
]


@dataclass(frozen=True)
class Location:
    """Where the elements of a tensor lie: arrays of the tensor's shape.

    ``word`` and ``lane`` address the space; ``occurrence`` counts the writes of that place within the command: the
    element is what the ``occurrence``-th of them leaves (buffers are used several times in a command).
    """

    word: np.ndarray
    lane: np.ndarray
    occurrence: np.ndarray


@dataclass(frozen=True, kw_only=True)
class Tensor:
    """A tensor that a command writes, and the rule from logical index to (word, lane).

    Parameters
    ----------
    name:
        Name of the golden tensor. ``first_row`` and ``first_channel`` are the golden indices of what is row 0 (for
        ``scores``, ``exponentials`` and ``queries``: head 0) and channel 0 here.
    space:
        Memory that is written.
    shape:
        Logical shape of the written part, without padding.
    layout:
        ``rows``: (row, channel), a row every ``stride`` words. ``last``: the same, written several times, the last
        write counts. ``wide``: a value in two lanes. ``transposed``: (row, channel) with rows along the lanes, a
        channel every ``stride`` words. ``scores``, ``exponentials``: (head, query, key). ``queries``: (head, query).
        ``logits``: (token, expert) in the score buffer. ``positions``: (queue entry, channel), a row every queue
        position. ``accumulated``: rows, written once for each expert of a token. ``queue``: (token, rank) entries of
        queues. For ``positions`` and ``accumulated`` routing decides the places: ``shape`` is the largest there may be.
    base, stride:
        First word and words from one row (or channel) to the next.
    lanes:
        Elements of a word: T, or P for the score buffer.
    block, block_words:
        Channels of a block that starts at a word of its own (one attention head), and the words it takes.
    elements:
        P, for the layouts that work in tiles of P queries or experts.
    room:
        Words between the two halves of a double buffer (``scores``, ``exponentials``, ``queries``).
    extent:
        Words from ``base`` on that belong to the tensor, padding included.
    padding:
        What padding lanes hold if they are written; None if it does not matter.
    signed:
        Whether lanes hold two's complement.
    """

    name: str
    space: Space
    shape: tuple[int, ...]
    layout: Layout = "rows"
    base: int = 0
    stride: int = 0
    lanes: int
    block: int = 0
    block_words: int = 0
    elements: int = 0
    room: int = 0
    first_row: int = 0
    first_channel: int = 0
    extent: int = 0
    padding: int | None = 0
    signed: bool = True

    def _channel(self, index: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Word offset and lane of channels, each block from a word of its own."""
        if self.block:
            index = index // self.block * self.block_words * self.lanes + index % self.block
        return index // self.lanes, index % self.lanes

    def locate(self) -> Location:
        """Word, lane and occurrence of every element (of its low half for ``wide``)."""
        index = np.indices(self.shape, sparse=True)
        zero = np.zeros(self.shape, np.int64)
        if self.layout in ("rows", "last"):
            return self.locate_rows(index[0], index[1])
        if self.layout == "wide":
            return self.locate_rows(index[0], 2 * index[1])
        if self.layout == "transposed":
            offset, lane = self._channel(index[1])
            channel = offset * self.lanes + lane
            word = self.base + channel * self.stride + index[0] // self.lanes
            return Location(zero + word, zero + index[0] % self.lanes, zero)
        if self.layout == "logits":
            word = index[1] // self.elements * self.shape[0] + index[0]
            return Location(zero + word, zero + index[1] % self.elements, zero)
        if self.layout in ("scores", "exponentials", "queries"):
            head, query = index[:2]
            key = index[2] if len(index) > 2 else np.int64(0)
            job = head * -(-self.shape[1] // self.elements) + query // self.elements
            word, lane = self.base + job % 2 * self.room + key, query % self.elements
            if self.layout == "exponentials":
                word = self.base + job % 2 * self.room + key // self.lanes
                lane = key % self.lanes * self.elements + lane
            return Location(zero + word, zero + lane, zero + job // 2)
        raise ValueError(f"tensor '{self.name}' with layout '{self.layout}' has no fixed place")

    def locate_rows(self, rows: np.ndarray, channels: np.ndarray, occurrence: np.ndarray | int = 0) -> Location:
        """Places of ``channels`` of token-major ``rows``; arguments broadcast."""
        offset, lane = self._channel(channels)
        word = self.base + rows * self.stride + offset
        return Location(*np.broadcast_arrays(word, lane, occurrence))

    @property
    def row_words(self) -> int:
        """Words of one of its ``rows``; the stride is larger where other tensors' rows lie between them."""
        return int(self._channel(np.array(self.shape[1] - 1))[0]) + 1

    @property
    def width(self) -> int:
        """Elements of a word as :meth:`locate` counts lanes."""
        return self.lanes * self.elements if self.layout == "exponentials" else self.lanes


@dataclass(frozen=True, kw_only=True)
class Command:
    """What is known about one command beyond its bytes.

    Parameters
    ----------
    index, name, op, layer:
        Position in the program, a name such as ``layer03.attention``, the opcode's name, the layer or None.
    task_mask:
        Tasks that run it.
    macs:
        Useful multiply-accumulates, without padding.
    ideal_cycles:
        Beats of the array for this mapping, with padding; for EXPERTS the sum over all routed tokens.
    stream_bytes:
        Bytes of weight stream (EXPERTS: of all experts).
    tensors:
        Tensors it writes.
    """

    index: int
    name: str
    op: str
    layer: int | None
    task_mask: int
    macs: int
    ideal_cycles: int
    stream_bytes: int
    tensors: tuple[Tensor, ...]

    def runs(self, task: int) -> bool:
        """Whether the command runs when ``task`` is selected."""
        return bool(self.task_mask >> task & 1)


@dataclass(frozen=True, kw_only=True)
class MemoryMap:
    """Byte addresses in the accelerator's memory; ``limit`` is the first byte beyond all regions."""

    program: int
    program_bytes: int
    weights: int
    weights_bytes: int
    image: int
    image_bytes: int
    output: int
    output_bytes: int
    limit: int


@dataclass(frozen=True, kw_only=True)
class Output:
    """Result of one task in the output region: ``shape`` (rows, channels), a row every ``row_bytes``."""

    task: str
    shape: tuple[int, int]
    row_bytes: int

    def read(self, region: np.ndarray) -> np.ndarray:
        """Result from the bytes of the output region: int32 (rows, channels), in the residual's format."""
        rows, channels = self.shape
        words = np.ascontiguousarray(region[: rows * self.row_bytes]).view("<i4").reshape(rows, -1)
        return words[:, :channels].copy()


@dataclass(frozen=True, kw_only=True)
class Program:
    """A model compiled for one configuration.

    Parameters
    ----------
    model, config:
        Geometry and the machine that the program was made for.
    commands:
        One entry a command, in order.
    map:
        Where program, weights, image and output lie.
    content:
        Bytes from address 0 up to the image region: program and weight stream.
    outputs:
        Result of each task, in task order.
    """

    model: ModelConfig
    config: AcceleratorConfig
    commands: tuple[Command, ...]
    map: MemoryMap
    content: np.ndarray
    outputs: tuple[Output, ...]

    def picture(self, image: np.ndarray) -> np.ndarray:
        """The bytes of ``image``, uint8 (3, H, W), as they lie in the image region; ValueError if it is another."""
        expected = (3, self.model.image_height, self.model.image_width)
        if image.shape != expected or image.dtype != np.uint8:
            raise ValueError(
                f"image is {image.dtype} {tuple(image.shape)}, model '{self.model.name}' takes uint8 {expected}"
            )
        return image.reshape(-1)

    def memory(self, image: np.ndarray) -> np.ndarray:
        """The whole memory image with ``image`` (3, H, W) uint8 in place; the output region is zero."""
        picture = self.picture(image)
        memory = np.zeros(self.map.limit, np.uint8)
        memory[: len(self.content)] = self.content
        memory[self.map.image : self.map.image + picture.size] = picture
        return memory

    def registers(self, task: int) -> dict[str, int]:
        """Control registers to write before start (names of ``hw.isa.REGISTERS``)."""
        if not 0 <= task < len(self.model.tasks):
            raise ValueError(f"task is {task}, model '{self.model.name}' has tasks 0 to {len(self.model.tasks) - 1}")
        return {
            "task": task,
            "program_address": self.map.program,
            "weight_address": self.map.weights,
            "image_address": self.map.image,
            "output_address": self.map.output,
            "window_base": 0,
            "window_limit": self.map.limit,
        }

    def command_bytes(self, index: int) -> bytes:
        """The 64 bytes of one command."""
        start = self.map.program + index * COMMAND_BYTES
        return self.content[start : start + COMMAND_BYTES].tobytes()

    def output(self, memory: np.ndarray, task: int) -> np.ndarray:
        """Result of ``task`` from the memory after a run: int32 (rows, channels)."""
        return self.outputs[task].read(memory[self.map.output : self.map.output + self.map.output_bytes])

    def save(self, path: Path | str) -> None:
        """Write everything to one safetensors file, whole or not at all."""
        header = {
            "model": self.model.to_dict(),
            "config": self.config.to_dict(),
            "commands": [asdict(command) for command in self.commands],
            "map": asdict(self.map),
            "outputs": [asdict(output) for output in self.outputs],
        }
        with file_aside(path) as aside:
            save_file({"content": self.content}, str(aside), metadata={"tessera_program": json.dumps(header)})

    @classmethod
    def load(cls, path: Path | str) -> Program:
        """Read what :meth:`save` wrote; ValueError if the file is something else."""
        with safe_open(str(path), "numpy") as file:
            metadata = file.metadata() or {}
            if "tessera_program" not in metadata:
                raise ValueError(f"{path} is not a compiled program; make one with `tessera compile`")
            header: dict[str, Any] = json.loads(metadata["tessera_program"])
            content = file.get_tensor("content")
        return cls(
            model=ModelConfig.from_dict(header["model"]),
            config=AcceleratorConfig.from_dict(header["config"]),
            commands=tuple(_command(entry) for entry in header["commands"]),
            map=MemoryMap(**header["map"]),
            content=content,
            outputs=tuple(Output(**{**entry, "shape": tuple(entry["shape"])}) for entry in header["outputs"]),
        )


def _command(entry: dict[str, Any]) -> Command:
    tensors = tuple(Tensor(**{**tensor, "shape": tuple(tensor["shape"])}) for tensor in entry["tensors"])
    return Command(**{**entry, "tensors": tensors})
