"""A client of the read master that reads ahead: runs of beats in, the beats out."""

from __future__ import annotations

from amaranth.hdl import Module, Mux, Signal, unsigned
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from tessera.hw.blocks.checks import check
from tessera.hw.blocks.jobs import hand_over_while
from tessera.hw.blocks.queue import Queue
from tessera.hw.bus.bursts import BurstSplitter
from tessera.hw.config import AcceleratorConfig
from tessera.hw.interfaces.axi import beat_run_layout, read_request_layout
from tessera.hw.interfaces.strobe import Strobe


class Prefetcher(wiring.Component):
    """Requests runs of beats ahead of their use, as far as its buffer has room.

    Beats that are buffered and beats that are under way both take room.

    Parameters
    ----------
    config:
        Sizes of the machine.
    depth:
        Size of the buffer in beats; at least one burst.
    burst_beats:
        Longest burst, a power of two (:class:`tessera.hw.bus.bursts.BurstSplitter`).

    Members
    -------
    run:
        Runs of beats; :func:`tessera.hw.interfaces.axi.beat_run_layout`.
    request, response:
        Client port of the read master.
    beat:
        The beats of all runs, in order.

    Timing: response to ``beat`` 2 cycles; one beat per cycle; the place that a beat leaves is asked for again 2 cycles
    later. Resources: the buffer, in block RAM.
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
        """Split runs into bursts, hold a burst back until it has room, and buffer its beats."""
        m = Module()
        m.submodules.splitter = splitter = BurstSplitter(self._config, self._burst_beats)
        m.submodules.buffer = buffer = Queue(unsigned(8 * self._config.memory_bytes), self._depth, buffered=True)
        connect(m, flipped(self.run), splitter.run)
        connect(m, buffer.target, flipped(self.beat))
        burst, request = splitter.burst, self.request
        room = Signal(range(self._depth + 1), init=self._depth)
        fits, asked, left = Signal(), Signal(), Signal()
        hand_over_while(m, fits, burst, request)
        m.d.comb += [
            fits.eq(burst.payload.beats_minus_one < room),
            asked.eq(request.valid & request.ready),
            buffer.source.payload.eq(self.response.payload),
            buffer.source.valid.eq(self.response.valid),
        ]
        # The reader decides late in a cycle whether a beat leaves. Its place is not urgent, so a register tells of it.
        m.d.sync += [
            left.eq(self.beat.valid & self.beat.ready),
            room.eq(room - Mux(asked, burst.payload.beats_minus_one + 1, 0) + left),
        ]
        check(m, self.response.valid, buffer.source.ready, "a beat came for which there is no room")
        return m
