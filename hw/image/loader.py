"""LOAD_IMAGE: a planar image in memory to patch rows in the scratchpad."""

from __future__ import annotations

from amaranth.hdl import Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.fifo import SyncFIFO
from amaranth.lib.wiring import In, Out, connect, flipped

from hw.blocks.register_slice import RegisterSlice
from hw.bus.bursts import longest_burst
from hw.bus.prefetch import Prefetcher
from hw.config import AcceleratorConfig
from hw.image.packer import PatchPacker
from hw.image.walk import PatchWalker
from hw.interfaces.axi import read_request_layout
from hw.interfaces.image import run_tag_layout
from hw.interfaces.jobs import image_job_layout
from hw.interfaces.memory import scratch_write_layout
from hw.interfaces.strobe import Strobe


class ImageLoader(wiring.Component):
    """Loads a planar image of bytes, [colour][row][column], as rows of patches.

    Word ``destination_base + n * destination_stride + k / T``, lane ``k % T`` receives input
    ``k = (colour * patch + y) * patch + x`` of patch ``n = grid_row * grid_columns + grid_column``: the order of a
    flattened convolution kernel. Pixels are zero-extended; lanes after the last input of a patch's last word are zero.

    Parameters
    ----------
    config:
        Sizes of the machine.

    Members
    -------
    job:
        :func:`image_job`. Every piece of ``patch`` pixels (1 to 128, a power of two) lies at a multiple of
        min(patch, memory_bytes).
    request, response:
        Client port of the AXI read master, room reserved before asking. Lines of up to ``BLOCK_COLUMNS`` patches beside
        each other are read as runs of beats.
    scratch_write:
        Whole words.
    rows_done:
        Patches that are completely written, in raster order; of the last job when idle.
    done:
        Pulse, one cycle after the last word was written.

    Timing: ``min(patch, memory_bytes, T)`` pixels a cycle; ``BEATS_AHEAD`` beats under way hide the memory's latency.
    """

    BEATS_AHEAD = 128
    """Beats asked for and not yet packed."""
    BURST_BEATS = 32
    """Longest burst: several fit into the buffer, so that one is under way while another is packed."""
    RUNS_AHEAD = 16
    """Runs asked for and not yet packed."""

    def __init__(self, config: AcceleratorConfig) -> None:
        self._config = config
        super().__init__(
            {
                "job": In(stream.Signature(image_job_layout(config))),
                "request": Out(stream.Signature(read_request_layout(config))),
                "response": In(Strobe(8 * config.memory_bytes)),
                "scratch_write": Out(stream.Signature(scratch_write_layout(config))),
                "rows_done": Out(16),
                "done": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Walker and packer, with the beats and tags under way between them."""
        m = Module()
        config = self._config
        m.submodules.walker = walker = PatchWalker(config)
        m.submodules.packer = packer = PatchPacker(config)
        m.submodules.prefetcher = prefetcher = Prefetcher(
            config, depth=self.BEATS_AHEAD, burst_beats=longest_burst(config, self.BURST_BEATS)
        )
        m.submodules.tags = tags = SyncFIFO(width=run_tag_layout(config).size, depth=self.RUNS_AHEAD)
        connect(m, prefetcher.request, flipped(self.request))
        connect(m, flipped(self.response), prefetcher.response)
        connect(m, prefetcher.beat, packer.beat)
        connect(m, packer.scratch_write, flipped(self.scratch_write))
        m.submodules.walked = walked = RegisterSlice(walker.line.payload.shape())
        connect(m, walker.line, walked.source)
        line, run = walked.target, prefetcher.run
        m.d.comb += [
            run.payload.eq(line.payload.run),
            run.valid.eq(line.valid & tags.w_rdy),
            tags.w_data.eq(line.payload.tag),
            tags.w_en.eq(line.valid & run.ready),
            line.ready.eq(tags.w_rdy & run.ready),
            packer.tag.payload.eq(tags.r_data),
            packer.tag.valid.eq(tags.r_rdy),
            tags.r_en.eq(packer.tag.ready),
        ]
        self._sequence(m, walker, packer)
        return m

    def _sequence(self, m: Module, walker: PatchWalker, packer: PatchPacker) -> None:
        """Take a job, start on it, count its patches."""
        job, written = Signal(image_job_layout(self._config)), Signal()
        m.d.comb += [
            walker.job.eq(job),
            packer.job.eq(job),
            written.eq(packer.scratch_write.valid & packer.scratch_write.ready),
        ]
        m.d.sync += self.done.eq(written & packer.image_last)
        with m.If(written & packer.patch_last):
            m.d.sync += self.rows_done.eq(self.rows_done + 1)
        # One register a state: the sequencer's decisions follow from `ready`.
        idle, begin = Signal(init=1), Signal()
        m.d.comb += [self.job.ready.eq(idle), walker.start.eq(begin), packer.start.eq(begin)]
        m.d.sync += begin.eq(idle & self.job.valid)
        with m.If(idle):
            m.d.sync += [job.eq(self.job.payload), idle.eq(~self.job.valid)]
            with m.If(self.job.valid):
                m.d.sync += self.rows_done.eq(0)
        with m.Elif(self.done):
            m.d.sync += idle.eq(1)
