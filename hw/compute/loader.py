"""RowLoader: copies rows from the scratchpad into the banks' attention buffers, ahead of the phases that need them."""

from __future__ import annotations

from dataclasses import dataclass

from amaranth.hdl import Module, Mux, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from tessera.hw.blocks.checks import check
from tessera.hw.blocks.fields import assign
from tessera.hw.blocks.jobs import hand_over
from tessera.hw.blocks.pipeline import delay
from tessera.hw.blocks.register_slice import RegisterSlice
from tessera.hw.compute.phase import HeadAddress, TileCounter, TileMove
from tessera.hw.config import AcceleratorConfig
from tessera.hw.interfaces.jobs import engine_job_layout
from tessera.hw.interfaces.memory import MEMORY_LATENCY, bank_hold_layout, lanes_layout
from tessera.hw.interfaces.strobe import Strobe, Work
from tessera.hw.isa import ADDRESS_WIDTH


def _request_layout(config: AcceleratorConfig) -> data.StructLayout:
    """A scratchpad word that is wanted, and where it goes."""
    place = bank_hold_layout(config).members
    return data.StructLayout(
        {
            "source": ADDRESS_WIDTH,  # scratchpad word
            "element": place["element"],  # element whose bank gets it
            "address": place["address"],  # bank word
            "zero": 1,  # zeros take its place
            "last": 1,  # the tile's last word
        }
    )


@dataclass(frozen=True, kw_only=True)
class _HeldRows:
    """Rows that a job holds: rows of a window, heads, first word, distances of rows and of windows, words per head."""

    rows: Value
    heads: Value
    base: Value
    stride: Value
    window: Value
    words: Value


class RowLoader(wiring.Component):
    """Hold the rows of one tile after the other: queries of each (window, head, tile), tokens of each (window, tile).

    Tile i goes to the start of attention buffer i % 2, row by row: row e of the tile to element e. Rows beyond the
    last one become zeros; the last row is read again in their place. A tile is loaded as soon as its buffer is free.

    Behind the words of a query lie the factors of its element, which are the first words of the table of bias.

    Members
    -------
    work: In(Work(engine_job))
        The job; both buffers are free at its start. Jobs without held rows are passed over.
    load: Out(stream(ADDRESS_WIDTH)), load_data: In(Strobe(lanes))
        Scratchpad words wanted, and the words, MEMORY_LATENCY cycles after they were accepted.
    hold: Out(Strobe(bank_hold))
        Writes into the banks.
    loaded: Out(1)
        Pulse: the next tile is complete. It can be read two cycles later.
    freed: In(1)
        Pulse: the oldest complete tile is no longer needed.

    Timing: one word per cycle while ``load`` is accepted, the first a cycle after it was found; one idle cycle between
    tiles.
    """

    def __init__(self, config: AcceleratorConfig) -> None:
        self._config = config
        super().__init__(
            {
                "work": In(Work(engine_job_layout(config))),
                "load": Out(stream.Signature(ADDRESS_WIDTH)),
                "load_data": In(Strobe(lanes_layout(config))),
                "hold": Out(Strobe(bank_hold_layout(config))),
                "loaded": Out(1),
                "freed": In(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Walk words, elements, tiles, heads and windows; tag each request with where its data goes."""
        m = Module()
        config, held = self._config, self._held_rows()
        tile, free = TileCounter(m, "tile", config.elements), Signal(range(3))
        element, valid_rows = Signal(range(config.elements)), Signal.like(tile.rows)
        row, loading, beyond, last_row = Signal(ADDRESS_WIDTH), Signal(), Signal(), Signal()
        last_element = element == config.elements - 1
        start, accepted = self._start(m), Signal()
        word, is_factor, last_word = self._count_words(m, held.words, start, accepted)
        tile_done = accepted & last_word & last_element
        tile.run(m, start=start, taken=tile_done, rows=held.rows, heads=held.heads, windows=self.work.job.windows)
        ends = {"head_ends": tile.head_ends, "window_ends": tile.window_ends}
        move = TileMove(idle=~tile.more, start=start, taken=tile_done, **ends)
        head = HeadAddress(m, "rows", move, base=held.base, head_step=held.words, window_step=held.window)
        m.submodules.wanted = wanted = RegisterSlice(_request_layout(config))
        m.d.comb += [
            wanted.source.valid.eq(loading),
            *assign(
                wanted.source.payload,
                source=self._source(m, row, word, is_factor, loading, accepted),
                element=element,
                address=Mux(tile.buffer, config.attention_buffer(1), config.attention_buffer(0)) + word,
                zero=beyond,
                last=last_word & last_element,
            ),
            accepted.eq(loading & wanted.source.ready),
            last_row.eq(valid_rows == 1),
        ]
        # Words, then rows, then tiles, then heads, then windows: each loop's end steps the next one.
        with m.If(start):
            m.d.sync += [row.eq(head.following), free.eq(2), loading.eq(0)]
        with m.Else():
            m.d.sync += free.eq(free + self.freed - tile_done)
            # The idle cycle between tiles: a buffer must be free before the next tile begins.
            with m.If(~loading):
                m.d.sync += [loading.eq(tile.more & (free != 0)), valid_rows.eq(tile.rows), beyond.eq(0)]
            with m.Elif(accepted & last_word):
                m.d.sync += [element.eq(element + 1), valid_rows.eq(valid_rows - 1), beyond.eq(beyond | last_row)]
                # Of a head's last tile the last row is read again.
                with m.If(~(tile.head_ends & (beyond | last_row))):
                    m.d.sync += row.eq(row + held.stride)
                with m.If(last_element):
                    m.d.sync += loading.eq(0)
                    with m.If(tile.head_ends):
                        m.d.sync += row.eq(head.following)
        self._deliver(m, wanted.target)
        return m

    def _source(self, m: Module, row: Value, word: Value, is_factor: Value, loading: Value, accepted: Value) -> Value:
        """Scratchpad word that is wanted: of the row, or the next factor in the table of bias."""
        factor = Signal(ADDRESS_WIDTH)
        with m.If(~loading):
            m.d.sync += factor.eq(self.work.job.bias_base)
        with m.Elif(accepted):
            m.d.sync += factor.eq(factor + is_factor)
        return Mux(is_factor, factor, row + word)

    def _start(self, m: Module) -> Signal:
        """A cycle after the start of a job with held rows."""
        start, job = Signal(), self.work.job
        # The unit is large and its first words come late anyway, so that its start may come from a register.
        m.d.sync += start.eq(self.work.start & (job.attention | job.swapped))
        return start

    def _count_words(self, m: Module, words: Value, start: Signal, accepted: Signal) -> tuple[Signal, Signal, Signal]:
        """Number of the next word of a row, whether it is a factor, and whether it is the row's last.

        All are known before the word is asked for.
        """
        job, most = self.work.job, range(self._config.bank_words // 4 + 1)
        word, words_left, length, last_own = (Signal(most, name=n) for n in ("word", "left", "length", "own"))
        one_word, last_word, is_factor = Signal(), Signal(), Signal()
        m.d.sync += [
            length.eq(words + Mux(job.attention, job.bias_words, 0)),
            last_own.eq(words - 1),
            one_word.eq(length == 1),
        ]
        with m.If(start):
            m.d.sync += [words_left.eq(length), last_word.eq(one_word)]
        with m.Elif(accepted):
            m.d.sync += [
                word.eq(Mux(last_word, 0, word + 1)),
                words_left.eq(Mux(last_word, length, words_left - 1)),
                last_word.eq(Mux(last_word, one_word, words_left == 2)),
                is_factor.eq(~last_word & (is_factor | (word == last_own))),
            ]
        return word, is_factor, last_word

    def _held_rows(self) -> _HeldRows:
        """Queries of an attention job, or tokens of a swapped linear one, which has one head."""
        job = self.work.job
        return _HeldRows(
            rows=Mux(job.attention, job.queries, job.stationary_rows),
            heads=Mux(job.attention, job.heads, 1),
            base=Mux(job.attention, job.query_base, job.stationary_base),
            stride=Mux(job.attention, job.query_stride, job.stationary_stride),
            window=Mux(job.attention, job.query_window, job.stationary_window),
            words=Mux(job.attention, job.head_words, job.words),
        )

    def _deliver(self, m: Module, wanted: stream.Interface) -> None:
        """Ask for the words, and carry each request's place along until its data is there."""
        hand_over(m, wanted, self.load)
        m.d.comb += self.load.payload.eq(wanted.payload.source)
        # The scratchpad answers in order after a fixed time, so that places need no queue.
        place = delay(m, wanted.payload, MEMORY_LATENCY, name="place")
        m.d.comb += [
            self.hold.valid.eq(delay(m, wanted.valid & wanted.ready, MEMORY_LATENCY, name="valid")),
            *assign(self.hold.payload, place, data=Mux(place.zero, 0, self.load_data.payload)),
            self.loaded.eq(self.hold.valid & place.last),
        ]
        check(m, 1, self.hold.valid == self.load_data.valid, "held rows: data did not come when it was due")
