"""A compiled program: commands, memory image, memory map and the table that says where every tensor lies.

The accelerator sees only the bytes; the table of tensors is for the verifier, the emulator's tests and reports.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save as serialise

from tessera.common.digest import content_digest
from tessera.common.expected import PATH, expect
from tessera.common.files import check_readable, file_aside
from tessera.common.summary import Summarised, Summary
from tessera.golden.integer.plan import Plan, plan
from tessera.golden.integer.steps import ExpertsStep
from tessera.golden.network.network import Network
from tessera.golden.network.words import geometry
from tessera.golden.tensor_files import ordered
from tessera.hw.config import AcceleratorConfig
from tessera.hw.isa import COMMAND_BYTES
from tessera.program.commands import Command, CommandKind
from tessera.program.memory_map import MemoryMap, Output

FORMAT = 3
"""Version of the program file."""


@dataclass(frozen=True, kw_only=True, repr=False)
class Program(Summarised):
    """A model compiled for one configuration.

    Parameters
    ----------
    model, config:
        Network and machine that the program was made for.
    commands:
        One entry a command, in order.
    map:
        Where program, weights, image and output lie.
    content:
        Bytes from address 0 up to the image region: program and weight stream.
    outputs:
        Result of each task, in task order.
    """

    model: Network
    config: AcceleratorConfig
    commands: tuple[Command, ...]
    map: MemoryMap
    content: np.ndarray
    outputs: tuple[Output, ...]

    def summary(self) -> Summary:
        """Its model, machine, size and digest."""
        rows = (
            ("commands", f"{len(self.commands):,}"),
            ("weight bytes", f"{self.map.weights_bytes:,}"),
            *([("stream bytes", f"{self.returning_bytes:,} come back from memory")] if self.returning_bytes else []),
            ("tasks", ", ".join(task.name for task in self.model.tasks)),
            ("digest", self.short_digest),
        )
        return Summary(title=f"{self.model.name} compiled for {self.config.name}", rows=rows)

    @cached_property
    def returning_bytes(self) -> int:
        """Bytes of residual streams that wait in external memory and are loaded again, by all tasks together."""
        return sum(command.stream_bytes for command in self.commands if command.kind is CommandKind.LOAD)

    @cached_property
    def plan(self) -> Plan:
        """The network's steps."""
        return plan(self.model)

    @cached_property
    def mixtures(self) -> dict[str, ExpertsStep]:
        """Mixtures of experts by name, in order."""
        return {step.product: step for step in self.plan.of_kind(ExpertsStep)}

    @property
    def geometry(self) -> str:
        """What the network is made of, in words."""
        return geometry(self.model)

    @property
    def digest(self) -> str:
        """SHA-256, in hexadecimal digits, of all that decides what the machine computes.

        That is :attr:`content`, the number formats, the memory map, which the registers follow from, and the places of
        the outputs. Names and the table of tensors decide nothing, so they have no part. Equal digests mean equal
        results for the same picture.
        """
        rest = {
            "formats": asdict(self.config.numerics),
            "map": asdict(self.map),
            "outputs": [(output.shape, output.row_bytes) for output in self.outputs],
        }
        return content_digest(json.dumps(rest, sort_keys=True).encode() + self.content.tobytes())

    @property
    def short_digest(self) -> str:
        """The first 12 digits of :attr:`digest`, for people to compare."""
        return self.digest[:12]

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
        """Control registers to write before start (names of ``tessera.hw.register_map.REGISTERS``)."""
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
        """Write everything to one safetensors file, whole or not at all; equal programs give equal bytes."""
        expect("path", path, PATH, "the file to write")
        header = {
            "format": FORMAT,
            "model": self.model.to_dict(),
            "config": self.config.to_dict(),
            "commands": [command.to_dict() for command in self.commands],
            "map": asdict(self.map),
            "outputs": [asdict(output) for output in self.outputs],
        }
        metadata = {"tessera_program": json.dumps(header)}
        with file_aside(path) as aside:
            aside.write_bytes(ordered(serialise({"content": self.content}, metadata=metadata)))

    @classmethod
    def load(cls, path: Path | str) -> Program:
        """Read what :meth:`save` wrote; ValueError if the file is something else."""
        expect("path", path, PATH, "the file of a compiled program")
        check_readable(path)
        wrong = f"{path} is not a compiled program; make one with `tessera compile`"
        try:
            with safe_open(str(path), "numpy") as file:
                metadata = file.metadata() or {}
                if "tessera_program" not in metadata:
                    raise ValueError(wrong)
                header: dict[str, Any] = json.loads(metadata["tessera_program"])
                content = file.get_tensor("content")
        except SafetensorError as error:
            raise ValueError(f"{wrong} ({error})") from error
        if header.get("format") != FORMAT:
            raise ValueError(f"{path} is a program of another version; make it again with `tessera compile`")
        return cls(
            model=Network.from_dict(header["model"]),
            config=AcceleratorConfig.from_dict(header["config"]),
            commands=tuple(Command.from_dict(entry) for entry in header["commands"]),
            map=MemoryMap(**header["map"]),
            content=content,
            outputs=tuple(Output(**{**entry, "shape": tuple(entry["shape"])}) for entry in header["outputs"]),
        )
