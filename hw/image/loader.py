"""LOAD_IMAGE: a planar image in memory to patch rows in the scratchpad."""

from __future__ import annotations

from amaranth.hdl import Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from tessera.hw.blocks.jobs import hand_over, take_job
from tessera.hw.blocks.queue import Queue
from tessera.hw.blocks.register_slice import RegisterSlice
from tessera.hw.bus.bursts import longest_burst
from tessera.hw.bus.prefetch import Prefetcher
from tessera.hw.config import AcceleratorConfig
from tessera.hw.image.packer import PatchPacker
from tessera.hw.image.walk import PatchWalker
from tessera.hw.interfaces.axi import read_request_layout
from tessera.hw.interfaces.image import run_tag_layout
from tessera.hw.interfaces.jobs import image_job_layout
from tessera.hw.interfaces.memory import scratch_write_layout
from tessera.hw.interfaces.sequencer import image_report
from tessera.hw.interfaces.strobe import Strobe


class ImageLoader(wiring.Component):
    """Loads a planar image of bytes, [colour][row][column], as rows of patches.

    Word ``destination_base + n * destination_stride + k / T``, lane ``k % T`` receives input
    ``k = (colour * patch + y) * patch + x`` of patch ``n = grid_row * grid_columns + grid_column``: the order of a
    flattened convolution kernel. Pixels are zero-extended. Lanes after the last input of a patch's last word are zero.

    ::

        job ─► PatchWalker ─┬─ runs ─► Prefetcher ─ beats ─► PatchPacker ─► scratch_write
                            └─ tags ─► Queue ────────────────────┘

    Parameters
    ----------
    config:
        Sizes of the machine.

    Members
    -------
    job: In(stream(image_job))
        Every piece of ``patch`` pixels (1 to 128, a power of two) lies at a multiple of min(patch, memory_bytes). The
        ``offset`` makes a part of an image the job: a block of its lines, for one.
    request: Out(stream(read_request)), response: In(Strobe)
        Client port of the AXI read master, room reserved before asking. Lines of up to ``BLOCK_COLUMNS`` patches beside
        each other are read as runs of beats.
    scratch_write: Out(stream(scratch_write))
        Whole words.
    report: Out(image_report)
        ``rows_done`` are the patches that are completely written, in raster order; those of the last job when idle.
        ``done`` comes one cycle after the last word was written.

    Timing: ``min(patch, memory_bytes, T)`` pixels per cycle. ``BEATS_AHEAD`` beats under way hide the memory's latency.
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
                "report": Out(image_report()),
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
        m.submodules.tags = tags = Queue(run_tag_layout(config), self.RUNS_AHEAD)
        connect(m, prefetcher.request, flipped(self.request))
        connect(m, flipped(self.response), prefetcher.response)
        connect(m, prefetcher.beat, packer.beat)
        connect(m, tags.target, packer.tag)
        hand_over(m, packer.word, self.scratch_write)
        m.submodules.walked = walked = RegisterSlice(walker.line.payload.shape())
        connect(m, walker.line, walked.source)
        # A line goes both ways at once: its beats to the prefetcher, its tag to the packer.
        line, run = walked.target, prefetcher.run
        m.d.comb += [
            run.payload.eq(line.payload.run),
            run.valid.eq(line.valid & tags.source.ready),
            tags.source.payload.eq(line.payload.tag),
            tags.source.valid.eq(line.valid & run.ready),
            line.ready.eq(tags.source.ready & run.ready),
            self.scratch_write.payload.eq(packer.word.payload.write),
        ]
        self._sequence(m, walker, packer)
        return m

    def _sequence(self, m: Module, walker: PatchWalker, packer: PatchPacker) -> None:
        """Take a job, begin it, count its patches."""
        word, written = packer.word, Signal()
        work = take_job(m, self.job, self.report.done)
        connect(m, work, walker.work, packer.work)
        m.d.comb += written.eq(word.valid & word.ready)
        m.d.sync += self.report.done.eq(written & word.payload.image_last)
        with m.If(written & word.payload.patch_last):
            m.d.sync += self.report.rows_done.eq(self.report.rows_done + 1)
        with m.If(self.job.valid & self.job.ready):
            m.d.sync += self.report.rows_done.eq(0)
