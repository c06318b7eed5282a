"""A frame's commands through the units, in program order: the dispatcher's walk, and what follows whose rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tessera.hw.blocks.register_slice import RegisterSlice
from tessera.hw.config import AcceleratorConfig
from tessera.hw.isa import Destination, Follow, Function, NormMode, Opcode, Unit, decode
from tessera.hw.sequencer.command import DECODED_BITS
from tessera.hw.sequencer.dispatch import UNIT_OF
from tessera.hw.sequencer.fetch import RING_COMMANDS
from tessera.hw.sequencer.schedule import StreamScheduler
from tessera.program.commands import Command
from tessera.program.program import Program
from tessera.sw.cycles.bus import Bus
from tessera.sw.cycles.engine import (
    LOOKED_UP,
    TAPS_FOUND,
    AttentionShape,
    EngineJob,
    EngineModel,
    LinearShape,
    shared,
)
from tessera.sw.cycles.image import ImageModel
from tessera.sw.cycles.stream import WeightStreamModel
from tessera.sw.cycles.units import GateModel, NormModel, StoreModel

WRITE_LATENCY = 20
"""Cycles from the last beat written to memory's answer, as ``tessera.sim.machine.settings.MemorySettings`` has it."""
BUSY_FALLS = 2
"""From a unit's ``done`` to the command that comes after it."""
EXAMINED = 1
"""From a command's being shown to the first cycle in which its kind is known, and its waiting can end."""
OFFERED = 1
"""From that to the first cycle in which a unit can take its job; a command that waited is offered when it ends."""
TAKEN = 2
"""From a command's being taken off the ring to the first cycle in which the next is read, or fetched."""
WAKES = 1
"""From a job's being offered to a sleeping unit to its being taken."""
FINISHED = 2
"""From the first cycle in which END can be handed out to the last of the run."""
VISIBLE = 1
"""From a row's being written to the step or pass that reads it."""


Stamps = tuple[float, float]
"""Start and end of a command, as the machine stamps them."""


def balanced(tokens: int, experts: int) -> list[int]:
    """``tokens`` queue entries, spread as evenly as they can be."""
    return [tokens // experts + (expert < tokens % experts) for expert in range(experts)]


class _Reader:
    """One of the two readers of the ring of commands."""

    def __init__(self, config: AcceleratorConfig) -> None:
        width = max(32, 8 * config.memory_bytes)
        self._needed = -(-DECODED_BITS // width)
        self.consumed: list[float] = []

    def available(self, arrived: float) -> float:
        """When the next command, complete in the ring's last word at ``arrived``, is shown."""
        before = self.consumed[-1] + TAKEN if self.consumed else 0.0
        return max(arrived + 2, before) + self._needed + 1


class FrameModel:
    """Walks the program once, in order; every unit keeps its own time."""

    def __init__(self, program: Program, task: int, loads: Mapping[str, Sequence[int]], read_latency: int) -> None:
        self._program, self._task, self._loads = program, task, loads
        config = program.config
        self._config = config
        self._bus = Bus(config, read_latency)
        self._stream = WeightStreamModel(config, self._bus)
        self._engine = EngineModel(config, self._stream)
        self._normalising, self._gating = NormModel(config), GateModel(config)
        self._storing = StoreModel(config, WRITE_LATENCY)
        self._image: ImageModel | None = None
        self._idle = dict.fromkeys(Unit, 0.0)
        self._most_rows = max(step.rows for step in program.plan.steps)
        self._norm_rows = np.zeros(0)
        self._norm_ends = 0.0
        self._execute, self._schedule = _Reader(config), _Reader(config)
        self.stamps: list[tuple[int, int, int]] = []

    def run(self) -> int:
        """Walk every command that runs for the task; returns the cycles of the frame."""
        for _ in self._program.commands[:RING_COMMANDS]:
            self._bus.allow_fetch(0.0)
        time = 0.0
        for command in self._program.commands:
            arrived = self._bus.fetched(command.index) + 1
            shown = self._execute.available(arrived)
            scheduled = self._schedule.available(arrived) + EXAMINED + RegisterSlice.LATENCY
            if not command.runs(self._task):
                self._consume(shown, scheduled)
                continue
            opcode, fields = decode(self._program.command_bytes(command.index))
            after = [unit for unit in Unit if fields["after"] & unit or opcode == Opcode.END]
            if opcode == Opcode.END or Unit.IMAGE in after:
                if self._bus.pixels is not None:
                    self._read_ahead(command.index - 1, 0)
                self._end_image()
            examined = shown + EXAMINED + (OFFERED if opcode in UNIT_OF else 0)
            time = max(examined, *(self._idle[unit] for unit in after), 0.0)
            if opcode != Opcode.END:
                start, end = getattr(self, f"_{opcode.name.lower()}")(command, fields, time, scheduled)
                self.stamps.append((command.index, round(start), round(end)))
        return round(time) + FINISHED

    # The ring of commands ---------------------------------------------------------------------------------------------

    def _consume(self, executed: float, scheduled: float) -> None:
        """Both readers have taken a command."""
        self._execute.consumed.append(executed)
        self._schedule.consumed.append(scheduled)
        if len(self._execute.consumed) + RING_COMMANDS <= len(self._program.commands):
            self._bus.allow_fetch(max(executed, scheduled) + TAKEN)

    # Commands: each returns its stamps --------------------------------------------------------------------------------

    def _load_image(self, command: Command, fields: dict[str, int], time: float, scheduled: float) -> Stamps:
        self._end_image()
        time = max(time, self._idle[Unit.IMAGE]) + WAKES
        self._consume(time, scheduled)
        self._image = ImageModel(self._config, time, fields)
        self._bus.pixels = self._image
        self._image_stamp = len(self.stamps)
        self._idle[Unit.IMAGE] = float("inf")
        return time, time

    def _end_image(self) -> None:
        """What is left of the image; its end is known now."""
        if self._image is None or self._bus.pixels is None:
            return
        self._bus.finish_pixels()
        end = self._image.rows[-1] + 1
        self._idle[Unit.IMAGE] = end + BUSY_FALLS
        index, start, _ = self.stamps[self._image_stamp]
        self.stamps[self._image_stamp] = (index, start, round(end))

    def _load_residual(self, command: Command, fields: dict[str, int], time: float, scheduled: float) -> Stamps:
        if fields["stored"]:
            handed_out = max(time, self._idle[Unit.STREAM])
            scheduled = max(scheduled, handed_out + StreamScheduler.RELEASE + RegisterSlice.LATENCY)
        return self._block(fields, time, scheduled, 1)

    def _list(self, command: Command, fields: dict[str, int], time: float, scheduled: float) -> Stamps:
        return self._block(fields, time, scheduled, 1)

    def _stage(self, command: Command, fields: dict[str, int], time: float, scheduled: float) -> Stamps:
        return self._block(fields, time, scheduled, self._config.words_per_chunk, self._engine.jobs[-1:])

    def _table(self, command: Command, fields: dict[str, int], time: float, scheduled: float) -> Stamps:
        return self._block(fields, time, scheduled, 1)

    def _block(
        self, fields: dict[str, int], time: float, scheduled: float, words: int, jobs: Sequence[EngineJob] = ()
    ) -> Stamps:
        """STAGE, LIST, LOAD_RESIDUAL or TABLE: a block that is delivered when its command was handed out.

        A chunk has so many ``words`` that are written one per cycle, beside the writes of the engine's last job.
        """
        time = max(time, self._idle[Unit.STREAM])
        self._consume(time, self._stream.accept(scheduled))
        begin = self._stream.begin(time + 1)
        chunks = fields["stream_bytes"] // self._config.chunk_bytes
        cycles = float(words)
        for job in jobs:
            cycles = (shared(begin, chunks * words, job.period, 0.0, job.written) - begin) / chunks
        # A chunk of several beats waits in half a slice, which is empty for a cycle then.
        cycles += self._config.chunk_bytes > self._config.memory_bytes
        self._stream.chunks(chunks, cycles=cycles)
        end = self._stream.end(reports=True) + (cycles - 1)
        self._idle[Unit.STREAM] = end + BUSY_FALLS
        return time, end

    def _linear(self, command: Command, fields: dict[str, int], time: float, scheduled: float) -> Stamps:
        how = {"listed": LOOKED_UP} if fields["gather"] or fields["scatter"] else {}
        shape = self._shape(fields, swapped=bool(fields["swapped"]), **how)
        return self._matrix(command, fields, time, scheduled, shape)

    def _convolution(self, command: Command, fields: dict[str, int], time: float, scheduled: float) -> Stamps:
        # The kernel moves by a position per cycle, and rests for one.
        shape = self._shape(fields, listed=TAPS_FOUND, pace=fields["stride_x"] + 1)
        return self._matrix(command, fields | {"channels": fields["stationary_rows"]}, time, scheduled, shape)

    def _shape(self, fields: dict[str, int], **how: Any) -> LinearShape:
        """What a LINEAR or CONVOLUTION command computes."""
        return LinearShape(
            steps=fields["steps"],
            words=fields["words"],
            tiles=-(-fields["stationary_rows"] // self._config.elements) * fields.get("windows", 1),
            residual=fields["destination"] not in (Destination.ACTIVATION, Destination.SCORE),
            function=_function(fields),
            multiplies=fields["destination"] == Destination.RESIDUAL_MULTIPLY,
            **how,
        )

    def _matrix(
        self, command: Command, fields: dict[str, int], time: float, scheduled: float, shape: LinearShape
    ) -> Stamps:
        taken = max(time, self._engine.ready)
        self._consume(taken, self._stream.accept(scheduled))
        self._stream.begin()
        parameters = self._stream.parameters(fields["channels"])
        tiles = shape.tiles
        delivered: list[float] = []
        if fields["follow"] == Follow.IMAGE and self._bus.pixels is not None:
            delivered = [self._engine.tile(fields["words"]) for _ in range(min(tiles, 2))]
            self._read_ahead(command.index, (tiles - len(delivered)) * self._engine.tile_chunks(fields["words"]))
        source = self._followed(Follow(fields["follow"]), taken)
        job = self._engine.linear(
            taken,
            shape,
            parameters=parameters,
            delivered=delivered,
            ready=source,
        )
        self._stream.end()
        self._written(job, fields["channels"])
        return job.taken, job.written

    def _read_ahead(self, index: int, chunks: int) -> None:
        """What the stream asks for beside the image: the rest of command ``index`` and what comes after it."""
        room = self._stream.read_ahead(0.0, chunks)
        for command in self._program.commands[index + 1 : index + RING_COMMANDS]:
            if not room or self._waits(command):
                return
            if command.runs(self._task) and command.stream_bytes:
                asked = self._schedule.available(self._bus.fetched(command.index) + 1)
                room = self._stream.read_ahead(asked, command.stream_bytes // self._config.chunk_bytes)

    def _waits(self, command: Command) -> bool:
        """The stream asks for nothing beyond this command before it is handed out."""
        if command.op == "EXPERTS":
            return True
        return command.op == "LOAD_RESIDUAL" and bool(decode(self._program.command_bytes(command.index))[1]["stored"])

    def _written(self, job: EngineJob, channels: int) -> None:
        self._stream.release(job.written, channels)
        self._idle[Unit.ENGINE] = job.written + BUSY_FALLS

    def _followed(self, follow: Follow, taken: float) -> np.ndarray | None:
        """From when on each row of what the engine or another unit follows can be read; None when all can."""
        if follow == Follow.ENGINE and self._engine.jobs and self._engine.jobs[-1].written >= taken:
            job = self._engine.jobs[-1]
            # What follows may have more rows: the class token, which has no patch, or other blocks' tokens. They are
            # there with the last.
            rows = np.full(max(len(job.rows), self._most_rows), job.written)
            rows[: len(job.rows)] = job.rows
            return rows + VISIBLE
        if follow == Follow.NORM and self._norm_ends > taken:
            return self._norm_rows + VISIBLE
        if follow == Follow.IMAGE and self._image is not None:
            self._end_image()
            return self._image.written + VISIBLE
        return None

    def _attention(self, command: Command, fields: dict[str, int], time: float, scheduled: float) -> Stamps:
        self._consume(max(time, self._engine.ready), scheduled)
        names = ("windows", "queries", "keys", "heads", "head_words", "value_words", "bias_words")
        job = self._engine.attention(time, AttentionShape(**{name: fields[name] for name in names}))
        self._idle[Unit.ENGINE] = job.written + BUSY_FALLS
        return job.taken, job.written

    def _layernorm(self, command: Command, fields: dict[str, int], time: float, scheduled: float) -> Stamps:
        time = max(time, self._idle[Unit.STREAM], self._idle[Unit.NORM])
        accepted = self._stream.accept(scheduled)
        self._stream.begin(time + 1)
        self._stream.chunks(fields["stream_bytes"] // self._config.chunk_bytes)
        taken = self._stream.end(reports=True) + 1 + WAKES
        self._consume(taken, accepted)
        ready = self._followed(Follow(fields["follow"]), taken)
        reads = self._engine.jobs[-1].reads if ready is not None else np.zeros(0)
        rows = fields["rows"]
        self._norm_rows = self._normalising.run(
            taken,
            rows=rows,
            words=fields["words"],
            wide=bool(fields["wide"]),
            copies=fields["mode"] == NormMode.COPY,
            ready=[0.0] * rows if ready is None else ready[:rows].tolist(),
            reads=reads.tolist(),
        )
        self._norm_ends = float(self._norm_rows[-1]) + 1
        self._idle[Unit.NORM] = self._norm_ends + BUSY_FALLS
        return time, self._norm_ends

    def _gate(self, command: Command, fields: dict[str, int], time: float, scheduled: float) -> Stamps:
        taken = max(time, self._idle[Unit.GATE])
        self._consume(taken, scheduled)
        ready = self._followed(Follow(fields["follow"]), taken)
        sizes = {name: fields[name] for name in ("tokens", "experts", "top_k")}
        end = self._gating.run(taken, ready=np.zeros(fields["tokens"]) if ready is None else ready, **sizes)
        self._idle[Unit.GATE] = end + BUSY_FALLS
        return taken, end

    def _experts(self, command: Command, fields: dict[str, int], time: float, scheduled: float) -> Stamps:
        config, mixture = self._config, self._program.mixtures[command.mixture]
        balance = balanced(len(mixture.source) * mixture.top_k, mixture.experts)
        counts = self._loads.get(command.mixture) or balance
        offered = time + 1
        accepted = max(scheduled, time + 2)
        for count in counts:
            if not count:
                offered, accepted = offered + 1, accepted + 1
                continue
            for second in (False, True):
                channels = fields["channels" if second else "hidden_channels"]
                taken = max(offered + (not second), self._engine.ready)
                accepted = self._stream.accept(accepted + second)
                self._stream.begin()
                parameters = self._stream.parameters(channels)
                job = self._engine.linear(
                    taken,
                    LinearShape(
                        steps=count,
                        words=fields["hidden_words" if second else "source_words"],
                        tiles=-(-channels // config.elements),
                        listed=LOOKED_UP,
                        residual=second,
                        function=None if second else _function(fields),
                    ),
                    parameters=parameters,
                    ready=self._followed(Follow.ENGINE, taken) if second else None,
                )
                self._stream.end()
                self._written(job, channels)
                offered = taken + 1
        self._consume(offered + 1, accepted + 1)
        return time, max(self._engine.jobs[-1].written, offered + 1)

    def _store(self, command: Command, fields: dict[str, int], time: float, scheduled: float) -> Stamps:
        taken = max(time, self._idle[Unit.STORE]) + WAKES
        self._consume(taken, scheduled)
        end = self._storing.run(taken, rows=fields["rows"], words=fields["words"])
        self._idle[Unit.STORE] = end + BUSY_FALLS
        return taken, end


def _function(fields: dict[str, int]) -> tuple[int, int, int] | None:
    """A product's activation function with its constants, which a product with others waits for."""
    if fields["function"] == Function.NONE:
        return None
    return fields["function"], fields["function_multiplier"], fields["function_shift"]
