"""PatchPacker: lines of pixels to words of patches."""

from __future__ import annotations

from dataclasses import dataclass

from amaranth.hdl import Cat, Module, Mux, Signal, Value
from amaranth.lib import data, memory, stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped
from amaranth.utils import exact_log2

from tessera.hw.blocks.fields import assign, same_fields
from tessera.hw.blocks.register_slice import RegisterSlice
from tessera.hw.config import AcceleratorConfig
from tessera.hw.interfaces.image import BLOCK_COLUMNS, patch_word_layout, run_tag_layout
from tessera.hw.interfaces.jobs import image_job_layout
from tessera.hw.interfaces.strobe import Work
from tessera.hw.isa import ADDRESS_WIDTH

PIXEL_BITS = 8
"""Bits of a pixel's colour."""


@dataclass(frozen=True, kw_only=True)
class _Steps:
    """How many pixels are packed at a time, and when.

    Parameters
    ----------
    pixels:
        Pixels per step: a power of two.
    last_across:
        Pixel of a patch's line at which its last step begins.
    proceed:
        The stages move.
    """

    pixels: Signal
    last_across: Signal
    proceed: Signal


class PatchPacker(wiring.Component):
    """Scatters lines of pixels to the words of their patches, zero-extended, the tail of a patch's last word zero.

    A word takes ``step = min(patch, memory_bytes, T)`` pixels per cycle. For patches narrower than T a word needs
    several lines. Until it is full it stays in a small memory: one word per patch of the block.

    ::

        beat ─► held ─► pick ─► picked pixels ─► merge ─┬─► RegisterSlice ─► word
                                     words begun ─────┘  └─► words begun

    Parameters
    ----------
    config:
        Sizes of the machine.

    Members
    -------
    work: In(Work(image_job))
        The job, stable until the last word was taken.
    tag: In(stream(run_tag))
        One tag per run, taken before its first pixel.
    beat: In(stream)
        The beats of the runs, in order.
    word: Out(stream(patch_word))
        Finished words. Those of patch n lie at ``destination_base + n * destination_stride``.

    Timing: ``step`` pixels per cycle. A word leaves ``LATENCY`` cycles after its last pixel came.
    Resources: ``BLOCK_COLUMNS`` words of T bytes in LUT RAM.
    """

    LATENCY = 2 + RegisterSlice.LATENCY

    def __init__(self, config: AcceleratorConfig) -> None:
        self._config = config
        super().__init__(
            {
                "work": In(Work(image_job_layout(config))),
                "tag": In(stream.Signature(run_tag_layout(config))),
                "beat": In(stream.Signature(8 * config.memory_bytes)),
                "word": Out(stream.Signature(patch_word_layout(config))),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Pick the next pixels out of the beat, then merge them into their word."""
        m = Module()
        config, job = self._config, self.work.job
        most = min(config.memory_bytes, config.lanes)
        picked = Signal(
            data.StructLayout(
                {
                    "pixels": data.ArrayLayout(PIXEL_BITS, most),  # pixels of one step
                    "column": range(BLOCK_COLUMNS),  # patch of the block
                    "lane": range(config.lanes),  # lane of the first pixel
                    "address": ADDRESS_WIDTH,  # word that they belong to
                    "patch_last": 1,  # the patch's last pixels
                    "image_last": 1,  # the image's last pixels
                }
            )
        )
        picked_valid = Signal()
        # Both follow from the job, whose first pixel comes much later: so they may be registers.
        steps = _Steps(pixels=Signal(range(most + 1)), last_across=Signal.like(job.patch), proceed=Signal())
        m.d.sync += [
            steps.pixels.eq(Mux(job.patch < most, job.patch, most)),
            steps.last_across.eq(job.patch - steps.pixels),
        ]
        m.submodules.leaving = leaving = RegisterSlice(patch_word_layout(config))
        connect(m, leaving.target, flipped(self.word))
        m.d.comb += steps.proceed.eq(leaving.source.ready)
        self._pick(m, steps, picked, picked_valid)
        full = self._merge(m, steps.pixels, picked, leaving.source.payload, picked_valid & steps.proceed)
        m.d.comb += leaving.source.valid.eq(full)
        return m

    def _pick(self, m: Module, steps: _Steps, picked: data.View, valid: Signal) -> None:
        """Take the pixels of a step from the beat, from where the run starts, and say where they belong."""
        width, job, step = self._config.memory_bytes, self.work.job, steps.pixels
        across, passed = Signal.like(job.patch), Signal(range(max(2, width)))
        column, line_start = Signal.like(picked.column), Signal(2 * len(job.patch))
        block_base, patch_base, next_base = Signal(ADDRESS_WIDTH), Signal(ADDRESS_WIDTH), Signal(ADDRESS_WIDTH)
        offset, place = Signal.like(passed), Signal.like(line_start)
        piece_last, run_last, beat_last, takes = Signal(), Signal(), Signal(), Signal()
        # First stage: beat and tag come from block RAM and LUT RAM, so they are kept in registers.
        beat, has_beat = Signal(PIXEL_BITS * width), Signal()
        tag, has_tag = Signal(run_tag_layout(self._config)), Signal()
        m.d.comb += [
            takes.eq(has_beat & has_tag & steps.proceed),
            self.beat.ready.eq(~has_beat | (takes & beat_last)),
            self.tag.ready.eq(~has_tag | (takes & run_last)),
            offset.eq((tag.offset + passed) & (width - 1)),
            place.eq(line_start | across),
            next_base.eq(patch_base + job.destination_stride),
            piece_last.eq(across == steps.last_across),
            run_last.eq(piece_last & (column == tag.columns_minus_one)),
            beat_last.eq(run_last | (((offset + step) & (width - 1)) == 0)),
        ]
        for source, held, present in ((self.beat, beat, has_beat), (self.tag, tag, has_tag)):
            with m.If(source.ready):
                m.d.sync += [held.eq(source.payload), present.eq(source.valid)]
        with m.If(self.work.start):
            m.d.sync += [block_base.eq(job.destination_base), patch_base.eq(job.destination_base)]
        with m.Elif(takes):
            m.d.sync += [across.eq(Mux(piece_last, 0, across + step)), passed.eq(Mux(run_last, 0, passed + step))]
            with m.If(piece_last):
                m.d.sync += [column.eq(column + 1), patch_base.eq(next_base)]
            with m.If(run_last):
                m.d.sync += [column.eq(0), patch_base.eq(block_base), line_start.eq(line_start + job.patch)]
                with m.If(tag.patch_last):
                    m.d.sync += [block_base.eq(next_base), patch_base.eq(next_base), line_start.eq(0)]
        # Second stage: the picked pixels.
        with m.If(steps.proceed):
            m.d.sync += [
                valid.eq(takes),
                *assign(
                    picked,
                    pixels=[_pixel(beat, width, offset, index) for index in range(len(picked.pixels))],
                    column=column,
                    lane=place,
                    address=patch_base + (place >> exact_log2(self._config.lanes)),
                    patch_last=piece_last & tag.patch_last,
                    image_last=run_last & tag.image_last,
                ),
            ]

    def _merge(self, m: Module, step: Signal, picked: data.View, finished: data.View, moves: Value) -> Value:
        """Put the pixels at their lanes of the patch's word; returns whether it is full or its patch ends."""
        config, write = self._config, finished.write
        word = data.ArrayLayout(PIXEL_BITS, config.lanes)
        m.submodules.begun = begun = memory.Memory(shape=word, depth=BLOCK_COLUMNS, init=[])
        before, after = begun.read_port(domain="comb"), begun.write_port()
        full = Signal()
        m.d.comb += [
            full.eq(picked.patch_last | (picked.lane + step == config.lanes)),
            before.addr.eq(picked.column),
            after.addr.eq(picked.column),
            after.en.eq(moves & ~full),
            *assign(write, address=picked.address, columns=-1, data=list(after.data)),
            *same_fields(finished, picked, "patch_last", "image_last"),
        ]
        # The first pixels of a word clear its other lanes: nothing is left there of the word before.
        for lane, target in enumerate(after.data):
            source, hit = Signal(PIXEL_BITS, name=f"source_{lane}"), Signal(name=f"hit_{lane}")
            with m.Switch(step):
                for exponent in range(exact_log2(len(picked.pixels)) + 1):
                    with m.Case(1 << exponent):
                        m.d.comb += [
                            source.eq(picked.pixels[lane % (1 << exponent)]),
                            hit.eq(picked.lane >> exponent == lane >> exponent),
                        ]
            m.d.comb += target.eq(Mux(hit, source, Mux(picked.lane == 0, 0, before.data[lane])))
        return moves & full


def _pixel(beat: Value, width: int, offset: Value, index: int) -> Value:
    """Pixel ``index`` of a step, at ``offset`` in a beat of ``width`` pixels; counts only if the step exceeds it."""
    # The offset is then a multiple of this power of two.
    grain = index.bit_length()
    aligned = Cat(beat.word_select(i, PIXEL_BITS) for i in range(index, width, 1 << grain))
    return aligned.word_select(offset >> grain, PIXEL_BITS)
