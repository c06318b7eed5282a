"""Phases: what the engine does with one tile of stationary rows, and generators that list a job's phases in order."""

from __future__ import annotations

from amaranth.hdl import Module, Mux, Signal, Value
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from tessera.hw.blocks.fields import assign
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
        windows_left, window_address = Signal(8), Signal(ADDRESS_WIDTH)
        window_ends, last_window = rows_left <= config.elements, windows_left == 1
        next_window = window_address + job.destination_window
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
        # The weight buffer goes on alternating at a job's start: the weight stream does not know where jobs begin.
        with m.If(self.work.start & ~job.attention):
            m.d.sync += [
                rows_left.eq(job.stationary_rows),
                windows_left.eq(Mux(job.swapped, job.windows, 1)),
                window_address.eq(job.destination_base),
                address.eq(Mux(score, 0, job.destination_base)),
                parameter.eq(self.parameter_base),
                column.eq(0),
                held_buffer.eq(0),
            ]
        with m.Elif(self.phases.valid & self.phases.ready):
            word_full = column == config.columns - 1
            m.d.sync += [
                rows_left.eq(rows_left - config.elements),
                address.eq(address + Mux(score, job.steps, word_full)),
                parameter.eq(parameter + config.elements),
                column.eq(Mux(word_full, 0, column + 1)),
                held_buffer.eq(~held_buffer),
                weight_buffer.eq(weight_buffer ^ ~job.swapped),
            ]
            # Each window's tokens begin at a word.
            with m.If(window_ends):
                m.d.sync += [
                    rows_left.eq(Mux(last_window, 0, job.stationary_rows)),
                    windows_left.eq(windows_left - 1),
                    window_address.eq(next_window),
                    address.eq(next_window),
                    column.eq(0),
                ]
        return m


class TileCounter:
    """Where a job is in its list of (window, head, query tile).

    Members: ``rows_left`` of the head, from the tile's first on; ``heads_left`` of the window and ``windows_left``,
    with this one; ``more``, whether tiles are left; ``buffer``, the tile's attention buffer; ``head_ends`` and
    ``window_ends``, whether the tile is the last of its head or window.
    """

    def __init__(self, name: str, elements: int) -> None:
        self._elements = elements
        self.rows_left = Signal(COUNT_WIDTH, name=f"{name}_rows_left")
        self.heads_left = Signal(8, name=f"{name}_heads_left")
        self.windows_left = Signal(8, name=f"{name}_windows_left")
        self.more = Signal(name=f"{name}_more")
        self.buffer = Signal(name=f"{name}_buffer")
        self.head_ends = self.rows_left <= elements
        self.window_ends = self.head_ends & (self.heads_left == 1)

    def start(self, rows: Value, heads: Value, windows: Value) -> list:
        """Statements that begin the list."""
        return [
            self.rows_left.eq(rows),
            self.heads_left.eq(heads),
            self.windows_left.eq(windows),
            self.more.eq(1),
            self.buffer.eq(0),
        ]

    def advance(self, rows: Value, heads: Value) -> list:
        """Statements that go to the next tile."""
        return [
            self.rows_left.eq(Mux(self.head_ends, rows, self.rows_left - self._elements)),
            self.heads_left.eq(Mux(self.window_ends, heads, self.heads_left - self.head_ends)),
            self.windows_left.eq(self.windows_left - self.window_ends),
            self.more.eq(~(self.window_ends & (self.windows_left == 1))),
            self.buffer.eq(~self.buffer),
        ]


class HeadAddress:
    """Where the rows of a head begin: heads and windows have distances of their own.

    Members: ``word``, of the current head; ``following``, of the one after it, for a tile with which a head ends.
    """

    def __init__(self, name: str, tile: TileCounter, head_step: Value, window_step: Value) -> None:
        self._tile = tile
        self.word = Signal(ADDRESS_WIDTH, name=f"{name}_head")
        self._window = Signal(ADDRESS_WIDTH, name=f"{name}_window")
        # One adder serves both: a window begins at a distance from the window before, not from its last head.
        ends = tile.window_ends
        self.following = (Mux(ends, self._window, self.word) + Mux(ends, window_step, head_step))[:ADDRESS_WIDTH]

    def start(self, base: Value) -> list:
        """Statements that go to the first head of the first window."""
        return [self.word.eq(base), self._window.eq(base)]

    def advance(self) -> list:
        """Statements that go with the tile to the next one."""
        return [
            self.word.eq(Mux(self._tile.head_ends, self.following, self.word)),
            self._window.eq(Mux(self._tile.window_ends, self.following, self._window)),
        ]


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
        """Two cursors, one for QK and one for AV, taken in turns."""
        m = Module()
        job, out = self.work.job, self.phases.payload
        scores, values = (TileCounter(name, self._config.elements) for name in ("scores", "values"))
        # `lead` counts the tiles that QK is ahead of AV: never more than two, because there are two attention buffers.
        lead, turn = Signal(2), Signal()
        m.d.comb += turn.eq((lead == 2) | ~scores.more)
        taken = self.phases.ready & self.phases.valid
        self._score_phase(m, scores, taken & ~turn, ~turn)
        counted = self._value_phase(m, values, taken & turn, turn)
        m.d.comb += [
            self.phases.valid.eq(values.more & (~turn | counted)),
            out.address_stride.eq(1),
            out.column.eq(0),
            out.parameter_index.eq(0),
            out.buffer.eq(Mux(turn, values.buffer, scores.buffer)),
        ]
        with m.If(self.work.start & job.attention):
            m.d.sync += lead.eq(0)
        with m.Elif(taken):
            m.d.sync += lead.eq(Mux(turn, lead - 1, lead + 1))
        return m

    def _score_phase(self, m: Module, tile: TileCounter, taken: Value, chosen: Value) -> None:
        """QK: held queries against every key of the head."""
        config, job, out = self._config, self.work.job, self.phases.payload
        # All tiles of a head use the same keys, so that the row moves only from head to head.
        keys = HeadAddress("keys", tile, job.head_words, job.key_window)
        # The table of bias is laid out in the order of use, so that the issuer counts through it.
        again = Signal()
        with m.If(chosen):
            m.d.comb += [
                out.wait.eq(Wait.ROWS),
                out.row.eq(keys.word),
                out.row_stride.eq(job.key_stride),
                out.steps.eq(job.keys),
                out.words.eq(job.head_words + job.bias_words),
                out.bias_words.eq(job.bias_words),
                out.bias_again.eq(again),
                out.stationary.eq(Mux(tile.buffer, config.attention_buffer(1), config.attention_buffer(0))),
                out.kind.eq(StepKind.SCORE),
                out.mode.eq(ParameterMode.SCORE),
                out.address.eq(Mux(tile.buffer, config.max_tokens, 0)),
            ]
        with m.If(self.work.start & job.attention):
            m.d.sync += [*tile.start(job.queries, job.heads, job.windows), *keys.start(job.key_base), again.eq(1)]
        with m.Elif(taken):
            m.d.sync += [*tile.advance(job.queries, job.heads), *keys.advance()]
            m.d.sync += again.eq(Mux(job.bias_shared, tile.head_ends, tile.window_ends))

    def _value_phase(self, m: Module, tile: TileCounter, taken: Value, chosen: Value) -> Value:
        """AV: held exponentials against every channel of the head; returns whether the heads' distance is known."""
        config, job, out = self._config, self.work.job, self.phases.payload
        lane_bits, element_bits = (config.lanes - 1).bit_length(), (config.elements - 1).bit_length()
        head_values, words_counted, tile_destination = Signal(ADDRESS_WIDTH), Signal(7), Signal(ADDRESS_WIDTH)
        channels = HeadAddress("channels", tile, head_values, job.value_window)
        destination = HeadAddress("destination", tile, job.value_words, job.destination_window)
        # From head to head outputs are `value_words` words apart, but rows of V transposed T times as many strides.
        counted = words_counted == job.value_words
        exponentials = [config.attention_buffer(b) + config.query_words for b in range(2)]
        with m.If(chosen):
            m.d.comb += [
                out.wait.eq(Wait.EXPONENTIALS),
                out.row.eq(channels.word),
                out.row_stride.eq(job.value_stride),
                out.steps.eq(job.value_words << lane_bits),
                out.words.eq((job.keys + (config.lanes - 1)) >> lane_bits),
                out.stationary.eq(Mux(tile.buffer, exponentials[1], exponentials[0])),
                out.kind.eq(StepKind.ATTENTION),
                out.mode.eq(ParameterMode.QUERY),
                out.bias_words.eq(0),
                out.bias_again.eq(0),
                out.address.eq(tile_destination),
                out.rows.eq(Mux(tile.head_ends, tile.rows_left, config.elements)),
            ]
        with m.If(self.work.start & job.attention):
            m.d.sync += [
                *tile.start(job.queries, job.heads, job.windows),
                *channels.start(job.value_base),
                *destination.start(job.destination_base),
                head_values.eq(0),
                words_counted.eq(0),
                tile_destination.eq(job.destination_base),
            ]
        with m.Else():
            with m.If(~counted):
                m.d.sync += [
                    head_values.eq(head_values + (job.value_stride << lane_bits)),
                    words_counted.eq(words_counted + 1),
                ]
            with m.If(taken):
                # Within a head the next tile's outputs lie P rows further on.
                next_rows = tile_destination + (job.destination_stride << element_bits)
                m.d.sync += [
                    *tile.advance(job.queries, job.heads),
                    *channels.advance(),
                    *destination.advance(),
                    tile_destination.eq(Mux(tile.head_ends, destination.following, next_rows)),
                ]
        return counted
