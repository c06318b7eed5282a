"""A client of the read master that reads ahead: runs of beats in, the beats out."""

from __future__ import annotations

from amaranth.hdl import Assert, Module, Mux, ResetSignal, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.fifo import SyncFIFOBuffered
from amaranth.lib.wiring import In, Out, connect, flipped

from hw.bus.bursts import BurstSplitter
from hw.config import AcceleratorConfig
from hw.interfaces.axi import beat_run_layout, read_request_layout
from hw.interfaces.strobe import Strobe


class Prefetcher(wiring.Component):
    """Requests runs of beats ahead of their use, as far as its buffer has room beside what is buffered or under way.

    Parameters
    ----------
    config:
        Sizes of the machine.
    depth:
        Beats of the buffer; at least one burst.
    burst_beats:
        Longest burst, a power of two (:class:`hw.bus.bursts.BurstSplitter`).

    Members
    -------
    run:
        Runs of beats; :func:`hw.interfaces.axi.beat_run_layout`.
    request, response:
        Client port of the read master.
    beat:
        The beats of all runs, in order.

    Timing: response to ``beat`` 2 cycles; one beat a cycle; what a beat leaves is asked for again 2 cycles later.
    Resources: the buffer, in block RAM.
    """

    LATENCY = 2
    RETURN_LATENCY = 2

    def __init__(self, config: AcceleratorConfig, *, depth: int, burst_beats: int) -> None:
        self._config = config
        self._depth = depth
        self._burst_beats = burst_beats
        super().__init__(
            {
                "run": In(stream.Signature(beat_run_layout())),
                "request": Out(stream.Signature(read_request_layout(config))),
                "response": In(Strobe(8 * config.memory_bytes)),
                "beat": Out(stream.Signature(8 * config.memory_bytes)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Split, hold back what has no room yet, buffer."""
        m = Module()
        m.submodules.splitter = splitter = BurstSplitter(self._config, self._burst_beats)
        m.submodules.buffer = buffer = SyncFIFOBuffered(width=8 * self._config.memory_bytes, depth=self._depth)
        connect(m, flipped(self.run), splitter.run)
        burst = splitter.burst
        room = Signal(range(self._depth + 1), init=self._depth)
        fits, asked, left = Signal(), Signal(), Signal()
        m.d.comb += [
            fits.eq(burst.payload.beats_minus_one < room),
            self.request.payload.eq(burst.payload),
            self.request.valid.eq(burst.valid & fits),
            burst.ready.eq(self.request.ready & fits),
            asked.eq(self.request.valid & self.request.ready),
            buffer.w_data.eq(self.response.payload),
            buffer.w_en.eq(self.response.valid),
            self.beat.payload.eq(buffer.r_data),
            self.beat.valid.eq(buffer.r_rdy),
            buffer.r_en.eq(self.beat.ready),
        ]
        # Whether a beat leaves is known late, and its place is not urgent.
        m.d.sync += [
            left.eq(self.beat.valid & self.beat.ready),
            room.eq(room - Mux(asked, burst.payload.beats_minus_one + 1, 0) + left),
        ]
        with m.If(self.response.valid & ~ResetSignal()):
            m.d.sync += Assert(buffer.w_rdy, "a beat came for which there is no room")
        return m
