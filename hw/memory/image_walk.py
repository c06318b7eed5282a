"""PatchWalker: the order in which an image's pixels are read."""

from __future__ import annotations

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from hw.bus.bursts import beat_run
from hw.config import AcceleratorConfig

COLOURS = 3

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

    Timing: one run a cycle.
    """

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
        """Keep the addresses at which each loop began; step the innermost that is not at its end."""
        m = Module()
        job, tag, width = self.job, self.line.payload.tag, self._config.memory_bytes
        address, plane, block, next_band = (Signal(32, name=n) for n in ("address", "plane", "block", "next_band"))
        line, colour, columns_left, row = Signal(8), Signal(range(COLOURS)), Signal(16), Signal(16)
        columns, active = Signal(range(BLOCK_COLUMNS + 1)), Signal()
        ends = {
            "line": line + 1 == job.patch,
            "colour": colour == COLOURS - 1,
            "column": columns_left <= BLOCK_COLUMNS,
            "row": row + 1 == job.grid_rows,
        }
        # Pixels of a line of the last block of a grid row, whose columns may be fewer; known before the walk begins.
        column_bits = exact_log2(BLOCK_COLUMNS)
        last_pixels = Signal(range(BLOCK_COLUMNS * 128 + 1))
        rest = job.grid_columns[:column_bits]
        m.d.sync += last_pixels.eq(Mux(rest == 0, job.patch << column_bits, rest * job.patch))
        beyond = Signal(range(BLOCK_COLUMNS * 128 + 2 * width))
        m.d.comb += [
            columns.eq(Mux(ends["column"], columns_left, BLOCK_COLUMNS)),
            beyond.eq(Mux(ends["column"], last_pixels, job.patch << column_bits) + tag.offset + (width - 1)),
            tag.offset.eq(address[: exact_log2(width)]),
            tag.columns_minus_one.eq(columns - 1),
            tag.patch_last.eq(ends["line"] & ends["colour"]),
            tag.image_last.eq(tag.patch_last & ends["column"] & ends["row"]),
            self.line.valid.eq(active),
            self.line.payload.run.address.eq(address),
            self.line.payload.run.beats_minus_one.eq((beyond >> exact_log2(width)) - 1),
        ]
        below, after = Signal(32), Signal(32)
        m.d.comb += below.eq(address + job.row_bytes)
        with m.If(~ends["line"]):
            m.d.comb += after.eq(below)
        with m.Elif(~ends["colour"]):
            m.d.comb += after.eq(plane + job.plane_bytes)
        with m.Elif(~ends["column"]):
            m.d.comb += after.eq(block + (job.patch << column_bits))
        with m.Else():
            m.d.comb += after.eq(next_band)
        with m.If(self.start):
            m.d.sync += [start.eq(job.image_base) for start in (address, plane, block)]
            m.d.sync += [columns_left.eq(job.grid_columns), active.eq(1)]
        with m.Elif(self.line.valid & self.line.ready):
            m.d.sync += [address.eq(after), line.eq(Mux(ends["line"], 0, line + 1)), active.eq(~tag.image_last)]
            with m.If(ends["line"]):
                m.d.sync += [plane.eq(after), colour.eq(Mux(ends["colour"], 0, colour + 1))]
                with m.If((colour == 0) & (columns_left == job.grid_columns)):
                    m.d.sync += next_band.eq(below)
            with m.If(tag.patch_last):
                m.d.sync += [
                    block.eq(after),
                    columns_left.eq(Mux(ends["column"], job.grid_columns, columns_left - BLOCK_COLUMNS)),
                ]
                with m.If(ends["column"]):
                    m.d.sync += row.eq(Mux(ends["row"], 0, row + 1))
        return m
