"""PatchWalker: the order in which an image's pixels are read."""

from __future__ import annotations

from functools import reduce
from operator import or_

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from tessera.hw.blocks.fields import assign
from tessera.hw.config import AcceleratorConfig
from tessera.hw.interfaces.image import BLOCK_COLUMNS, image_line_layout
from tessera.hw.interfaces.jobs import image_job_layout
from tessera.hw.interfaces.strobe import Work
from tessera.hw.isa import BYTE_ADDRESS_WIDTH, COUNT_WIDTH

COLOURS = 3
"""Planes of an image: red, green, blue."""

LARGEST_PATCH = 128
"""Largest edge of a patch, in pixels."""


class PatchWalker(wiring.Component):
    """Runs of beats that hold an image's pixels, block by block of patches beside each other.

    A block is at most ``BLOCK_COLUMNS`` patches of a grid row. It is wide enough for bursts of some length, and narrow
    enough for the packer to keep a word of each patch. A run is one line of one colour of a block.

    Parameters
    ----------
    config:
        Sizes of the machine.

    Members
    -------
    work: In(Work(image_job))
        The job, stable until the last run was taken.
    line: Out(stream(image_line))
        Lines of blocks in the order grid row, block, colour, line.

    Timing: the first run comes ``LATENCY`` cycles after the start; then one run per cycle.
    """

    LATENCY = 2

    def __init__(self, config: AcceleratorConfig) -> None:
        self._config = config
        super().__init__(
            {
                "work": In(Work(image_job_layout(config))),
                "line": Out(stream.Signature(image_line_layout(config))),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Walk; one register later the length of each line is known."""
        m = Module()
        job, run, tag = self.work.job, self.line.payload.run, self.line.payload.tag
        active, steps, last_column = Signal(), Signal(), Signal()
        address, patch_last, image_last = self._walk(m, steps, last_column)
        with m.If(self.work.start):
            m.d.sync += active.eq(1)
        with m.Elif(steps & image_last):
            m.d.sync += active.eq(0)

        # Only the last block of a grid row may hold fewer patches than fit.
        columns_minus_one = Mux(last_column, (job.grid_columns - 1)[: len(tag.columns_minus_one)], BLOCK_COLUMNS - 1)
        # The edge of a patch is a power of two, so that the product is one of a few shifts.
        found = Signal(
            data.StructLayout(
                {
                    "address": BYTE_ADDRESS_WIDTH,  # first byte of the line
                    "columns_minus_one": tag.columns_minus_one.shape(),  # number of patches, less one
                    "pixels_minus_one": range(BLOCK_COLUMNS * LARGEST_PATCH),  # length of the line, less one
                    "patch_last": 1,  # the patches' last line
                    "image_last": 1,  # the image's last line
                }
            )
        )
        powers = [
            Mux(job.patch[bit], Cat(Const((1 << bit) - 1, bit), columns_minus_one), 0) for bit in range(len(job.patch))
        ]
        free, width = Signal(), self._config.memory_bytes
        # Second stage: the walk goes on while the line before is taken.
        m.d.comb += [free.eq(~self.line.valid | self.line.ready), steps.eq(active & free)]
        with m.If(free):
            m.d.sync += [
                self.line.valid.eq(active),
                *assign(
                    found,
                    address=address,
                    columns_minus_one=columns_minus_one,
                    pixels_minus_one=reduce(or_, powers),
                    patch_last=patch_last,
                    image_last=image_last,
                ),
            ]
        beats_minus_one = (found.pixels_minus_one + tag.offset) >> exact_log2(width)
        m.d.comb += [
            *assign(run, found, beats_minus_one=beats_minus_one),
            *assign(tag, found, offset=found.address[: exact_log2(width)]),
        ]
        return m

    def _walk(self, m: Module, steps: Signal, last_column: Signal) -> tuple[Signal, Value, Value]:
        """Keep the address at which each loop began; step the innermost loop that is not at its end.

        Every loop counts down what is left of it. Whether its last round has come is known a cycle before. Returns a
        line's address, and whether it is the last line of its patches and of the image.
        """
        job = self.work.job
        address, plane, block, next_band = (
            Signal(BYTE_ADDRESS_WIDTH, name=n) for n in ("address", "plane", "block", "next_band")
        )
        lines, line_last = Signal.like(job.patch), Signal()
        colour, colour_last = Signal(range(COLOURS)), Signal()
        blocks, rows, row_last = Signal(COUNT_WIDTH), Signal(COUNT_WIDTH), Signal()
        first_block, patch_last = Signal(), Signal()
        m.d.comb += [patch_last.eq(line_last & colour_last), colour_last.eq(colour == COLOURS - 1)]
        below, after = Signal(BYTE_ADDRESS_WIDTH), Signal(BYTE_ADDRESS_WIDTH)
        m.d.comb += below.eq(address + job.row_bytes)
        with m.If(~line_last):
            m.d.comb += after.eq(below)
        with m.Elif(~colour_last):
            m.d.comb += after.eq(plane + job.plane_bytes)
        with m.Elif(~last_column):
            m.d.comb += after.eq(block + (job.patch << exact_log2(BLOCK_COLUMNS)))
        with m.Else():
            m.d.comb += after.eq(next_band)
        blocks_minus_one = (job.grid_columns - 1)[:COUNT_WIDTH] >> exact_log2(BLOCK_COLUMNS)
        whole_line = [lines.eq(job.patch - 1), line_last.eq(job.patch == 1)]
        whole_row = [blocks.eq(blocks_minus_one), last_column.eq(blocks_minus_one == 0), first_block.eq(1)]
        with m.If(self.work.start):
            m.d.sync += [start.eq(job.image_base + job.offset) for start in (address, plane, block)]
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
