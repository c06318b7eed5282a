"""PatchWalker: the order in which an image's pixels are read."""

from __future__ import annotations

from functools import reduce
from operator import or_

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from hw.bus.bursts import beat_run
from hw.config import AcceleratorConfig

COLOURS = 3

LARGEST_PATCH = 128

BLOCK_COLUMNS = 16
"""Patches beside each other of which one line is read at once."""


def image_job(config: AcceleratorConfig) -> data.StructLayout:
    """Fields of LOAD_IMAGE, and the image's address."""
    return data.StructLayout(
        {
            "destination_base": 16,
            "destination_stride": 16,
            "patch": 8,
            "grid_rows": 16,
            "grid_columns": 16,
            "row_bytes": 32,
            "plane_bytes": 32,
            "image_base": 32,
        }
    )


def run_tag(config: AcceleratorConfig) -> data.StructLayout:
    """What the packer must know of a run of beats.

    ``offset`` is the first pixel's place in the first beat. The run holds a line of ``columns_minus_one + 1`` patches,
    with ``patch_last`` their last one, with ``image_last`` the image's.
    """
    return data.StructLayout(
        {
            "offset": range(max(2, config.memory_bytes)),
            "columns_minus_one": range(BLOCK_COLUMNS),
            "patch_last": 1,
            "image_last": 1,
        }
    )


class PatchWalker(wiring.Component):
    """Runs of beats that hold an image's pixels, block by block of patches beside each other.

    A block is at most ``BLOCK_COLUMNS`` patches of a grid row: wide enough for bursts of some length, and few enough
    for the packer to keep a word of each. A run is one line of one colour of a block.

    Parameters
    ----------
    config:
        Sizes of the machine.

    Members
    -------
    start, job:
        Begin with this job, stable until the last run was taken.
    line:
        ``run`` of beats (:func:`hw.bus.bursts.beat_run`) and its ``tag``. Order: grid row, block, colour, line.

    Timing: the first run ``LATENCY`` cycles after ``start``; one run a cycle.
    """

    LATENCY = 2

    def __init__(self, config: AcceleratorConfig) -> None:
        self._config = config
        line = data.StructLayout({"run": beat_run(), "tag": run_tag(config)})
        super().__init__(
            {
                "start": In(1),
                "job": In(image_job(config)),
                "line": Out(stream.Signature(line)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Walk, and a register later say how long each line is."""
        m = Module()
        job, run, tag = self.job, self.line.payload.run, self.line.payload.tag
        active, steps, last_column = Signal(), Signal(), Signal()
        address, patch_last, image_last = self._walk(m, steps, last_column)
        with m.If(self.start):
            m.d.sync += active.eq(1)
        with m.Elif(steps & image_last):
            m.d.sync += active.eq(0)

        # Of a block that is not full, and of a full one.
        columns_minus_one = Mux(last_column, (job.grid_columns - 1)[: len(tag.columns_minus_one)], BLOCK_COLUMNS - 1)
        # Patch is a power of two: a product takes as many gates as there are of them.
        pixels_minus_one = Signal(range(BLOCK_COLUMNS * LARGEST_PATCH))
        powers = [
            Mux(job.patch[bit], Cat(Const((1 << bit) - 1, bit), columns_minus_one), 0) for bit in range(len(job.patch))
        ]
        free, width = Signal(), self._config.memory_bytes
        m.d.comb += [free.eq(~self.line.valid | self.line.ready), steps.eq(active & free)]
        with m.If(free):
            m.d.sync += [
                self.line.valid.eq(active),
                run.address.eq(address),
                tag.columns_minus_one.eq(columns_minus_one),
                tag.patch_last.eq(patch_last),
                tag.image_last.eq(image_last),
                pixels_minus_one.eq(reduce(or_, powers)),
            ]
        m.d.comb += [
            tag.offset.eq(run.address[: exact_log2(width)]),
            run.beats_minus_one.eq((pixels_minus_one + tag.offset) >> exact_log2(width)),
        ]
        return m

    def _walk(self, m: Module, steps: Signal, last_column: Signal) -> tuple[Signal, Value, Value]:
        """Keep the addresses at which each loop began; step the innermost that is not at its end.

        Every loop counts down what is left of it, and whether that is the last is known a cycle before. Returns a
        line's address, and whether it is the last of its patches and of the image.
        """
        job = self.job
        address, plane, block, next_band = (Signal(32, name=n) for n in ("address", "plane", "block", "next_band"))
        lines, line_last = Signal(8), Signal()
        colour, colour_last = Signal(range(COLOURS)), Signal()
        blocks, rows, row_last = Signal(16), Signal(16), Signal()
        first_block, patch_last = Signal(), Signal()
        m.d.comb += [patch_last.eq(line_last & colour_last), colour_last.eq(colour == COLOURS - 1)]
        below, after = Signal(32), Signal(32)
        m.d.comb += below.eq(address + job.row_bytes)
        with m.If(~line_last):
            m.d.comb += after.eq(below)
        with m.Elif(~colour_last):
            m.d.comb += after.eq(plane + job.plane_bytes)
        with m.Elif(~last_column):
            m.d.comb += after.eq(block + (job.patch << exact_log2(BLOCK_COLUMNS)))
        with m.Else():
            m.d.comb += after.eq(next_band)
        blocks_minus_one = (job.grid_columns - 1)[:16] >> exact_log2(BLOCK_COLUMNS)
        whole_line = [lines.eq(job.patch - 1), line_last.eq(job.patch == 1)]
        whole_row = [blocks.eq(blocks_minus_one), last_column.eq(blocks_minus_one == 0), first_block.eq(1)]
        with m.If(self.start):
            m.d.sync += [start.eq(job.image_base) for start in (address, plane, block)]
            m.d.sync += [*whole_line, *whole_row, colour.eq(0)]
            m.d.sync += [rows.eq(job.grid_rows - 1), row_last.eq(job.grid_rows == 1)]
        with m.Elif(steps):
            m.d.sync += [address.eq(after), lines.eq(lines - 1), line_last.eq(lines == 1)]
            with m.If(line_last):
                m.d.sync += [plane.eq(after), colour.eq(Mux(colour_last, 0, colour + 1)), *whole_line]
                with m.If((colour == 0) & first_block):
                    m.d.sync += next_band.eq(below)
            with m.If(patch_last):
                m.d.sync += [block.eq(after), blocks.eq(blocks - 1), last_column.eq(blocks == 1), first_block.eq(0)]
                with m.If(last_column):
                    m.d.sync += [*whole_row, rows.eq(rows - 1), row_last.eq(rows == 1)]
        return address, patch_last, patch_last & last_column & row_last
