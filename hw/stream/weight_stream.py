"""The weight stream: every block of weights, parameters, staged words and initial residuals, prefetched in order."""

from __future__ import annotations

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.fifo import SyncFIFO
from amaranth.lib.wiring import In, Out, connect, flipped
from amaranth.utils import exact_log2

from hw.blocks.gearbox import Gearbox
from hw.blocks.register_slice import HalfSlice, RegisterSlice
from hw.bus.bursts import longest_burst
from hw.bus.prefetch import Prefetcher
from hw.config import AcceleratorConfig
from hw.interfaces.axi import read_request_layout
from hw.interfaces.compute import parameter_set_layout
from hw.interfaces.jobs import stream_job_layout
from hw.interfaces.layernorm import shift_write_layout
from hw.interfaces.memory import bank_fill_layout, residual_write_layout, scratch_write_layout
from hw.interfaces.stream import block_layout, chunk_tag_layout, chunks_per_residual_word
from hw.interfaces.strobe import Strobe
from hw.stream.blocks import BlockWalker, ChunkKind


def _delivery_members(config: AcceleratorConfig) -> dict[str, wiring.Member]:
    """Ports through which chunks leave."""
    entries = data.ArrayLayout(parameter_set_layout(config), config.entries_per_chunk)
    return {
        "fill": Out(stream.Signature(bank_fill_layout(config))),
        "parameters": Out(stream.Signature(entries)),
        "scratch_write": Out(stream.Signature(scratch_write_layout(config))),
        "residual_write": Out(stream.Signature(residual_write_layout(config))),
        "shift_write": Out(Strobe(shift_write_layout(config))),
        "tile_filled": Out(1),
        "done": Out(1),
    }


class ChunkWriter(wiring.Component):
    """Hands each chunk to where its tag says.

    Parameters
    ----------
    config:
        Sizes of the machine.

    Members
    -------
    chunk, tag:
        A chunk and its destination; taken together.
    others:
        As in :class:`WeightStream`.

    Timing: shifts leave one cycle after their chunk was taken, parameters and words for banks and memories two. One
    chunk a cycle if a beat of memory is one, else every other cycle, like words for the residual memory.
    """

    LATENCY = 1

    def __init__(self, config: AcceleratorConfig) -> None:
        self._config = config
        super().__init__(
            {
                "chunk": In(stream.Signature(8 * config.chunk_bytes)),
                "tag": In(stream.Signature(chunk_tag_layout(config))),
                **_delivery_members(config),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Hold a chunk with its tag and offer it everywhere; only valid bits differ, one for each kind."""
        m = Module()
        held = data.StructLayout(
            {"kinds": len(ChunkKind), "tag": chunk_tag_layout(self._config), "chunk": 8 * self._config.chunk_bytes}
        )
        # A chunk of several beats takes long enough to come for half a slice, whose registers load whatever leaves.
        slice_kind = HalfSlice if self._config.chunk_bytes > self._config.memory_bytes else RegisterSlice
        m.submodules.slice = slice_ = slice_kind(held)
        take, leaves = Signal(), Signal()
        m.d.comb += [
            take.eq(self.tag.valid & self.chunk.valid & slice_.source.ready),
            slice_.source.valid.eq(take),
            slice_.source.payload.kinds.eq(Cat(self.tag.payload.kind == kind for kind in ChunkKind)),
            slice_.source.payload.tag.eq(self.tag.payload),
            slice_.source.payload.chunk.eq(self.chunk.payload),
            slice_.target.ready.eq(leaves),
            self.tag.ready.eq(take),
            self.chunk.ready.eq(take),
        ]
        valid, tag, chunk = slice_.target.valid, slice_.target.payload.tag, slice_.target.payload.chunk
        here = {kind: valid & found for kind, found in zip(ChunkKind, slice_.target.payload.kinds, strict=True)}
        # Whether a memory takes a word depends on all who write there: that decides about the word, not about chunks.
        staged_kind = RegisterSlice if self._config.words_per_chunk > 1 else slice_kind
        staged = m.submodules.staged = staged_kind(_word(self.scratch_write))
        restored = m.submodules.restored = HalfSlice(_word(self.residual_write))
        filled = m.submodules.filled = slice_kind(_word(self.fill))
        scaled = m.submodules.scaled = slice_kind(self.parameters.payload.shape())
        for words, port in ((staged, self.scratch_write), (restored, self.residual_write), (filled, self.fill)):
            m.d.comb += [
                port.payload.eq(words.target.payload.write),
                port.valid.eq(words.target.valid),
                words.target.ready.eq(port.ready),
            ]
        tile_filled, *block_written = (
            words.target.valid & words.target.ready & words.target.payload.last for words in (filled, staged, restored)
        )
        # The block ends with padding, so after its last word.
        padding_leaves = ~(tag.block_last & (staged.target.valid | restored.target.valid))
        block_over = tag.block_last & (here[ChunkKind.SHIFTS] | here[ChunkKind.PADDING] & padding_leaves)
        m.d.sync += [
            self.tile_filled.eq(tile_filled),
            self.done.eq(Cat(*block_written, block_over).any()),
        ]
        self._fill(m, tag, chunk, filled.source.payload.write)
        connect(m, scaled.target, flipped(self.parameters))
        for index, entry in enumerate(scaled.source.payload):
            m.d.comb += entry.eq(chunk.word_select(index, 64))
        m.d.comb += self.shift_write.payload.address.eq(tag.address)
        for index, shift in enumerate(self.shift_write.payload.shifts):
            m.d.comb += shift.eq(chunk.word_select(index, 8))
        m.d.comb += [
            filled.source.valid.eq(here[ChunkKind.FILL]),
            filled.source.payload.last.eq(tag.tile_last),
            scaled.source.valid.eq(here[ChunkKind.PARAMETERS]),
            self.shift_write.valid.eq(here[ChunkKind.SHIFTS]),
        ]
        goes = {
            ChunkKind.FILL: filled.source.ready,
            ChunkKind.PARAMETERS: scaled.source.ready,
            ChunkKind.STAGE: self._stage(m, tag, chunk, here[ChunkKind.STAGE], staged.source),
            ChunkKind.RESIDUAL: self._residual(m, tag, chunk, here[ChunkKind.RESIDUAL], restored.source),
            ChunkKind.SHIFTS: Const(1),
            ChunkKind.PADDING: padding_leaves,
        }
        m.d.comb += leaves.eq(Cat(here[kind] & ready for kind, ready in goes.items()).any())
        return m

    def _fill(self, m: Module, tag: data.View, chunk: Signal, fill: data.View) -> None:
        """Wire the words for the banks: bytes sign-extended, or 16-bit values over two lanes (numerics rule N12)."""
        width = self._config.numerics.activation_width
        lanes = [lane for word in fill.data for lane in word]
        m.d.comb += [fill.group.eq(tag.part), fill.address.eq(tag.address)]
        for index in range(0, len(lanes), 2):
            pair = Signal(2 * width, name=f"pair_{index}")
            m.d.comb += [
                pair.eq(chunk.word_select(index // 2, 16).as_signed()),
                lanes[index].eq(Mux(tag.wide, pair[:width], _sign_extended(chunk, index))),
                lanes[index + 1].eq(Mux(tag.wide, pair[width:], _sign_extended(chunk, index + 1))),
            ]

    def _stage(self, m: Module, tag: data.View, chunk: Signal, here: Value, words: stream.Interface) -> Value:
        """Take the chunk's words one by one; returns whether the last is taken."""
        config = self._config
        word = Signal(range(config.words_per_chunk + 1))
        bytes_ = chunk.word_select(word, 8 * config.lanes)
        write = words.payload.write
        last = word + 1 == tag.words
        m.d.comb += [
            words.valid.eq(here),
            words.payload.last.eq(last & tag.block_last),
            write.address.eq(tag.address + word),
            write.columns.eq(-1),
        ]
        m.d.comb += [lane.eq(_sign_extended(bytes_, index)) for index, lane in enumerate(write.data)]
        with m.If(here & words.ready):
            m.d.sync += word.eq(Mux(last, 0, word + 1))
        return last & words.ready

    def _residual(self, m: Module, tag: data.View, chunk: Signal, here: Value, words: stream.Interface) -> Value:
        """Collect a word's lanes; it goes with its last chunk. Returns whether the chunk is taken."""
        config = self._config
        width = config.numerics.residual_width
        parts = chunks_per_residual_word(config)
        lanes = Cat(*(chunk.word_select(index, 32)[:width] for index in range(config.chunk_bytes // 4)))
        earlier = Signal((parts - 1) * len(lanes))
        last = tag.part == parts - 1
        taken = ~last | words.ready
        write = words.payload.write
        m.d.comb += [
            words.valid.eq(here & last),
            words.payload.last.eq(tag.block_last),
            write.address.eq(tag.address),
            write.columns.eq(-1),
            write.data.eq(Cat(earlier, lanes)),
        ]
        with m.If(here & taken):
            m.d.sync += earlier.eq(Cat(earlier, lanes)[len(lanes) :])
        return taken


def _word(port: stream.Interface) -> data.StructLayout:
    """A write on its way to a memory, and whether it is the last of its block or tile."""
    return data.StructLayout({"write": port.payload.shape(), "last": 1})


def _sign_extended(bytes_: Value, index: int) -> Value:
    """Byte ``index`` as a signed value, to be extended by what it is assigned to."""
    return bytes_.word_select(index, 8).as_signed()


class WeightStream(wiring.Component):
    """Prefetches the blocks of the weight stream and delivers them in order.

    Reads ahead across blocks as far as its beat buffer has room; weights also run ahead of execution as far as the two
    weight buffers of the banks and the parameter ring take them. Everything else waits until its command is current.

    Parameters
    ----------
    config:
        Sizes of the machine.

    Members
    -------
    job:
        Blocks in order of use (``stream_job_layout``). ``bytes`` is a multiple of the chunk size and covers the
        contents; more is padding, which is read and dropped. A block of no whole chunk is dropped.
    permit:
        Level: a STAGE, RESIDUAL or SHIFTS block may be delivered. Must be 0 in the cycle after ``done`` unless the next
        such block may follow.
    request, response:
        Client port of the AXI read master. Bursts of up to ``BURST_BEATS``, room reserved before asking.
    fill:
        G words for elements ``group * G`` onwards, to weight buffer b at ``b * weight_tile_words``; tiles alternate
        between the buffers, from buffer 0 after reset and on across blocks.
    parameters:
        Requantiser parameter sets.
    scratch_write, residual_write, shift_write:
        STAGE words (sign-extended bytes), RESIDUAL words (low bits of 4-byte lanes), and SHIFTS.
    tile_filled:
        Pulse, one cycle after a tile's last chunk was taken by ``fill``.
    tile_freed:
        Pulse: the engine has done with the older of the filled buffers.
    done:
        Pulse, one cycle after the last word of a STAGE, RESIDUAL or SHIFTS block was written.
    waiting:
        A block is being delivered and its next chunk has not come from memory.

    Timing: one chunk a cycle when memory gives it; memory to ``fill`` 6 cycles with one beat a chunk.
    Resources: ``stream_beats`` beats of block RAM.
    """

    BURST_BEATS = 32
    """Longest burst, within a page: short enough that several fit into the beat buffer while others arrive."""
    JOBS_AHEAD = 8
    """Blocks requested from memory whose delivery has not begun; one of them in the slice before the walker."""

    def __init__(self, config: AcceleratorConfig) -> None:
        self._config = config
        self._burst_beats = longest_burst(config, min(self.BURST_BEATS, config.stream_beats // 4))
        super().__init__(
            {
                "job": In(stream.Signature(stream_job_layout(config))),
                "permit": In(1),
                "request": Out(stream.Signature(read_request_layout(config))),
                "response": In(Strobe(8 * config.memory_bytes)),
                **_delivery_members(config),
                "tile_freed": In(1),
                "waiting": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Wire the request side, the beat buffer and the delivery side."""
        m = Module()
        config = self._config
        m.submodules.prefetcher = prefetcher = Prefetcher(
            config, depth=config.stream_beats, burst_beats=self._burst_beats
        )
        m.submodules.gearbox = gearbox = Gearbox(config)
        m.submodules.blocks = blocks = SyncFIFO(width=block_layout(config).size, depth=self.JOBS_AHEAD - 1)
        m.submodules.walker = walker = BlockWalker(config)
        m.submodules.writer = writer = ChunkWriter(config)
        m.submodules.described = described = HalfSlice(block_layout(config))
        connect(m, described.target, walker.block)
        # The walker looks at it two cycles after a block is done, so a register fits in.
        permit = Signal()
        m.d.sync += permit.eq(self.permit)
        self._accept(m, prefetcher.run, blocks)
        m.d.comb += [
            described.source.payload.eq(blocks.r_data),
            described.source.valid.eq(blocks.r_rdy),
            blocks.r_en.eq(described.source.ready),
            walker.permit.eq(permit),
            walker.tile_freed.eq(self.tile_freed),
            walker.done.eq(writer.done),
            self.tile_filled.eq(writer.tile_filled),
            self.done.eq(writer.done),
            self.waiting.eq(writer.tag.valid & ~gearbox.chunk.valid),
        ]
        connect(m, prefetcher.request, flipped(self.request))
        connect(m, flipped(self.response), prefetcher.response)
        m.submodules.beats = beats = RegisterSlice(prefetcher.beat.payload.shape())
        m.submodules.tags = tags = RegisterSlice(chunk_tag_layout(config))
        connect(m, prefetcher.beat, beats.source)
        connect(m, beats.target, gearbox.beat)
        connect(m, walker.tag, tags.source)
        connect(m, tags.target, writer.tag)
        connect(m, gearbox.chunk, writer.chunk)
        for name in ("fill", "parameters", "scratch_write", "residual_write", "shift_write"):
            connect(m, getattr(writer, name), flipped(getattr(self, name)))
        return m

    def _accept(self, m: Module, run: stream.Interface, blocks: SyncFIFO) -> None:
        """Send each job both ways: its bytes to the splitter, its contents to the walker."""
        config = self._config
        beats_per_chunk = config.chunk_bytes // config.memory_bytes
        job = self.job
        contents = Signal(block_layout(config))
        wanted = Signal()
        m.d.comb += [
            contents[name].eq(job.payload[name]) for name in ("kind", "channels", "tiles", "words", "base", "wide")
        ]
        m.d.comb += [
            contents.chunks.eq(job.payload.bytes >> exact_log2(config.chunk_bytes)),
            wanted.eq(contents.chunks != 0),
            blocks.w_data.eq(contents),
            run.payload.address.eq(job.payload.address),
            run.payload.beats_minus_one.eq(
                Cat(Const(beats_per_chunk - 1, exact_log2(beats_per_chunk)), contents.chunks - 1)
            ),
            run.valid.eq(job.valid & wanted & blocks.w_rdy),
            blocks.w_en.eq(job.valid & wanted & run.ready),
            job.ready.eq(~wanted | (blocks.w_rdy & run.ready)),
        ]
