"""The AXI4 read master: every read of the machine, in order, under one ID."""

from __future__ import annotations

from amaranth.hdl import Assert, Cat, Format, Module, Mux, ResetSignal, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.fifo import SyncFIFO
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from hw.blocks.register_slice import RegisterSlice
from hw.bus.bursts import PAGE_BYTES
from hw.bus.window import burst_end, outside_window
from hw.config import AcceleratorConfig
from hw.interfaces.axi import Axi4Read, read_request_layout
from hw.interfaces.errors import error_record_layout
from hw.interfaces.strobe import Strobe
from hw.isa import ErrorCode

INCREMENTING = 1
"""AXI burst kind INCR."""


class ReadMaster(wiring.Component):
    """Arbitrates the bursts of several clients onto one AXI4 read port and hands each its beats.

    Parameters
    ----------
    config:
        Sizes of the machine.
    clients:
        Number of clients; a lower index has priority.

    Members
    -------
    request:
        Array of streams, one a client. A client asks only for what it has room for: ``rready`` is always 1.
    response:
        Array of strobes, one a client: its beats, in the order of its requests.
    bus:
        To memory. INCR bursts of full-width beats.
    window_base, window_limit:
        First byte that may be touched, and first beyond. A burst that is not inside is refused with ADDRESS_WINDOW and
        its own address.
    halt:
        Issue nothing more, deliver nothing more. Hold it until ``quiescent``.
    error:
        One pulse for the first refused burst or error response (BUS_READ with the burst's address). From then on the
        master behaves as if halted, until it is reset.
    quiescent:
        Nothing issued is unanswered. Once this is 1 under ``halt`` (or after an error), master and clients may be
        reset: no beat of the past can arrive any more.
    beat:
        A beat was transferred, for the counter of bytes.

    Timing: request to ``arvalid`` REQUEST_LATENCY cycles, ``rvalid`` to response RESPONSE_LATENCY; one request a cycle.
    """

    OUTSTANDING = 16
    """Bursts issued and not yet answered in full."""
    REQUEST_LATENCY = RegisterSlice.LATENCY + 3
    RESPONSE_LATENCY = 1

    def __init__(self, config: AcceleratorConfig, clients: int) -> None:
        if clients < 1:
            raise ValueError(f"clients is {clients}; a read master needs at least one")
        self._config = config
        self._clients = clients
        super().__init__(
            {
                "request": In(stream.Signature(read_request_layout(config))).array(clients),
                "response": Out(Strobe(8 * config.memory_bytes)).array(clients),
                "bus": Out(Axi4Read(config)),
                "window_base": In(32),
                "window_limit": In(32),
                "halt": In(1),
                "error": Out(Strobe(error_record_layout())),
                "quiescent": Out(1),
                "beat": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Choose, check, issue, and route what comes back."""
        m = Module()
        burst = data.StructLayout({"client": range(self._clients), "address": 32, "beats_minus_one": 8})
        chosen, checked, pending = Signal(burst), Signal(burst), Signal(burst)
        chosen_valid, chosen_end = Signal(), Signal(33)
        inside, outside = Signal(), Signal()  # what the window says of the checked one
        issued = m.submodules.issued = SyncFIFO(width=burst.size, depth=self.OUTSTANDING)
        failed, stopped, refused = Signal(), Signal(), Signal()
        m.d.comb += [
            pending.eq(issued.r_data),
            stopped.eq(failed | self.halt),
            refused.eq(outside & ~stopped),
        ]
        moves = self._issue(m, checked, inside & ~stopped, issued)
        # A register each for the choice with its end, and for the check. What follows a refused burst is not issued.
        proceeds, beyond = Signal(), Signal()
        m.d.comb += [
            proceeds.eq(~inside | moves),
            beyond.eq(outside_window(chosen.address, chosen_end, self.window_base, self.window_limit)),
        ]
        with m.If(proceeds):
            m.d.sync += [checked.eq(chosen), inside.eq(chosen_valid & ~beyond), outside.eq(chosen_valid & beyond)]
        with m.If(stopped):
            m.d.sync += [inside.eq(0), outside.eq(0)]
        self._choose(m, chosen, chosen_valid, chosen_end, proceeds, stopped)
        broken = self._route(m, pending, issued, stopped)
        m.d.sync += [
            self.error.valid.eq(broken | refused),
            self.quiescent.eq(~chosen_valid & ~inside & ~outside & (issued.level == 0) & ~self.bus.rvalid),
        ]
        with m.If(broken | refused):
            m.d.sync += [
                failed.eq(1),
                self.error.payload.code.eq(Mux(broken, ErrorCode.BUS_READ, ErrorCode.ADDRESS_WINDOW)),
                self.error.payload.address.eq(Mux(broken, pending.address, checked.address)),
            ]
        return m

    def _choose(self, m: Module, chosen: data.View, valid: Signal, end: Signal, leaves: Value, stopped: Signal) -> None:
        """Take the first waiting request into a register, with the address of its end."""
        free = Signal()
        m.d.comb += free.eq((~valid | leaves) & ~stopped)
        with m.If(leaves | stopped):
            m.d.sync += valid.eq(0)
        waiting = []
        for index, port in enumerate(self.request):
            m.submodules[f"request_{index}"] = kept = RegisterSlice(port.payload.shape())
            wiring.connect(m, wiring.flipped(port), kept.source)
            waiting.append(kept.target)
        for index, request in reversed(list(enumerate(waiting))):
            earlier = Cat(*(other.valid for other in waiting[:index])).any()
            m.d.comb += request.ready.eq(free & ~earlier)
            with m.If(request.valid & request.ready):
                m.d.sync += [
                    valid.eq(1),
                    chosen.client.eq(index),
                    chosen.address.eq(request.payload.address),
                    chosen.beats_minus_one.eq(request.payload.beats_minus_one),
                    end.eq(burst_end(self._config, request.payload)),
                ]
                first, last = request.payload.address, burst_end(self._config, request.payload) - 1
                page = exact_log2(PAGE_BYTES)
                with m.If(~ResetSignal()):
                    m.d.sync += Assert(
                        first[page:] == last[page:32],
                        Format("a burst at {:x} of client {} crosses a 4 KiB boundary", first, index),
                    )

    def _issue(self, m: Module, checked: data.View, allowed: Value, issued: SyncFIFO) -> Signal:
        """Show a checked burst on the address channel; returns whether it leaves."""
        bus = self.bus
        moves = Signal()
        m.d.comb += [
            moves.eq(allowed & issued.w_rdy & (~bus.arvalid | bus.arready)),
            issued.w_en.eq(moves),
            issued.w_data.eq(checked.as_value()),
            bus.arsize.eq(exact_log2(self._config.memory_bytes)),
            bus.arburst.eq(INCREMENTING),
        ]
        with m.If(moves):
            m.d.sync += [
                bus.arvalid.eq(1),
                bus.araddr.eq(checked.address),
                bus.arlen.eq(checked.beats_minus_one),
            ]
        with m.Elif(bus.arready):
            m.d.sync += bus.arvalid.eq(0)
        return moves

    def _route(self, m: Module, pending: data.View, issued: SyncFIFO, stopped: Signal) -> Signal:
        """Hand each beat to the client that asked; returns whether it carries the first error."""
        bus = self.bus
        broken = Signal()
        beat = Signal(8)
        m.d.comb += [
            bus.rready.eq(1),
            self.beat.eq(bus.rvalid),
            broken.eq(bus.rvalid & bus.rresp[1] & ~stopped),
            issued.r_en.eq(bus.rvalid & bus.rlast),
        ]
        payload = Signal(8 * self._config.memory_bytes)
        m.d.sync += payload.eq(bus.rdata)
        for index, response in enumerate(self.response):
            m.d.comb += response.payload.eq(payload)
            m.d.sync += response.valid.eq(bus.rvalid & ~broken & ~stopped & (pending.client == index))
        with m.If(bus.rvalid):
            m.d.sync += beat.eq(beat + 1)
            with m.If(bus.rlast):
                m.d.sync += beat.eq(0)
            with m.If(~ResetSignal()):
                m.d.sync += [
                    Assert(issued.r_rdy, "memory answered without being asked"),
                    Assert(
                        bus.rlast == (beat == pending.beats_minus_one),
                        Format("last beat {} of a burst of {}", beat, pending.beats_minus_one + 1),
                    ),
                ]
        return broken
