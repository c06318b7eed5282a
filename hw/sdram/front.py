"""BurstFront: where bursts of a client wait until they may be asked for."""

from __future__ import annotations

from amaranth.hdl import Cat, Const, Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from tessera.hw.config import AcceleratorConfig
from tessera.hw.interfaces.axi import burst_layout
from tessera.hw.interfaces.sdram import WORD_BITS, burst_request_layout, words_per_beat


class BurstFront(wiring.Component):
    """Keeps one burst at a time. It asks for a burst inside the memory, and counts off the beats of one outside.

    Parameters
    ----------
    config:
        Sizes of the machine: the width of the bus.
    size_bytes:
        Size of the memory, a power of two.

    Members
    -------
    burst:
        Bursts of the client.
    request:
        Bursts inside the memory, each once it may be asked for.
    may_ask:
        Nothing holds up a burst of this length any more.
    granted:
        A request is taken.
    beats_minus_one:
        Length of the burst in beats, less one; of a refused burst, the beats left behind the next one.
    outside:
        A burst outside the memory waits.
    drop:
        One beat of the burst outside is dealt with.
    refused:
        With ``drop``: that was its last beat.

    Timing: burst to ``request`` 2 cycles; a burst every 3 cycles.
    """

    def __init__(self, config: AcceleratorConfig, size_bytes: int) -> None:
        self._address_bits = exact_log2(size_bytes)
        self._words = words_per_beat(config)
        super().__init__(
            {
                "burst": In(stream.Signature(burst_layout())),
                "request": Out(stream.Signature(burst_request_layout(config))),
                "may_ask": In(1),
                "granted": Out(1),
                "beats_minus_one": Out(8),
                "outside": Out(1),
                "drop": In(1),
                "refused": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Load a burst, then ask for it or count it off."""
        m = Module()
        burst, request, beats_minus_one = self.burst, self.request, self.beats_minus_one
        asked, outside, ready = Signal(), Signal(), Signal()
        m.d.comb += [
            burst.ready.eq(~asked),
            request.valid.eq(ready),
            request.payload.words_minus_one.eq(Cat(Const(self._words - 1, exact_log2(self._words)), beats_minus_one)),
            self.granted.eq(request.valid & request.ready),
            self.outside.eq(asked & outside),
            self.refused.eq(self.drop & (beats_minus_one == 0)),
        ]
        # Room and complete bursts are counted late in a cycle, so the answer whether to ask is a register.
        m.d.sync += ready.eq(asked & ~outside & ~self.granted & self.may_ask)
        # The length counts down in the register of the burst, so that a refused burst needs no counter of its own.
        with m.If(burst.valid & burst.ready):
            m.d.sync += [
                asked.eq(1),
                outside.eq(burst.payload.addr[self._address_bits :].any()),
                request.payload.address.eq(burst.payload.addr[exact_log2(WORD_BITS // 8) :]),
                beats_minus_one.eq(burst.payload.len),
            ]
        with m.If(self.granted | self.refused):
            m.d.sync += asked.eq(0)
        with m.If(self.drop):
            m.d.sync += beats_minus_one.eq(beats_minus_one - 1)
        return m
