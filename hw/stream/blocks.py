"""BlockWalker: where the chunks of a weight stream block go, one tag per chunk, in order."""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Mux, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from tessera.hw.blocks.checks import check
from tessera.hw.blocks.fields import assign
from tessera.hw.config import AcceleratorConfig
from tessera.hw.interfaces.jobs import StreamKind
from tessera.hw.interfaces.stream import ChunkKind, block_layout, chunk_tag_layout, chunks_per_residual_word
from tessera.hw.isa import COUNT_WIDTH


def _chunks_of(count: Value, per_chunk: int) -> Value:
    """Number of chunks that hold ``count`` entries."""
    return (count + (per_chunk - 1)) >> exact_log2(per_chunk)


class BlockWalker(wiring.Component):
    """Walks the blocks of the weight stream and tags their chunks.

    Parameters
    ----------
    config:
        Sizes of the machine.

    Members
    -------
    block: In(stream(block))
        Blocks in order. Their lengths are at least what their contents need; what is left is padding.
    permit: In(1)
        A block other than WEIGHTS may start. Looked at from two cycles after ``done`` on.
    tile_freed: In(1)
        Pulse: a weight buffer of the banks was given back. Both are free after reset, and filled alternately from
        buffer 0.
    done: In(1)
        Pulse: the block that reports was delivered.
    tag: Out(stream(chunk_tag))
        One tag per chunk.

    Timing: one tag per cycle; one cycle between blocks, and after a block other than WEIGHTS until it is done.
    """

    def __init__(self, config: AcceleratorConfig) -> None:
        self._config = config
        super().__init__(
            {
                "block": In(stream.Signature(block_layout(config))),
                "permit": In(1),
                "tile_freed": In(1),
                "done": In(1),
                "tag": Out(stream.Signature(chunk_tag_layout(config))),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Load a block, walk it, wait until a reporting one is done."""
        m = Module()
        current = Signal(block_layout(self._config))
        # The banks have two weight buffers; a tile begins only in a free one.
        free, begun = Signal(2, init=2), Signal()
        m.d.sync += free.eq(free + self.tile_freed - begun)
        check(m, self.tile_freed, free != 2, "a weight buffer was given back twice")
        # Blocks other than WEIGHTS report: the next one must not be judged before the sequencer has seen `done` and
        # changed the permit, which SETTLE waits for.
        with m.FSM(name="state"):
            with m.State("IDLE"):
                weights = self.block.payload.kind == StreamKind.WEIGHTS
                m.d.comb += self.block.ready.eq(weights | self.permit)
                with m.If(self.block.valid & self.block.ready):
                    self._load(m, current)
                    m.next = "WALK"
            with m.State("WALK"):
                self._walk(m, current, free, begun)
                with m.If(self.tag.valid & self.tag.ready & (current.chunks == 1)):
                    with m.If(current.kind == StreamKind.WEIGHTS):
                        m.next = "IDLE"
                    with m.Else():
                        m.next = "REPORT"
            with m.State("REPORT"):
                with m.If(self.done):
                    m.next = "SETTLE"
            with m.State("SETTLE"):
                m.next = "IDLE"
        return m

    def _load(self, m: Module, current: data.View) -> None:
        """Take a block; turn channels into chunks (of parameter sets, or of shifts)."""
        config, given = self._config, self.block.payload
        m.d.sync += [
            current.eq(given),
            current.channels.eq(_chunks_of(given.channels, config.entries_per_chunk)),
        ]
        with m.If((given.kind == StreamKind.SHIFTS) | (given.kind == StreamKind.TABLE)):
            m.d.sync += current.words.eq(_chunks_of(given.channels, config.chunk_bytes))

    def _walk(self, m: Module, current: data.View, free: Signal, begun: Signal) -> None:
        """Tag the next chunk and count on."""
        config, tag = self._config, self.tag.payload
        part, word = Signal.like(tag.part), Signal(COUNT_WIDTH)
        buffer = Signal()
        per_chunk = config.words_per_chunk
        weights = current.kind == StreamKind.WEIGHTS
        filling, counting, wrap, tile_last = Signal(), Signal(), Signal(), Signal()
        left = Signal(COUNT_WIDTH)
        m.d.comb += [
            filling.eq(weights & (current.channels == 0) & (current.tiles != 0)),
            counting.eq(filling | (~weights & (word < current.words))),
            left.eq(current.words - word),
            *assign(
                tag,
                kind=Mux(counting, current.kind, ChunkKind.PADDING),
                part=part,
                address=current.base + word,
                words=Mux(left < per_chunk, left, per_chunk),
                wide=current.wide,
                tile_last=tile_last,
                block_last=~weights & (current.chunks == 1),
            ),
            tile_last.eq(filling & wrap & (left == 1)),
            wrap.eq(1),
            self.tag.valid.eq(~filling | (part != 0) | (word != 0) | (free != 0)),
        ]
        # WEIGHTS: all elements of a word before the next word, so that a tile fills its buffer word by word.
        with m.If(weights):
            within = exact_log2(config.weight_tile_words)
            m.d.comb += [
                tag.address.eq(Cat(word[:within], buffer)),
                wrap.eq(part == config.elements // per_chunk - 1),
            ]
            with m.If(current.channels != 0):
                m.d.comb += tag.kind.eq(ChunkKind.PARAMETERS)
        with m.If(current.kind == StreamKind.RESIDUAL):
            m.d.comb += wrap.eq(part == chunks_per_residual_word(config) - 1)

        taken = Signal()
        m.d.comb += [
            taken.eq(self.tag.valid & self.tag.ready),
            begun.eq(taken & filling & (part == 0) & (word == 0)),
        ]
        with m.If(taken):
            m.d.sync += current.chunks.eq(current.chunks - 1)
            with m.If(weights & (current.channels != 0)):
                m.d.sync += current.channels.eq(current.channels - 1)
            with m.If(counting):
                m.d.sync += part.eq(Mux(wrap, 0, part + 1))
            with m.If(counting & wrap):
                m.d.sync += word.eq(word + Mux(current.kind == StreamKind.STAGE, per_chunk, 1))
            with m.If(tile_last):
                m.d.sync += [word.eq(0), current.tiles.eq(current.tiles - 1), buffer.eq(~buffer)]
            with m.If(current.chunks == 1):
                m.d.sync += [word.eq(0), part.eq(0)]
