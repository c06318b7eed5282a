"""The weight stream: every block of weights, parameters, staged words and initial residuals, prefetched in order."""

from __future__ import annotations

from amaranth.hdl import Cat, Const, Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped
from amaranth.utils import exact_log2

from tessera.hw.blocks.fields import assign
from tessera.hw.blocks.gearbox import Gearbox
from tessera.hw.blocks.pipeline import delay
from tessera.hw.blocks.queue import Queue
from tessera.hw.blocks.register_slice import HalfSlice, RegisterSlice
from tessera.hw.bus.bursts import longest_burst
from tessera.hw.bus.prefetch import Prefetcher
from tessera.hw.config import AcceleratorConfig
from tessera.hw.interfaces.axi import read_request_layout
from tessera.hw.interfaces.jobs import stream_job_layout
from tessera.hw.interfaces.sequencer import stream_report
from tessera.hw.interfaces.stream import ChunkDelivery, WeightTiles, block_layout, chunk_tag_layout
from tessera.hw.interfaces.strobe import Strobe
from tessera.hw.stream.blocks import BlockWalker
from tessera.hw.stream.chunk_writer import ChunkWriter


class WeightStream(wiring.Component):
    """Prefetches the blocks of the weight stream and delivers them in order.

    It reads ahead across blocks as far as its beat buffer has room. Weights also run ahead of execution, as far as the
    two weight buffers of the banks and the parameter ring take them. Everything else waits until its command is
    current.

    ::

        job ─┬─► Prefetcher ─► slice ─► Gearbox ────────────┬─► ChunkWriter ─► delivery
             └─► Queue ─► slice ─► BlockWalker ─► slice ────┘

    Parameters
    ----------
    config:
        Sizes of the machine.

    Members
    -------
    job: In(stream(stream_job))
        Blocks in order of use. ``bytes`` is a multiple of the chunk size and covers the contents. More is padding,
        which is read and dropped. A block of no whole chunk is dropped.
    report: Out(stream_report)
        ``permit`` says that a block other than WEIGHTS may be delivered, and ``done`` comes one cycle after its
        last word was written. ``permit`` must be 0 in the cycle after ``done`` unless the next such block may follow.
    request: Out(stream(read_request)), response: In(Strobe)
        Client port of the AXI read master. Bursts of up to ``BURST_BEATS``, room reserved before asking.
    delivery: Out(ChunkDelivery)
        Ports through which the blocks' contents leave.
    tiles: In(WeightTiles)
        Weight tiles in the banks. ``filled`` comes one cycle after a tile's last chunk was taken.

    Timing: one chunk per cycle when memory gives it; memory to ``fill`` 6 cycles with one beat per chunk.
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
                "report": Out(stream_report()),
                "request": Out(stream.Signature(read_request_layout(config))),
                "response": In(Strobe(8 * config.memory_bytes)),
                "delivery": Out(ChunkDelivery(config)),
                "tiles": In(WeightTiles()),
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
        m.submodules.blocks = blocks = Queue(block_layout(config), self.JOBS_AHEAD - 1)
        m.submodules.walker = walker = BlockWalker(config)
        m.submodules.writer = writer = ChunkWriter(config)
        # Slices cut the way from memory to the banks into pieces of a cycle each.
        m.submodules.described = described = HalfSlice(block_layout(config))
        m.submodules.beats = beats = RegisterSlice(prefetcher.beat.payload.shape())
        m.submodules.tags = tags = RegisterSlice(chunk_tag_layout(config))
        self._accept(m, prefetcher.run, blocks.source)
        connect(m, prefetcher.request, flipped(self.request))
        connect(m, flipped(self.response), prefetcher.response)
        connect(m, prefetcher.beat, beats.source)
        connect(m, beats.target, gearbox.beat)
        connect(m, gearbox.chunk, writer.chunk)
        connect(m, blocks.target, described.source)
        connect(m, described.target, walker.block)
        connect(m, walker.tag, tags.source)
        connect(m, tags.target, writer.tag)
        connect(m, writer.delivery, flipped(self.delivery))
        # The walker looks at it two cycles after a block is done, so there is time for a register.
        m.d.comb += [
            walker.permit.eq(delay(m, self.report.permit, 1, name="permit")),
            walker.tile_freed.eq(self.tiles.freed),
            walker.done.eq(writer.done),
            self.tiles.filled.eq(writer.tile_filled),
            self.report.done.eq(writer.done),
        ]
        return m

    def _accept(self, m: Module, run: stream.Interface, block: stream.Interface) -> None:
        """Send each job both ways: its bytes to the prefetcher, its contents to the walker."""
        config, job = self._config, self.job
        beats_per_chunk = config.chunk_bytes // config.memory_bytes
        wanted, chunks = Signal(), block.payload.chunks
        last_beat = Const(beats_per_chunk - 1, exact_log2(beats_per_chunk))
        m.d.comb += [
            *assign(block.payload, job.payload, chunks=job.payload.bytes >> exact_log2(config.chunk_bytes)),
            wanted.eq(chunks != 0),
            *assign(run.payload, job.payload, beats_minus_one=Cat(last_beat, chunks - 1)),
            run.valid.eq(job.valid & wanted & block.ready),
            block.valid.eq(job.valid & wanted & run.ready),
            job.ready.eq(~wanted | (block.ready & run.ready)),
        ]
