"""Faults for the self-test: what is broken, where that must show, and the small model that they are tried on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np

from tessera.golden.config import ModelConfig, TaskConfig
from tessera.golden.integer.model import IntegerModel
from tessera.golden.integer.parameters import QuantisedModel
from tessera.golden.seeded.seeded import seeded_model
from tessera.hw.config import AcceleratorConfig
from tessera.hw.isa import COMMAND_BYTES, ErrorCode, Opcode, StallSource, decode, encode
from tessera.program.commands import Command
from tessera.program.layouts.rows import Rows
from tessera.program.tensors import Space, raw_width
from tessera.sim.machine.frames import Frame, SimulatedFrame
from tessera.sim.machine.settings import WATCHDOG_CYCLES, Upset
from tessera.sw.compiler.compile import compile_model
from tessera.sw.quantiser.quantise import quantise
from tessera.sw.verifier.verdict import Mismatch

SEED = 1
MODEL = ModelConfig(
    name="selftest",
    image_height=16,
    image_width=32,
    patch=8,
    dim=24,
    heads=3,
    layers=2,
    mlp_hidden=48,
    expert_layers=(1,),
    experts=4,
    expert_hidden=16,
    top_k=2,
    tasks=(
        TaskConfig(name="segmentation", kind="segmentation", channels=3, cells=2),
        TaskConfig(name="depth", kind="depth", channels=1, cells=2),
    ),
)
"""Both kinds of layers, two tasks; small enough for a frame a second."""

HEALTHY = {
    "flip_address": (1 << 64) - 1,
    "flip_bit": 0,
    "drop_read_beat": (1 << 64) - 1,
    "error_low": 0,
    "error_high": 0,
    "read_latency": 60,
}
"""Variables of ``memory.sv`` that faults change, without a fault."""

ASSERTION = "ASSERTION"
"""What ``Place.error`` says when an assertion of the hardware ended the simulation."""


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a fault shows; None is what is not known beforehand, or does not apply.

    Parameters
    ----------
    command, tensor, index, got:
        By the verifier: name of the command, first wrong element of what it wrote, its value. None in ``index``
        stands for any.
    error, address, unit:
        By the machine: name of the error code, the address in its register, the unit that the watchdog or an assertion
        names. ``command`` is then the command in progress.
    block:
        Command whose block of the weight stream holds ``address``.
    """

    command: str | None = None
    tensor: str | None = None
    index: tuple[int | None, ...] | None = None
    got: int | None = None
    error: str | None = None
    address: int | None = None
    unit: str | None = None
    block: str | None = None

    @classmethod
    def of(cls, mismatch: Mismatch) -> Place:
        """What the verifier says."""
        return cls(
            command=mismatch.command_name, tensor=mismatch.tensor, index=mismatch.index, got=mismatch.got, error="NONE"
        )

    def agrees(self, reported: Place) -> bool:
        """Whether a report says all that is expected here."""
        if self.index is not None:
            if reported.index is None or len(reported.index) != len(self.index):
                return False
            if any(a is not None and a != b for a, b in zip(self.index, reported.index, strict=True)):
                return False
        names = ("command", "tensor", "got", "error", "address", "unit", "block")
        return all(getattr(self, name) in (None, getattr(reported, name)) for name in names)

    def to_dict(self) -> dict[str, Any]:
        """What is known, for JSON."""
        return {name: value for name, value in asdict(self).items() if value is not None}

    def __str__(self) -> str:
        return ", ".join(f"{name} {value}" for name, value in self.to_dict().items() if value != "NONE") or "nowhere"


@dataclass(frozen=True, kw_only=True)
class Fault:
    """One fault, and where it has to be reported.

    Parameters
    ----------
    kind, injected:
        A name, and what was changed where.
    expected:
        Where it must show.
    patches, memory, registers, upsets:
        The fault itself, as ``tessera.sim.machine.frames.Frame`` takes it.
    watchdog:
        Cycles without progress before the machine halts.
    reset_after:
        The machine may need a reset afterwards: memory owes it an answer that never comes.
    """

    kind: str
    injected: str
    expected: Place
    patches: Sequence[tuple[int, bytes]] = ()
    memory: Mapping[str, int] = field(default_factory=dict)
    registers: Mapping[str, int] = field(default_factory=dict)
    upsets: Sequence[Upset] = ()
    watchdog: int = WATCHDOG_CYCLES
    reset_after: bool = False


class Subject:
    """What faults are tried on: a small seeded model, compiled for a configuration.

    Parameters
    ----------
    config:
        The machine.
    """

    task, other_task = 0, 1

    def __init__(self, config: AcceleratorConfig) -> None:
        self.config = config
        generator = np.random.default_rng(SEED)
        images = generator.integers(0, 256, (4, 3, MODEL.image_height, MODEL.image_width), dtype=np.uint8)
        self.image = images[0]
        self.quantised = quantise(seeded_model(MODEL, SEED).as_network(), images, config.numerics)
        self.program = compile_model(self.quantised, config)
        self._clean: SimulatedFrame | None = None

    def golden(self, task: int, quantised: QuantisedModel | None = None, image: np.ndarray | None = None) -> dict:
        """Every tensor of the integer model, or of a broken one."""
        model = IntegerModel(quantised or self.quantised, self.config.numerics)
        return model.run(self.image if image is None else image, task)

    @cached_property
    def reference(self) -> dict:
        """Golden tensors of the frame that faults are tried on."""
        return self.golden(self.task)

    @property
    def clean(self) -> SimulatedFrame:
        """The frame without a fault."""
        if self._clean is None:
            raise ValueError("no clean frame was run yet; faults that need its cycles come after it")
        return self._clean

    @clean.setter
    def clean(self, result: SimulatedFrame) -> None:
        self._clean = result

    @property
    def busy_expert(self) -> int:
        """The expert with the longest queue."""
        return int(np.argmax([len(queue.tokens) for queue in self.reference["layer01.experts.queues"]]))

    def command(self, name: str) -> Command:
        """A command by name."""
        return next(command for command in self.program.commands if command.name == name)

    def written(self, tensor: str) -> tuple[Command, Space, Rows]:
        """The command that writes a tensor by rows, the memory that it writes and the rows' places."""
        for command in self.program.commands:
            for found in command.tensors:
                if found.name == tensor and isinstance(found.layout, Rows):
                    return command, found.space, found.layout
        raise ValueError(f"no command writes a tensor '{tensor}' by rows")

    # Changing what lies in memory ------------------------------------------------------------------------------------

    def difference(self, broken: QuantisedModel) -> list[tuple[int, bytes]]:
        """Patches that turn the program's memory into that of a broken model."""
        other = compile_model(broken, self.config)
        if other.map != self.program.map:
            raise ValueError("the broken model has another memory map; change values, not shapes")
        where = np.flatnonzero(other.content != self.program.content)
        return [(int(address), other.content[address : address + 1].tobytes()) for address in where]

    def field_patch(self, name: str, **fields: int) -> list[tuple[int, bytes]]:
        """Patch that changes fields of a command."""
        index = self.command(name).index
        opcode, values = decode(self.program.command_bytes(index))
        values = {key: value for key, value in values.items() if key != "opcode"} | fields
        return [(self.program.map.program + index * COMMAND_BYTES, encode(opcode, **values))]

    def repaired(self, fault: Fault) -> Frame:
        """The frame after a fault: everything as it should be, another task."""
        memory = self.program.memory(self.image)
        patches = [(address, memory[address : address + len(data)].tobytes()) for address, data in fault.patches]
        return Frame(
            task=self.other_task,
            image=self.image,
            patches=patches,
            memory={name: HEALTHY[name] for name in fault.memory},
            reset=fault.reset_after,
        )

    # Where it must show ----------------------------------------------------------------------------------------------

    def first_difference(self, broken: Mapping[str, Any], command: str, tensor: str) -> Place | None:
        """The first element of a tensor in which golden tensors of a broken model differ, or None."""
        good, bad = self.reference[tensor], broken[tensor]
        pairs = list(zip(good, bad, strict=True)) if isinstance(good, list) else [(good, bad)]
        for number, (expected, got) in enumerate(pairs):
            where = np.argwhere(np.asarray(expected) != np.asarray(got))
            if len(where):
                index = tuple(int(value) for value in where[0])
                prefix = (number,) if isinstance(good, list) else ()
                value = int(np.asarray(got)[index])
                return Place(command=command, tensor=tensor, index=(*prefix, *index), got=value, error="NONE")
        return None

    def broken_model(self, kind: str, injected: str, broken: QuantisedModel, command: str, tensor: str) -> Fault | None:
        """Fault that is a broken model in memory; None if it makes no difference to the tensor."""
        place = self.first_difference(self.golden(self.task, broken), command, tensor)
        if place is None:
            return None
        return Fault(kind=kind, injected=injected, expected=place, patches=self.difference(broken))

    # What the machine reports ----------------------------------------------------------------------------------------

    def block_of(self, address: int) -> str | None:
        """The command whose weights lie at a byte address."""
        for command in self.program.commands:
            opcode, fields = decode(self.program.command_bytes(command.index))
            start = self.program.map.weights + fields.get("stream_address", 0)
            if opcode != Opcode.END and start <= address < start + command.stream_bytes:
                return command.name
        return None

    def error(self, counters: Mapping[str, int]) -> Place:
        """What the status registers say."""
        code, address = ErrorCode(counters["error_code"]), counters["error_address"]
        watchdog = code == ErrorCode.WATCHDOG
        return Place(
            command=self.program.commands[counters["error_command"]].name,
            error=code.name,
            address=None if watchdog else address,
            unit=StallSource(address).name if watchdog else None,
            block=self.block_of(address) if code == ErrorCode.BUS_READ else None,
        )

    # Times -----------------------------------------------------------------------------------------------------------

    def after(self, command: str, space: str) -> int:
        """A cycle of the frame just after a command's last write into a memory, before the next command reads it."""
        records = self.clean.traces.records[space]
        mine = records[records["command"] == self.command(command).index]
        return int(mine["cycle"].max()) - self.clean.first_cycle + 2

    def place_of(self, tensor: str, token: int, channel: int) -> tuple[str, int, int]:
        """On-chip memory, word, and first bit of an element's lane."""
        _, space, rows = self.written(tensor)
        location = rows.place(np.array(token - rows.first_row), np.array(channel))
        column, lane = divmod(int(location.lane), self.config.elements)
        return f"{space}.column_{column}", int(location.word), lane * raw_width(space, self.config)


def with_parameters(model: QuantisedModel, name: str, **changes: Any) -> QuantisedModel:
    """The model with some integers of one step exchanged."""
    changed: Any = replace(model.parameters[name], **changes)
    return replace(model, parameters={**model.parameters, name: changed})


def element(values: np.ndarray, index: int | tuple[int, ...], value: int) -> np.ndarray:
    """A copy with one element exchanged."""
    values = values.copy()
    values[index] = value
    return values
