"""Splitting a run of memory beats into AXI bursts."""

from __future__ import annotations

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from tessera.hw.blocks.register_slice import RegisterSlice
from tessera.hw.config import AcceleratorConfig
from tessera.hw.interfaces.axi import INCREMENTING, beat_run_layout, read_request_layout

PAGE_BYTES = 4096
"""AXI4 (section A3.4.1): a burst must not cross a boundary of this many bytes."""


def longest_burst(config: AcceleratorConfig, wanted: int = 256) -> int:
    """Largest power of two of beats that is at most ``wanted``, allowed by AXI and within a page."""
    beats = min(wanted, 256, PAGE_BYTES // config.memory_bytes)
    return 1 << (beats.bit_length() - 1)


def show_burst(m: Module, config: AcceleratorConfig, channel: stream.Interface, moves: Value, burst: data.View) -> None:
    """Show a burst on an address channel, from registers, until it is accepted.

    Parameters
    ----------
    channel:
        ``ar`` or ``aw`` of a bus, as its master sees it.
    moves:
        1 in the cycle before the burst is shown. Give it only while the channel is free or accepts a burst.
    burst:
        Burst with the fields of ``read_request_layout``.
    """
    m.d.comb += [
        channel.payload.size.eq(exact_log2(config.memory_bytes)),
        channel.payload.burst.eq(INCREMENTING),
    ]
    with m.If(moves):
        m.d.sync += [
            channel.valid.eq(1),
            channel.payload.addr.eq(burst.address),
            channel.payload.len.eq(burst.beats_minus_one),
        ]
    with m.Elif(channel.ready):
        m.d.sync += channel.valid.eq(0)


class BurstSplitter(wiring.Component):
    """Cuts runs of beats at multiples of the burst length, hence never across a page.

    Parameters
    ----------
    config:
        Sizes of the machine.
    burst_beats:
        Longest burst in beats, a power of two; ``burst_beats * memory_bytes`` divides 4 KiB.

    Members
    -------
    run:
        Runs of beats; :func:`tessera.hw.interfaces.axi.beat_run_layout`.
    burst:
        Their bursts in order.
    busy:
        1 while a burst has yet to be accepted.

    Timing: the first burst ``LATENCY`` cycles after its run; one burst per cycle, one idle cycle between two runs.

    Raises
    ------
    ValueError
        The burst is not a power of two or exceeds what AXI allows.
    """

    LATENCY = 1 + RegisterSlice.LATENCY

    def __init__(self, config: AcceleratorConfig, burst_beats: int) -> None:
        if burst_beats < 1 or longest_burst(config, burst_beats) != burst_beats:
            limit = longest_burst(config)
            raise ValueError(f"burst_beats is {burst_beats}; choose a power of two from 1 to {limit}")
        self._config = config
        self._burst_beats = burst_beats
        super().__init__(
            {
                "run": In(stream.Signature(beat_run_layout())),
                "burst": Out(stream.Signature(read_request_layout(config))),
                "busy": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Keep the rest of the run; offer what fits before the next boundary."""
        m = Module()
        shift = exact_log2(self._config.memory_bytes)
        inside = exact_log2(self._burst_beats)
        beat = Signal(32 - shift)
        left_minus_one = Signal(32)
        active = Signal()
        room_minus_one = Signal(max(1, inside))
        last = Signal()
        # A slice behind the comparison of 32 bits, so that whoever takes the bursts has a whole cycle for its choice.
        m.submodules.found = found = RegisterSlice(self.burst.payload.shape())
        wiring.connect(m, found.target, wiring.flipped(self.burst))
        burst = found.source
        m.d.comb += [
            room_minus_one.eq(~beat[:inside] if inside else 0),
            last.eq(left_minus_one <= room_minus_one),
            burst.valid.eq(active),
            burst.payload.address.eq(Cat(Const(0, shift), beat)),
            burst.payload.beats_minus_one.eq(Mux(last, left_minus_one, room_minus_one)),
            self.run.ready.eq(~active),
            self.busy.eq(active | self.burst.valid),
        ]
        # Every burst but the last ends at a boundary, so the next one begins at one.
        with m.If(burst.valid & burst.ready):
            m.d.sync += [
                beat.eq(Cat(Const(0, inside), beat[inside:] + 1)),
                left_minus_one.eq(left_minus_one - room_minus_one - 1),
                active.eq(~last),
            ]
        with m.If(self.run.valid & self.run.ready):
            m.d.sync += [
                beat.eq(self.run.payload.address >> shift),
                left_minus_one.eq(self.run.payload.beats_minus_one),
                active.eq(1),
            ]
        return m
