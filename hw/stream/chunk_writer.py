"""ChunkWriter: hands the chunks of the weight stream to where their tags say."""

from __future__ import annotations

from dataclasses import dataclass

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from tessera.hw.blocks.fields import assign
from tessera.hw.blocks.jobs import hand_over
from tessera.hw.blocks.register_slice import HalfSlice, RegisterSlice
from tessera.hw.config import AcceleratorConfig
from tessera.hw.interfaces.memory import STORED_BITS
from tessera.hw.interfaces.stream import ChunkDelivery, ChunkKind, chunk_tag_layout, chunks_per_residual_word

ENTRY_BITS = 64
"""Bits of a parameter set in memory."""


@dataclass(frozen=True, kw_only=True)
class _Held:
    """The chunk that is being handed over: its bytes, its tag, and by kind whether it is there."""

    chunk: Signal
    tag: data.View
    here: dict[int, Value]


class ChunkWriter(wiring.Component):
    """Hands each chunk to where its tag says.

    ::

        chunk ─┬─► slice ─┬─► slice of each destination ──► delivery
          tag ─┘          └─► shift_write, table_write

    Parameters
    ----------
    config:
        Sizes of the machine.

    Members
    -------
    chunk: In(stream), tag: In(stream(chunk_tag))
        A chunk and its destination; taken together.
    delivery: Out(ChunkDelivery)
        Ports through which chunks leave.
    tile_filled: Out(1)
        Pulse, one cycle after a tile's last chunk was taken by ``fill``.
    done: Out(1)
        Pulse, one cycle after the last word of a block other than WEIGHTS was written.

    Timing: shifts and tables leave one cycle after their chunk was taken, parameters and words for banks and memories
    two. One chunk per cycle if a beat of memory is one, else every other cycle, like words for the residual memory.
    """

    LATENCY = 1

    def __init__(self, config: AcceleratorConfig) -> None:
        self._config = config
        super().__init__(
            {
                "chunk": In(stream.Signature(8 * config.chunk_bytes)),
                "tag": In(stream.Signature(chunk_tag_layout(config))),
                "delivery": Out(ChunkDelivery(config)),
                "tile_filled": Out(1),
                "done": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Hold a chunk with its tag and offer it everywhere; only valid bits differ, one per kind."""
        m = Module()
        config, delivery = self._config, self.delivery
        # A chunk of several beats takes long enough to come for half a slice, whose registers load whatever leaves.
        slice_kind = HalfSlice if config.chunk_bytes > config.memory_bytes else RegisterSlice
        leaves = Signal()
        held = self._hold(m, slice_kind, leaves)
        tag, here = held.tag, held.here
        # Each destination has a slice: whether a memory takes a word depends on all its writers, which are far away.
        # So only the word waits for that decision, not the chunk behind it.
        staged_kind = RegisterSlice if config.words_per_chunk > 1 else slice_kind
        staged = m.submodules.staged = staged_kind(_word_layout(delivery.scratch_write))
        restored = m.submodules.restored = HalfSlice(_word_layout(delivery.residual_write))
        listed = m.submodules.listed = slice_kind(_word_layout(delivery.list_write))
        filled = m.submodules.filled = slice_kind(_word_layout(delivery.fill))
        scaled = m.submodules.scaled = slice_kind(delivery.parameters.payload.shape())
        ports = (
            (filled, delivery.fill),
            (staged, delivery.scratch_write),
            (restored, delivery.residual_write),
            (listed, delivery.list_write),
        )
        for words, port in ports:
            hand_over(m, words.target, port)
            m.d.comb += port.payload.eq(words.target.payload.write)
        connect(m, scaled.target, flipped(delivery.parameters))
        last_taken = [words.target.valid & words.target.ready & words.target.payload.last for words, _ in ports]
        # A block may end with padding, which then waits until the block's last word is written.
        padding_leaves = ~(tag.block_last & (staged.target.valid | restored.target.valid | listed.target.valid))
        always_taken = here[ChunkKind.SHIFTS] | here[ChunkKind.TABLE]
        block_over = tag.block_last & (always_taken | here[ChunkKind.PADDING] & padding_leaves)
        m.d.sync += [
            self.tile_filled.eq(last_taken[0]),
            self.done.eq(Cat(*last_taken[1:], block_over).any()),
        ]
        goes = {
            ChunkKind.FILL: self._fill(m, held, filled.source),
            ChunkKind.PARAMETERS: self._scale(m, held, scaled.source),
            ChunkKind.STAGE: self._stage(m, held, staged.source),
            ChunkKind.RESIDUAL: self._restore(m, held, restored.source),
            ChunkKind.SHIFTS: self._shift(m, held),
            ChunkKind.TABLE: self._tabulate(m, held),
            ChunkKind.LIST: self._list(m, held, listed.source),
            ChunkKind.PADDING: padding_leaves,
        }
        m.d.comb += leaves.eq(Cat(here[kind] & ready for kind, ready in goes.items()).any())
        return m

    def _hold(self, m: Module, slice_kind: type[RegisterSlice], leaves: Signal) -> _Held:
        """Take chunk and tag together into a slice, with a bit per kind instead of a number to compare."""
        layout = data.StructLayout(
            {
                "kinds": len(ChunkKind),  # which kind it is, a bit each
                "tag": chunk_tag_layout(self._config),  # destination of the chunk
                "chunk": 8 * self._config.chunk_bytes,  # its bytes
            }
        )
        m.submodules.slice = held = slice_kind(layout)
        source, take = held.source, Signal()
        m.d.comb += [
            take.eq(self.tag.valid & self.chunk.valid & source.ready),
            source.valid.eq(take),
            source.payload.kinds.eq(Cat(self.tag.payload.kind == kind for kind in ChunkKind)),
            source.payload.tag.eq(self.tag.payload),
            source.payload.chunk.eq(self.chunk.payload),
            held.target.ready.eq(leaves),
            self.tag.ready.eq(take),
            self.chunk.ready.eq(take),
        ]
        chosen = held.target.payload
        here = {kind: held.target.valid & found for kind, found in zip(ChunkKind, chosen.kinds, strict=True)}
        return _Held(chunk=chosen.chunk, tag=chosen.tag, here=here)

    def _fill(self, m: Module, held: _Held, words: stream.Interface) -> Value:
        """Words for the banks: bytes sign-extended, or 16-bit values over two lanes (numerics rule N12)."""
        width, wide_width = self._config.numerics.activation_width, self._config.numerics.wide.width
        chunk, tag, fill = held.chunk, held.tag, words.payload.write
        lanes, lanes_per_word = [], self._config.lanes
        for index in range(0, self._config.chunk_bytes, 2):
            pair = Signal(2 * width, name=f"pair_{index}")
            m.d.comb += pair.eq(chunk.word_select(index // 2, wide_width).as_signed())
            lanes += [
                Mux(tag.wide, pair[:width], _sign_extended(chunk, index)),
                Mux(tag.wide, pair[width:], _sign_extended(chunk, index + 1)),
            ]
        m.d.comb += [
            words.valid.eq(held.here[ChunkKind.FILL]),
            words.payload.last.eq(tag.tile_last),
            *assign(
                fill,
                group=tag.part,
                address=tag.address,
                data=[lanes[first : first + lanes_per_word] for first in range(0, len(lanes), lanes_per_word)],
            ),
        ]
        return words.ready

    def _scale(self, m: Module, held: _Held, entries: stream.Interface) -> Value:
        """Parameter sets of the requantiser, as they lie in memory."""
        m.d.comb += entries.valid.eq(held.here[ChunkKind.PARAMETERS])
        m.d.comb += [e.eq(held.chunk.word_select(index, ENTRY_BITS)) for index, e in enumerate(entries.payload)]
        return entries.ready

    def _shift(self, m: Module, held: _Held) -> Value:
        """LayerNorm's shifts, a byte each, which are always taken."""
        write = self.delivery.shift_write
        m.d.comb += [
            write.valid.eq(held.here[ChunkKind.SHIFTS]),
            *assign(
                write.payload,
                address=held.tag.address,
                shifts=[held.chunk.word_select(index, 8) for index in range(len(write.payload.shifts))],
            ),
        ]
        return Const(1)

    def _tabulate(self, m: Module, held: _Held) -> Value:
        """Entries of an activation function's table, which are always taken."""
        write = self.delivery.table_write
        entries = [held.chunk.word_select(index, 32) for index in range(len(write.payload.entries))]
        m.d.comb += [
            write.valid.eq(held.here[ChunkKind.TABLE]),
            *assign(write.payload, held.tag, entries=Cat(entry[:31] for entry in entries)),
        ]
        return Const(1)

    def _stage(self, m: Module, held: _Held, words: stream.Interface) -> Value:
        """Words for the scratchpad, one by one; returns whether the chunk's last is taken."""
        config, tag, here = self._config, held.tag, held.here[ChunkKind.STAGE]
        word = Signal(range(config.words_per_chunk + 1))
        bytes_ = held.chunk.word_select(word, 8 * config.lanes)
        last = word + 1 == tag.words
        m.d.comb += [
            words.valid.eq(here),
            words.payload.last.eq(last & tag.block_last),
            *assign(
                words.payload.write,
                address=tag.address + word,
                columns=-1,
                data=[_sign_extended(bytes_, index) for index in range(config.lanes)],
            ),
        ]
        with m.If(here & words.ready):
            m.d.sync += word.eq(Mux(last, 0, word + 1))
        return last & words.ready

    def _list(self, m: Module, held: _Held, entries: stream.Interface) -> Value:
        """A row for the token queues, the low bits of its chunk."""
        m.d.comb += [
            entries.valid.eq(held.here[ChunkKind.LIST]),
            entries.payload.last.eq(held.tag.block_last),
            *assign(entries.payload.write, address=held.tag.address, row=held.chunk),
        ]
        return entries.ready

    def _restore(self, m: Module, held: _Held, words: stream.Interface) -> Value:
        """Words for the residual memory, collected from several chunks; returns whether the chunk is taken."""
        config, tag, here = self._config, held.tag, held.here[ChunkKind.RESIDUAL]
        width = config.numerics.residual_width
        parts = chunks_per_residual_word(config)
        values = range(config.chunk_bytes * 8 // STORED_BITS)
        lanes = Cat(*(held.chunk.word_select(index, STORED_BITS)[:width] for index in values))
        earlier = Signal((parts - 1) * len(lanes))
        last = tag.part == parts - 1
        taken = ~last | words.ready
        m.d.comb += [
            words.valid.eq(here & last),
            words.payload.last.eq(tag.block_last),
            *assign(words.payload.write, address=tag.address, columns=-1, data=Cat(earlier, lanes)),
        ]
        with m.If(here & taken):
            m.d.sync += earlier.eq(Cat(earlier, lanes)[len(lanes) :])
        return taken


def _word_layout(port: stream.Interface) -> data.StructLayout:
    """A write on its way to a memory, and whether it is the last of its block or tile."""
    return data.StructLayout({"write": port.payload.shape(), "last": 1})


def _sign_extended(bytes_: Value, index: int) -> Value:
    """Byte ``index`` as a signed value, to be extended by what it is assigned to."""
    return bytes_.word_select(index, 8).as_signed()
