"""PatchPacker: lines of pixels to words of patches."""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Mux, Signal, Value
from amaranth.lib import data, memory, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from hw.blocks.register_slice import RegisterSlice
from hw.config import AcceleratorConfig
from hw.interfaces.image import BLOCK_COLUMNS, run_tag_layout
from hw.interfaces.jobs import image_job_layout
from hw.interfaces.memory import scratch_write_layout


class PatchPacker(wiring.Component):
    """Scatters lines of pixels to the words of their patches, zero-extended, the tail of a patch's last word zero.

    A word takes ``step = min(patch, memory_bytes, T)`` pixels a cycle. Until it is full, which for patches narrower
    than T needs several lines, it stays in a small memory: one word for each patch of the block.

    ::

        beat ─► held ─► pick ─► picked pixels ─► merge ─┬─► RegisterSlice ─► scratch_write
                                     words begun ─────┘  └─► words begun

    Parameters
    ----------
    config:
        Sizes of the machine.

    Members
    -------
    start, job:
        Begin with this job, stable until the last word was taken.
    tag:
        One for each run; taken before its first pixel.
    beat:
        The beats of the runs, in order.
    scratch_write:
        Words of patch n at ``destination_base + n * destination_stride``. ``patch_last`` and ``image_last`` come with a
        patch's last word, and the image's.

    Timing: ``step`` pixels a cycle; a word is written ``LATENCY`` cycles after its last pixel came.
    Resources: ``BLOCK_COLUMNS`` words of T bytes in LUT RAM.
    """

    LATENCY = 2 + RegisterSlice.LATENCY

    def __init__(self, config: AcceleratorConfig) -> None:
        self._config = config
        super().__init__(
            {
                "start": In(1),
                "job": In(image_job_layout(config)),
                "tag": In(stream.Signature(run_tag_layout(config))),
                "beat": In(stream.Signature(8 * config.memory_bytes)),
                "scratch_write": Out(stream.Signature(scratch_write_layout(config))),
                "patch_last": Out(1),
                "image_last": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Pick the next pixels out of the beat, then merge them into their word."""
        m = Module()
        config = self._config
        most = min(config.memory_bytes, config.lanes)
        picked = Signal(
            data.StructLayout(
                {
                    "pixels": data.ArrayLayout(8, most),
                    "column": range(BLOCK_COLUMNS),
                    "lane": range(config.lanes),
                    "address": 16,
                    "patch_last": 1,
                    "image_last": 1,
                }
            )
        )
        picked_valid, proceed = Signal(), Signal()
        step = Signal(range(most + 1))
        # A job's step, and where the last one of a line of a patch begins: known before its first pixel comes.
        self._last_across = Signal(8)
        m.d.sync += [
            step.eq(Mux(self.job.patch < most, self.job.patch, most)),
            self._last_across.eq(self.job.patch - step),
        ]
        written = Signal(data.StructLayout({"write": scratch_write_layout(config), "patch_last": 1, "image_last": 1}))
        m.submodules.leaving = leaving = RegisterSlice(written.shape())
        m.d.comb += [
            proceed.eq(leaving.source.ready),
            leaving.source.payload.eq(written),
            leaving.target.ready.eq(self.scratch_write.ready),
            self.scratch_write.valid.eq(leaving.target.valid),
            self.scratch_write.payload.eq(leaving.target.payload.write),
            self.patch_last.eq(leaving.target.payload.patch_last),
            self.image_last.eq(leaving.target.payload.image_last),
        ]
        self._pick(m, step, proceed, picked, picked_valid)
        m.d.comb += leaving.source.valid.eq(self._merge(m, step, picked, written, picked_valid & proceed))
        return m

    def _pick(self, m: Module, step: Signal, proceed: Signal, picked: data.View, valid: Signal) -> None:
        """Take ``step`` pixels at a time from the beat, from where the run starts; tell where they belong."""
        width, job = self._config.memory_bytes, self.job
        across, passed, column, line_start = (
            Signal(8),
            Signal(range(max(2, width))),
            Signal.like(picked.column),
            Signal(16),
        )
        block_base, patch_base, next_base = Signal(16), Signal(16), Signal(16)
        offset, place = Signal.like(passed), Signal(16)
        piece_last, run_last, beat_last, takes = Signal(), Signal(), Signal(), Signal()
        # Block RAM and LUT RAM are read into registers first.
        beat, has_beat = Signal(8 * width), Signal()
        tag, has_tag = Signal(run_tag_layout(self._config)), Signal()
        m.d.comb += [
            takes.eq(has_beat & has_tag & proceed),
            self.beat.ready.eq(~has_beat | (takes & beat_last)),
            self.tag.ready.eq(~has_tag | (takes & run_last)),
            offset.eq((tag.offset + passed) & (width - 1)),
            place.eq(line_start | across),
            next_base.eq(patch_base + job.destination_stride),
            piece_last.eq(across == self._last_across),
            run_last.eq(piece_last & (column == tag.columns_minus_one)),
            beat_last.eq(run_last | (((offset + step) & (width - 1)) == 0)),
        ]
        for source, held, present in ((self.beat, beat, has_beat), (self.tag, tag, has_tag)):
            with m.If(source.ready):
                m.d.sync += [held.eq(source.payload), present.eq(source.valid)]
        with m.If(self.start):
            m.d.sync += [block_base.eq(job.destination_base), patch_base.eq(job.destination_base)]
        with m.Elif(takes):
            m.d.sync += [across.eq(Mux(piece_last, 0, across + step)), passed.eq(Mux(run_last, 0, passed + step))]
            with m.If(piece_last):
                m.d.sync += [column.eq(column + 1), patch_base.eq(next_base)]
            with m.If(run_last):
                m.d.sync += [column.eq(0), patch_base.eq(block_base), line_start.eq(line_start + job.patch)]
                with m.If(tag.patch_last):
                    m.d.sync += [block_base.eq(next_base), patch_base.eq(next_base), line_start.eq(0)]
        with m.If(proceed):
            m.d.sync += [
                valid.eq(takes),
                picked.column.eq(column),
                picked.lane.eq(place),
                picked.address.eq(patch_base + (place >> exact_log2(self._config.lanes))),
                picked.patch_last.eq(piece_last & tag.patch_last),
                picked.image_last.eq(run_last & tag.image_last),
            ]
            for index, pixel in enumerate(picked.pixels):
                # Pixel `index` counts only when the step exceeds it; the offset is then a multiple of that power.
                grain = index.bit_length()
                aligned = Cat(beat.word_select(i, 8) for i in range(index, width, 1 << grain))
                m.d.sync += pixel.eq(aligned.word_select(offset >> grain, 8))

    def _merge(self, m: Module, step: Signal, picked: data.View, written: data.View, moves: Value) -> Value:
        """Put the pixels at their lanes of the patch's word; returns whether it is full or its patch ends."""
        config, write = self._config, written.write
        word = data.ArrayLayout(8, config.lanes)
        m.submodules.begun = begun = memory.Memory(shape=word, depth=BLOCK_COLUMNS, init=[])
        before, after = begun.read_port(domain="comb"), begun.write_port()
        finished = Signal()
        m.d.comb += [
            finished.eq(picked.patch_last | (picked.lane + step == config.lanes)),
            before.addr.eq(picked.column),
            after.addr.eq(picked.column),
            after.en.eq(moves & ~finished),
            write.address.eq(picked.address),
            write.columns.eq(-1),
            written.patch_last.eq(picked.patch_last),
            written.image_last.eq(picked.image_last),
        ]
        for lane, target in enumerate(after.data):
            source, hit = Signal(8, name=f"source_{lane}"), Signal(name=f"hit_{lane}")
            with m.Switch(step):
                for exponent in range(exact_log2(len(picked.pixels)) + 1):
                    with m.Case(1 << exponent):
                        m.d.comb += [
                            source.eq(picked.pixels[lane % (1 << exponent)]),
                            hit.eq(picked.lane >> exponent == lane >> exponent),
                        ]
            m.d.comb += target.eq(Mux(hit, source, Mux(picked.lane == 0, 0, before.data[lane])))
        m.d.comb += [lane.eq(pixel) for lane, pixel in zip(write.data, after.data, strict=True)]
        return moves & finished
