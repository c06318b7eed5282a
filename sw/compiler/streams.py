"""Residual streams: on chip whole, or in external memory, from which a segment's blocks load their rows.

What a block leaves of a stream goes to another place than it came from: the next block may read the same rows again.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from tessera.golden.integer.steps import NormStep, Step
from tessera.hw.isa import Opcode, Unit
from tessera.program.commands import CommandKind
from tessera.program.tensors import Tensor
from tessera.sw.compiler.blocks import RowBlock, cut, overlapping, runs, whole_block
from tessera.sw.compiler.context import Context
from tessera.sw.compiler.emission import Emitter
from tessera.sw.compiler.operations import MachineOperation, Order, RegionAccess
from tessera.sw.compiler.segments import Segment
from tessera.sw.compiler.segments import streams as begins

_PIECES = 4
"""Part of the residual memory that a piece of rows takes at most; there are two at a time."""


class Streams:
    """Where every stream is, segment by segment.

    Parameters
    ----------
    context:
        What the network is lowered to.
    """

    def __init__(self, context: Context) -> None:
        self._context, self._sizes = context, context.sizes
        self._latest: dict[str, str] = {}  # tensor of each stream that exists
        self._regions: dict[str, str] = {}  # of those on chip
        self._stored: dict[str, str] = {}  # of those in external memory
        self._norms: set[str] = set()  # that are on chip whole
        self._rows = {step.name: step.rows for step in context.sizes.plan.steps}
        self._outside: frozenset[str] = frozenset()
        self._begun = begins(context.sizes.plan)

    # Segments ---------------------------------------------------------------------------------------------------------

    def _find_outside(self, segment: Segment, count: int) -> frozenset[str]:
        """Streams that are not on chip whole during a segment in so many blocks.

        Such are the largest, where there is no room for all, and those whose rows are read after they changed.
        """
        room = self._sizes.config.residual_words
        words = {
            stream: self._words(latest)
            for stream, latest in segment.live.items()
            if not self._context.is_result(self._step(latest))
        }
        found = set(overlapping(segment, self._rows, count)) if count > 1 else set()
        if self._context.cuts.streams_outside and sum(words.values()) > room:
            for stream in sorted(words, key=lambda name: (-words[name], name)):
                if sum(size for name, size in words.items() if name not in found) > room // 2:
                    found.add(stream)
        return frozenset(found)

    def blocks(self, segment: Segment, number: int, count: int) -> list[RowBlock]:
        """The blocks of a segment, the names of all that they find on chip among them."""
        touched = {stream for stream in self._outside if self._touches(segment, stream)}
        if count == 1 and not touched:
            again = tuple(step for step in segment.again if step.name not in self._norms)
            blocks = [whole_block(segment, again)]
            self._norms |= {step.name for step in blocks[0].steps}
        else:
            blocks = cut(segment, self._rows, count, self._outside, number)
            self._norms -= {step.name for step in segment.steps}
        for block in blocks:
            block.names.update(self._on_chip())
        return blocks

    def _on_chip(self) -> dict[str, str]:
        """Region of every tensor of a stream that is on chip whole."""
        return {name: self._regions[stream] for name, stream in self._begun.items() if stream in self._regions}

    def finish(self) -> None:
        """Bring streams on chip that are results."""
        results = {self._begun[rows.tensor] for rows in self._sizes.plan.results if rows.tensor in self._begun}
        self._context.enter(RowBlock(steps=(), names=self._on_chip()))
        for stream in sorted(results & set(self._stored)):
            self.fetch(stream, f"{stream}~")

    def _touches(self, segment: Segment, stream: str) -> bool:
        return segment.live[stream] != self._latest.get(stream) or any(
            rows.tensor == self._latest[stream] for step in (*segment.again, *segment.steps) for rows in step.reads
        )

    def settle(self, segment: Segment, number: int, count: int) -> None:
        """Append what brings every stream of a segment, which goes in ``count`` blocks, to where it is wanted."""
        self._outside = self._find_outside(segment, count)
        self._context.enter(RowBlock(steps=(), names=self._on_chip()))
        for stream in [stream for stream in self._latest if stream not in segment.live]:
            del self._latest[stream]
            self._regions.pop(stream, None)
            self._stored.pop(stream, None)
        for stream in list(self._latest):
            everything = np.arange(self._rows[self._latest[stream]])
            if stream in self._outside and stream in self._regions:
                del self._regions[stream]
                self._stored[stream] = f"{stream}.kept{number}"
                self._store(everything, everything, self._stored[stream], self._latest[stream])
            elif stream not in self._outside and stream in self._stored:
                self.fetch(stream, f"{stream}~{number}")

    def fetch(self, stream: str, region: str) -> None:
        """Append the load of a whole stream."""
        step = self._sizes.plan.by_name[self._latest[stream]]
        self._context.region(region, self._words(step.name), "residual")
        self._regions[stream] = region
        self._context.block.names[step.name] = region
        self._load(stream, np.arange(step.rows), region, range(step.rows))
        del self._stored[stream]

    # Blocks -----------------------------------------------------------------------------------------------------------

    def load(self, block: RowBlock) -> None:
        """Append the loads of what a block reads of streams in external memory, but for what comes in pieces."""
        for stream in list(self._stored):
            latest = self._latest[stream]
            if latest in block.held and not self._goes_in_pieces(block, latest):
                words = len(block.held[latest]) * self._sizes.words(self._step(latest).channels)
                region = self._context.region(stream, words, "residual")
                block.names[latest] = region
                self._load(stream, block.held[latest], region, range(len(block.held[latest])))

    def _goes_in_pieces(self, block: RowBlock, latest: str) -> bool:
        """Whether nothing but one norm reads rows that would take much of the residual memory."""
        if not self._context.cuts.in_pieces:
            return False
        words = len(block.held[latest]) * self._sizes.words(self._step(latest).channels)
        readers = [step for step in block.steps if any(rows.tensor == latest for rows in step.reads)]
        reader = readers[0] if len(readers) == 1 else None
        narrow = isinstance(reader, NormStep) and not reader.wide and reader.source.plain
        return narrow and words > self._sizes.config.residual_words // 2

    def pieces(self, step: NormStep) -> Iterator[tuple[RegionAccess, range]]:
        """What a norm reads, and which of its rows come of it; where rows come in pieces, behind the loads of each.

        Two regions take turns, so that one is filled while the rows of the other are normalised.
        """
        context, latest = self._context, step.source.tensor
        stream = self._begun[latest]
        outside = stream in self._stored and self._latest[stream] == latest
        if not outside or not self._goes_in_pieces(context.block, latest):
            yield context.access(step.source), range(step.rows)
            return
        words = self._sizes.words(step.channels)
        size = max(1, self._sizes.config.residual_words // _PIECES // words)
        found = [range(first, min(first + size, step.rows)) for first in range(0, step.rows, size)]
        regions = [context.region(f"{stream}.piece{turn}", size * words, "residual") for turn in range(2)]
        for number in range(len(found) + 1):
            if number < len(found):
                rows, begin = found[number], step.source.start
                held = range(begin + rows.start, begin + rows.stop)
                self._load(stream, context.block.held[latest], regions[number % 2], held)
            if number:
                rows = found[number - 1]
                yield RegionAccess(region=regions[(number - 1) % 2], rows=len(rows)), rows

    def store(self, segment: Segment, block: RowBlock, number: int) -> None:
        """Append the stores of what a block leaves of streams in external memory."""
        for stream, target in segment.live.items():
            if stream in self._outside and target in segment.targets and target in block.made:
                held, made = block.held[target], block.made[target]
                self._store(held, made, f"{stream}.stored{number}", target)

    def leave(self, segment: Segment, blocks: Sequence[RowBlock], number: int) -> None:
        """Note what a segment has left where."""
        for stream, latest in segment.live.items():
            changed = self._latest.get(stream) != latest
            self._latest[stream] = latest
            if stream not in self._outside:
                self._regions[stream] = blocks[-1].names.get(latest, self._regions.get(stream, stream))
            elif changed and latest in segment.targets:
                self._stored[stream] = f"{stream}.stored{number}"

    def _step(self, name: str) -> Step:
        return self._sizes.plan.by_name[name]

    def _words(self, name: str) -> int:
        step = self._step(name)
        return step.rows * self._sizes.words(step.channels)

    # Commands ---------------------------------------------------------------------------------------------------------

    def _load(self, stream: str, held: np.ndarray, region: str, part: range) -> None:
        """Loads of a part of what is ``held`` of a stream into a region, a command for each run of rows."""
        context, step, stored = self._context, self._step(self._latest[stream]), self._stored[stream]
        words = self._sizes.words(step.channels)
        if stored in context.tiled:
            context.tiled.add(region)
        rows = held[part.start : part.stop]
        for run in runs(rows):
            first, tiled = int(rows[run.start]), region in context.tiled

            def emit(emitter: Emitter, order: Order, run: range = run, first: int = first, tiled: bool = tiled) -> None:
                base = emitter.bases[region] + run.start * words
                shape = (len(run), step.channels)
                shown: Tensor = emitter.stream_rows(
                    step.name, region, "residual", shape, tiled, base=base, first_row=part.start + run.start
                )
                size = 4 * words * emitter.config.lanes
                within = range(part.start + run.start, part.start + run.stop)
                emitter.emit(
                    Opcode.LOAD_RESIDUAL,
                    context.label(step, CommandKind.LOAD, whole=f"{step.name}.load", rows=within),
                    shown,
                    order=order,
                    stream_address=emitter.stored_bytes(stored) + first * size,
                    stream_bytes=len(run) * size,
                    destination_base=base,
                    words=len(run) * words,
                    stored=1,
                )

            context.add(
                MachineOperation(
                    unit=Unit.STREAM,
                    emit=emit,
                    awaits=Unit.STORE,  # the machine asks for it
                    reads=(RegionAccess(region=stored, first=first, rows=len(run)),),
                    writes=(RegionAccess(region=region, first=run.start, rows=len(run)),),
                    tasks=step.tasks,
                )
            )

    def _store(self, held: np.ndarray, made: np.ndarray, stored: str, name: str) -> None:
        """Stores of what was ``made`` of the rows of a tensor that are ``held``, a command for each run of them."""
        context, step = self._context, self._step(name)
        words, region = self._sizes.words(step.channels), context.where(step.name)
        context.outside(stored, self._words(step.name))
        if region in context.tiled:
            context.tiled.add(stored)
        for run in runs(made):
            first, place = int(made[run.start]), int(np.searchsorted(held, made[run.start]))

            def emit(emitter: Emitter, order: Order, run: range = run, first: int = first, place: int = place) -> None:
                emitter.emit(
                    Opcode.STORE,
                    context.label(step, CommandKind.STORE, whole=f"{step.name}.store", rows=run),
                    order=order,
                    source_base=emitter.bases[region] + place * words,
                    source_stride=words,
                    rows=len(run),
                    words=words,
                    offset=emitter.stored_bytes(stored) + 4 * first * words * emitter.config.lanes,
                )

            context.add(
                MachineOperation(
                    unit=Unit.STORE,
                    emit=emit,
                    reads=(RegionAccess(region=region, first=place, rows=len(run)),),
                    writes=(RegionAccess(region=stored, first=first, rows=len(run)),),
                    tasks=step.tasks,
                )
            )
