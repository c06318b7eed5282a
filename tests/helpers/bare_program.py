"""Programs written command by command, for what no network of the compiler asks for yet."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from tessera.hw.config import AcceleratorConfig
from tessera.hw.isa import COMMAND_BYTES, EVERYTHING, Follow, Opcode, encode
from tessera.program.commands import Command, CommandKind, Phase
from tessera.program.layouts.rows import Rows, RowsOf
from tessera.program.memory_map import MemoryMap, Output
from tessera.program.program import Program
from tessera.program.tensors import Tensor
from tessera.sw.cycles.bound import Workload
from tests.helpers.models import UNEVEN
from tests.helpers.networks import network_of

PAGE = 4096


class BareProgram:
    """Commands and their blocks of the weight stream, in order.

    Parameters
    ----------
    config:
        The machine that the program is for.
    """

    def __init__(self, config: AcceleratorConfig) -> None:
        self.config = config
        self._commands: list[Command] = []
        self._encoded: list[bytes] = []
        self._stream = b""

    def block(self, content: np.ndarray) -> dict[str, int]:
        """Append bytes to the weight stream, whole chunks; their place as fields of a command."""
        content = np.ascontiguousarray(content).view(np.uint8).reshape(-1)
        size = -(-content.size // self.config.chunk_bytes) * self.config.chunk_bytes
        place = {"stream_address": len(self._stream), "stream_bytes": size}
        self._stream += content.tobytes().ljust(size, b"\0")
        return place

    def emit(self, opcode: Opcode, *tensors: Tensor, work: Workload | None = None, **fields: Any) -> None:
        """Append a command that writes ``tensors``; it runs alone unless ``fields`` say otherwise."""
        work = work or Workload()
        self._encoded.append(encode(opcode, **{"after": EVERYTHING, "follow": Follow.NOTHING, **fields}))
        self._commands.append(
            Command(
                index=len(self._commands),
                whole=opcode.name.lower(),
                span=None,
                kind=CommandKind.CONTROL if opcode == Opcode.END else CommandKind.ATTENTION,
                phase=Phase.ATTENTION,
                place="",
                op=opcode.name,
                task_mask=0xFFFF,
                macs=work.macs,
                ideal_cycles=work.ideal_cycles,
                stream_bytes=fields.get("stream_bytes", 0),
                tensors=tensors,
            )
        )

    def stage(self, words: np.ndarray, base: int) -> None:
        """Put ``words`` (words, T) of signed bytes into the scratchpad from word ``base`` on."""
        assert np.array_equal(words, words.astype(np.int8)), "staged values have 8 bits"
        layout = Rows(shape=words.shape, lanes=self.config.lanes, stride=1, base=base, of=RowsOf.OUTPUTS)
        tensor = Tensor(name="staged", space="scratchpad", layout=layout)
        block = self.block(words.astype(np.int8))
        self.emit(Opcode.STAGE, tensor, destination_base=base, words=len(words), **block)

    def program(self) -> Program:
        """The program, with END behind the commands."""
        self.emit(Opcode.END)
        model = network_of(replace(UNEVEN, name="bare", tasks=UNEVEN.tasks[:1]))
        image_bytes = 3 * model.image_height * model.image_width
        commands = np.frombuffer(b"".join(self._encoded), np.uint8)
        stream = np.frombuffer(self._stream, np.uint8)
        weights = _paged(len(commands))
        image = weights + _paged(len(stream))
        output = image + _paged(image_bytes)
        content = np.zeros(image, np.uint8)
        content[: len(commands)] = commands
        content[weights : weights + len(stream)] = stream
        row_bytes = 4 * self.config.lanes
        return Program(
            model=model,
            config=self.config,
            commands=tuple(self._commands),
            map=MemoryMap(
                program=0,
                program_bytes=len(self._commands) * COMMAND_BYTES,
                weights=weights,
                weights_bytes=len(stream),
                image=image,
                image_bytes=image_bytes,
                output=output,
                output_bytes=row_bytes,
                limit=output + _paged(row_bytes),
            ),
            content=content,
            outputs=(Output(task=model.tasks[0].name, shape=(1, 1), row_bytes=row_bytes),),
        )


def _paged(size: int) -> int:
    return -(-size // PAGE) * PAGE
