"""Phases: what the engine does with one tile of stationary rows, and generators that list a job's phases in order."""

from __future__ import annotations

from dataclasses import dataclass

from amaranth.hdl import Module, Mux, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from tessera.hw.blocks.fields import assign, same_fields
from tessera.hw.config import AcceleratorConfig
from tessera.hw.interfaces.compute import ParameterMode, StepKind, Wait, phase_layout
from tessera.hw.interfaces.jobs import engine_job_layout
from tessera.hw.interfaces.strobe import Work
from tessera.hw.isa import ADDRESS_WIDTH, COUNT_WIDTH, Destination


class LinearPhases(wiring.Component):
    """The phases of a linear job: one per tile of P output channels, or of P tokens of a window when roles are swapped.

    Members
    -------
    work: In(Work(engine_job))
        The job, stable until the next one. Attention jobs are passed over.
    parameter_base: In(COUNT_WIDTH)
        Number of its first parameter set, stable like the job.
    phases: Out(stream(phase))
        Its phases. ``valid`` falls after the last one.

    Weight buffers alternate from tile to tile across jobs, as in the weight stream.
    """

    def __init__(self, config: AcceleratorConfig) -> None:
        self._config = config
        super().__init__(
            {
                "work": In(Work(engine_job_layout(config))),
                "parameter_base": In(COUNT_WIDTH),
                "phases": Out(stream.Signature(phase_layout(config))),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Count tiles."""
        m = Module()
        config, job, out = self._config, self.work.job, self.phases.payload
        rows_left, address, parameter = Signal(COUNT_WIDTH), Signal(ADDRESS_WIDTH), Signal(COUNT_WIDTH)
        column = Signal(range(max(2, config.columns)))
        weight_buffer, held_buffer = Signal(), Signal()
        start, taken = self.work.start & ~job.attention, self.phases.valid & self.phases.ready
        window_ends = rows_left <= config.elements
        last_window, next_window = self._count_windows(m, start, taken & window_ends, rows_left == 0)
        score = job.destination == Destination.SCORE
        m.d.comb += [
            self.phases.valid.eq(rows_left != 0),
            *assign(
                out,
                job,
                wait=Mux(job.swapped, Wait.ROWS, Wait.WEIGHTS),
                row=job.broadcast_base,
                row_stride=job.broadcast_stride,
                stationary=Mux(
                    job.swapped,
                    Mux(held_buffer, config.attention_buffer(1), config.attention_buffer(0)),
                    Mux(weight_buffer, config.weight_tile_words, 0),
                ),
                kind=job.destination,
                mode=Mux(job.swapped, ParameterMode.STEP, ParameterMode.ELEMENT),
                parameter_index=Mux(job.swapped, self.parameter_base, parameter),
                address=address,
                address_stride=Mux(score, 1, job.destination_stride),
                column=Mux(score, 0, column),
                buffer=0,
                rows=0,
                bias_words=0,
                bias_again=0,
                last=window_ends & last_window,
            ),
        ]
        word_full = column == config.columns - 1
        begins = start | window_ends
        with m.If(start | taken):
            # Each window's tokens begin at a word.
            following = address + Mux(score, job.steps, word_full)
            m.d.sync += [
                address.eq(Mux(begins, Mux(score, 0, next_window), following)),
                column.eq(Mux(begins | word_full, 0, column + 1)),
                parameter.eq(Mux(start, self.parameter_base, parameter + config.elements)),
                rows_left.eq(Mux(begins, job.stationary_rows, rows_left - config.elements)),
                held_buffer.eq(~(start | held_buffer)),
            ]
        with m.If(taken):
            # The weight buffer goes on alternating at a job's start: the weight stream does not know where jobs begin.
            m.d.sync += weight_buffer.eq(weight_buffer ^ ~job.swapped)
            with m.If(window_ends & last_window):
                m.d.sync += rows_left.eq(0)
        return m

    def _count_windows(self, m: Module, start: Value, ends: Value, idle: Value) -> tuple[Value, Value]:
        """Whether the window is a job's last, and where the outputs of the next one begin."""
        job, left, following = self.work.job, Signal(8), Signal(ADDRESS_WIDTH)
        with m.If(start | ends):
            m.d.sync += [
                left.eq(Mux(start, Mux(job.swapped, job.windows, 1), left - 1)),
                following.eq(following + job.destination_window),
            ]
        # While no tile is left, the next window is the first of the next job.
        with m.Elif(idle):
            m.d.sync += following.eq(job.destination_base)
        return left == 1, following


class TileCounter:
    """Where a job is in its list of (window, head, query tile).

    Members: ``more``, whether tiles are left; ``buffer``, the tile's attention buffer; ``rows``, its valid rows;
    ``head_ends`` and ``window_ends``, whether it is the last of its head or window.
    """

    def __init__(self, m: Module, name: str, elements: int) -> None:
        self._elements = elements
        self._rows_left = Signal(COUNT_WIDTH, name=f"{name}_rows_left")
        self._heads_left = Signal(8, name=f"{name}_heads_left")
        self._windows_left = Signal(8, name=f"{name}_windows_left")
        self.more = Signal(name=f"{name}_more")
        self.buffer = Signal(name=f"{name}_buffer")
        self.rows = Signal(range(elements + 1), name=f"{name}_rows")
        self.head_ends = Signal(name=f"{name}_head_ends")
        self.window_ends = Signal(name=f"{name}_window_ends")
        m.d.comb += [
            self.head_ends.eq(self._rows_left <= elements),
            self.window_ends.eq(self.head_ends & (self._heads_left == 1)),
            self.rows.eq(Mux(self.head_ends, self._rows_left, elements)),
        ]

    def run(self, m: Module, *, start: Value, taken: Value, rows: Value, heads: Value, windows: Value) -> None:
        """Begin the list at ``start``; go to the next tile when one is ``taken``."""
        with m.If(start | taken):
            m.d.sync += [
                self._rows_left.eq(Mux(start | self.head_ends, rows, self._rows_left - self._elements)),
                self.more.eq(start | ~(self.window_ends & (self._windows_left == 1))),
                self.buffer.eq(~(start | self.buffer)),
            ]
        with m.If(start | (taken & self.head_ends)):
            m.d.sync += self._heads_left.eq(Mux(start | self.window_ends, heads, self._heads_left - 1))
        with m.If(start | (taken & self.window_ends)):
            m.d.sync += self._windows_left.eq(Mux(start, windows, self._windows_left - 1))


@dataclass(frozen=True, kw_only=True)
class TileMove:
    """From one tile to the next.

    Members: ``idle``, no tile is left, so that the next job's addresses may be loaded; ``start``, its first tile
    begins; ``taken``, the tile after one with which a head or a window may end begins.
    """

    idle: Value
    start: Value
    taken: Value
    head_ends: Value
    window_ends: Value


class HeadAddress:
    """Where the rows of a head begin: heads and windows have distances of their own.

    Members: ``word``, of the current head; ``following``, of the one that begins at a start or behind a head's last
    tile.
    """

    def __init__(
        self, m: Module, name: str, move: TileMove, *, base: Value, head_step: Value, window_step: Value
    ) -> None:
        self.word = Signal(ADDRESS_WIDTH, name=f"{name}_head")
        self.following = Signal(ADDRESS_WIDTH, name=f"{name}_following")
        # The next window's first word is known in advance, so that a start is nothing but a window's beginning.
        next_window = Signal(ADDRESS_WIDTH, name=f"{name}_next_window")
        begins = move.start | move.window_ends
        m.d.comb += self.following.eq(Mux(begins, next_window, self.word + head_step))
        with m.If(move.start | (move.taken & move.head_ends)):
            m.d.sync += self.word.eq(self.following)
        with m.If(move.start | (move.taken & move.window_ends)):
            m.d.sync += next_window.eq(next_window + window_step)
        with m.Elif(move.idle):
            m.d.sync += next_window.eq(base)


class AttentionPhases(wiring.Component):
    """The phases of an attention job: QK(0), QK(1), AV(0), QK(2), AV(1), ... of the list (window, head, query tile).

    The reordered attention of Edge-MoE (ICCAD 2023, section IV): P queries are held while the keys stream past, then
    their exponentials while the channels of V transposed stream past. QK runs one tile ahead of AV, so that softmax has
    the time of a whole tile.

    Members as in :class:`LinearPhases`; linear jobs are passed over. The number of words from one head's channels of V
    to the next one's is added up in the first ``value_words`` cycles, long before the first AV phase. This saves a
    multiplier.
    """

    def __init__(self, config: AcceleratorConfig) -> None:
        self._config = config
        super().__init__(
            {
                "work": In(Work(engine_job_layout(config))),
                "phases": Out(stream.Signature(phase_layout(config))),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """QK and AV in turns. AV goes through the tiles that QK has been at, one or two behind."""
        m = Module()
        job, out = self.work.job, self.phases.payload
        scores, behind = TileCounter(m, "scores", self._config.elements), Signal()
        # `lead` counts the tiles that QK is ahead of AV: never more than two, because there are two attention buffers.
        lead, turn, start = Signal(2), Signal(), Signal()
        taken = self.phases.ready & self.phases.valid
        m.d.comb += [turn.eq((lead == 2) | ~scores.more), start.eq(self.work.start & job.attention)]
        scores.run(m, start=start, taken=taken & ~turn, rows=job.queries, heads=job.heads, windows=job.windows)
        ends = {"head_ends": scores.head_ends, "window_ends": scores.window_ends}
        self._score_phase(m, scores, TileMove(idle=~scores.more, start=start, taken=taken & ~turn, **ends), ~turn)
        # What AV must know of a tile waits for it, in one of two places as the tile itself does.
        tile = data.StructLayout({"rows": scores.rows.shape(), "head_ends": 1, "window_ends": 1})
        waiting = [Signal(tile, name=f"waiting_{buffer}") for buffer in range(2)]
        for buffer, place in enumerate(waiting):
            with m.If(taken & ~turn & (scores.buffer == buffer)):
                m.d.sync += assign(place, rows=scores.rows, **ends)
        oldest = data.View(tile, Mux(behind, *(place.as_value() for place in reversed(waiting))))
        ends = {"head_ends": oldest.head_ends, "window_ends": oldest.window_ends}
        idle = ~scores.more & (lead == 0)
        move = TileMove(idle=idle, start=start, taken=taken & turn, **ends)
        counted = self._value_phase(m, behind, oldest.rows, move, turn)
        m.d.comb += [
            self.phases.valid.eq(Mux(turn, (lead != 0) & counted, 1)),
            out.address_stride.eq(1),
            out.column.eq(0),
            out.parameter_index.eq(0),
            out.buffer.eq(Mux(turn, behind, scores.buffer)),
        ]
        with m.If(start):
            m.d.sync += [lead.eq(0), behind.eq(0)]
        with m.Elif(taken):
            m.d.sync += [lead.eq(Mux(turn, lead - 1, lead + 1)), behind.eq(behind ^ turn)]
        return m

    def _score_phase(self, m: Module, tile: TileCounter, move: TileMove, chosen: Value) -> None:
        """QK: held queries against every key of the head."""
        config, job, out = self._config, self.work.job, self.phases.payload
        # All tiles of a head use the same keys, so that the row moves only from head to head.
        steps = {"head_step": job.head_words, "window_step": job.key_window}
        keys = HeadAddress(m, "keys", move, base=job.key_base, **steps)
        # The table of bias is laid out in the order of use, so that the issuer counts through it.
        again = Signal()
        with m.If(move.start | move.taken):
            m.d.sync += again.eq(move.start | Mux(job.bias_shared, tile.head_ends, tile.window_ends))
        with m.If(chosen):
            m.d.comb += [
                out.wait.eq(Wait.ROWS),
                out.row.eq(keys.word),
                out.row_stride.eq(job.key_stride),
                out.steps.eq(job.keys),
                out.words.eq(job.head_words + job.bias_words),
                *same_fields(out, job, "bias_words"),
                out.bias_again.eq(again),
                out.stationary.eq(Mux(tile.buffer, config.attention_buffer(1), config.attention_buffer(0))),
                out.kind.eq(StepKind.SCORE),
                out.mode.eq(ParameterMode.SCORE),
                out.address.eq(Mux(tile.buffer, config.max_tokens, 0)),
            ]

    def _value_phase(self, m: Module, buffer: Value, valid_rows: Value, move: TileMove, chosen: Value) -> Value:
        """AV: held exponentials against every channel of the head; returns whether the heads' distance is known."""
        config, job, out = self._config, self.work.job, self.phases.payload
        lane_bits, element_bits = (config.lanes - 1).bit_length(), (config.elements - 1).bit_length()
        # From head to head outputs are `value_words` words apart, but rows of V transposed T times as many strides.
        head_values, words_counted = Signal(ADDRESS_WIDTH), Signal(7)
        counted = words_counted == job.value_words
        with m.If(move.start):
            m.d.sync += [head_values.eq(0), words_counted.eq(0)]
        with m.Elif(~counted):
            m.d.sync += [
                head_values.eq(head_values + (job.value_stride << lane_bits)),
                words_counted.eq(words_counted + 1),
            ]
        steps = {"head_step": head_values, "window_step": job.value_window}
        channels = HeadAddress(m, "channels", move, base=job.value_base, **steps)
        steps = {"head_step": job.value_words, "window_step": job.destination_window}
        outputs = HeadAddress(m, "outputs", move, base=job.destination_base, **steps)
        # Within a head the next tile's outputs lie P rows further on.
        first_row = Signal(ADDRESS_WIDTH)
        next_tile = first_row + (job.destination_stride << element_bits)
        with m.If(move.start | move.taken):
            m.d.sync += first_row.eq(Mux(move.start | move.head_ends, outputs.following, next_tile))
        exponentials = [config.attention_buffer(b) + config.query_words for b in range(2)]
        with m.If(chosen):
            m.d.comb += [
                out.wait.eq(Wait.EXPONENTIALS),
                out.row.eq(channels.word),
                out.row_stride.eq(job.value_stride),
                out.steps.eq(job.value_words << lane_bits),
                out.words.eq((job.keys + (config.lanes - 1)) >> lane_bits),
                out.stationary.eq(Mux(buffer, exponentials[1], exponentials[0])),
                out.kind.eq(StepKind.ATTENTION),
                out.mode.eq(ParameterMode.QUERY),
                out.bias_words.eq(0),
                out.bias_again.eq(0),
                out.address.eq(first_row),
                out.rows.eq(valid_rows),
            ]
        return counted
