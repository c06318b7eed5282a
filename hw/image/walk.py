"""PatchWalker: the order in which an image's pixels are read."""

from __future__ import annotations

from functools import reduce
from operator import or_

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from hw.config import AcceleratorConfig
from hw.interfaces.axi import beat_run_layout
from hw.interfaces.image import BLOCK_COLUMNS, run_tag_layout
from hw.interfaces.jobs import image_job_layout

COLOURS = 3

LARGEST_PATCH = 128


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
        ``run`` of beats (``hw.interfaces.axi``) and its ``tag``. Order: grid row, block, colour, line.

    Timing: the first run ``LATENCY`` cycles after ``start``; one run a cycle.
    """

    LATENCY = 2

    def __init__(self, config: AcceleratorConfig) -> None:
        self._config = config
        line = data.StructLayout({"run": beat_run_layout(), "tag": run_tag_layout(config)})
        super().__init__(
            {
                "start": In(1),
                "job": In(image_job_layout(config)),
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
