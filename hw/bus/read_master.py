"""The AXI4 read master: every read of the machine, in order, under one ID."""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Mux, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped
from amaranth.utils import exact_log2

from tessera.hw.blocks.checks import check
from tessera.hw.blocks.fields import same_fields
from tessera.hw.blocks.queue import Queue
from tessera.hw.blocks.register_slice import RegisterSlice
from tessera.hw.bus.bursts import PAGE_BYTES, show_burst
from tessera.hw.bus.window import burst_end, outside_window
from tessera.hw.config import AcceleratorConfig
from tessera.hw.interfaces.axi import Axi4Read, read_request_layout
from tessera.hw.interfaces.errors import Guard
from tessera.hw.interfaces.strobe import Strobe
from tessera.hw.isa import ErrorCode


class ReadMaster(wiring.Component):
    """Arbitrates the bursts of several clients onto one AXI4 read port and hands each client its beats.

    ::

        request ─► slices ─► choose ─► check ─► issue ──────► bus.ar
                                                  │
                                                issued
                                                  │
        response ◄──────────────────── route ◄────┴────────── bus.r

    Parameters
    ----------
    config:
        Sizes of the machine.
    clients:
        Number of clients; a lower index has priority.

    Members
    -------
    request:
        Array of streams, one per client. A client asks only for what it has room for, so ``r.ready`` is always 1.
    response:
        Array of strobes, one per client: its beats, in the order of its requests.
    bus:
        Memory. INCR bursts of full-width beats.
    guard:
        Limits and reports; see :class:`tessera.hw.interfaces.errors.Guard`. A burst that is not inside the window is
        refused with ADDRESS_WINDOW and its own address; an error response is reported as BUS_READ with the burst's
        address.
    beat:
        1 in a cycle in which a beat is transferred, for the counter of bytes.

    Timing: request to ``ar.valid`` REQUEST_LATENCY cycles, ``r.valid`` to response RESPONSE_LATENCY cycles; one request
    per cycle.
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
        self._burst = data.StructLayout({"client": range(clients), "address": 32, "beats_minus_one": 8})
        super().__init__(
            {
                "request": In(stream.Signature(read_request_layout(config))).array(clients),
                "response": Out(Strobe(8 * config.memory_bytes)).array(clients),
                "bus": Out(Axi4Read(config)),
                "guard": In(Guard()),
                "beat": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Choose, check, issue, and route what comes back."""
        m = Module()
        guard = self.guard
        chosen, checked = Signal(self._burst), Signal(self._burst)
        chosen_valid, chosen_end = Signal(), Signal(33)
        inside, outside = Signal(), Signal()  # what the window says of the checked burst
        m.submodules.issued = issued = Queue(self._burst, self.OUTSTANDING)
        failed, stopped, refused = Signal(), Signal(), Signal()
        m.d.comb += [stopped.eq(failed | guard.halt), refused.eq(outside & ~stopped)]
        moves = self._issue(m, checked, inside & ~stopped, issued)
        # The choice with its end is one pipeline stage and the check another, because two 33-bit comparisons do not fit
        # behind the arbitration. A refused burst stays in the second stage, so nothing behind it is issued.
        proceeds, beyond = Signal(), Signal()
        m.d.comb += [
            proceeds.eq(~inside | moves),
            beyond.eq(outside_window(chosen.address, chosen_end, guard.window)),
        ]
        with m.If(proceeds):
            m.d.sync += [checked.eq(chosen), inside.eq(chosen_valid & ~beyond), outside.eq(chosen_valid & beyond)]
        with m.If(stopped):
            m.d.sync += [inside.eq(0), outside.eq(0)]
        self._choose(m, chosen, chosen_valid, chosen_end, proceeds, stopped)
        pending = issued.target.payload
        broken = self._route(m, issued, stopped)
        m.d.sync += [
            guard.error.valid.eq(broken | refused),
            guard.quiescent.eq(~chosen_valid & ~inside & ~outside & (issued.level == 0) & ~self.bus.r.valid),
        ]
        with m.If(broken | refused):
            m.d.sync += [
                failed.eq(1),
                guard.error.payload.code.eq(Mux(broken, ErrorCode.BUS_READ, ErrorCode.ADDRESS_WINDOW)),
                guard.error.payload.address.eq(Mux(broken, pending.address, checked.address)),
            ]
        return m

    def _choose(self, m: Module, chosen: data.View, valid: Signal, end: Signal, leaves: Value, stopped: Signal) -> None:
        """Take the first waiting request into a register, with the address of its end."""
        free = Signal()
        m.d.comb += free.eq((~valid | leaves) & ~stopped)
        with m.If(leaves | stopped):
            m.d.sync += valid.eq(0)
        # A slice per client, because the clients stand far from each other and the choice looks at all of them.
        waiting = []
        for index, port in enumerate(self.request):
            m.submodules[f"request_{index}"] = kept = RegisterSlice(port.payload.shape())
            connect(m, flipped(port), kept.source)
            waiting.append(kept.target)
        page = exact_log2(PAGE_BYTES)
        for index, request in reversed(list(enumerate(waiting))):
            earlier = Cat(*(other.valid for other in waiting[:index])).any()
            taken, beyond = request.valid & request.ready, burst_end(self._config, request.payload)
            m.d.comb += request.ready.eq(free & ~earlier)
            with m.If(taken):
                m.d.sync += [
                    valid.eq(1),
                    chosen.client.eq(index),
                    *same_fields(chosen, request.payload, "address", "beats_minus_one"),
                    end.eq(beyond),
                ]
            first, last = request.payload.address, beyond - 1
            message = "a burst at {:x} of client {} crosses a 4 KiB boundary"
            check(m, taken, first[page:] == last[page:32], message, first, index)

    def _issue(self, m: Module, checked: data.View, allowed: Value, issued: Queue) -> Signal:
        """Show a checked burst on the address channel; returns whether it leaves."""
        moves, ar = Signal(), self.bus.ar
        m.d.comb += [
            moves.eq(allowed & issued.source.ready & (~ar.valid | ar.ready)),
            issued.source.valid.eq(moves),
            issued.source.payload.eq(checked),
        ]
        show_burst(m, self._config, ar, moves, checked)
        return moves

    def _route(self, m: Module, issued: Queue, stopped: Signal) -> Signal:
        """Hand each beat to the client that asked for it; returns whether it carries the first error."""
        r, pending = self.bus.r, issued.target.payload
        broken = Signal()
        beat = Signal(8)
        m.d.comb += [
            r.ready.eq(1),
            self.beat.eq(r.valid),
            broken.eq(r.valid & r.payload.resp[1] & ~stopped),
            issued.target.ready.eq(r.valid & r.payload.last),
        ]
        # One register of data serves all clients, because only ``valid`` says whose beat it is.
        payload = Signal(8 * self._config.memory_bytes)
        m.d.sync += payload.eq(r.payload.data)
        for index, response in enumerate(self.response):
            m.d.comb += response.payload.eq(payload)
            m.d.sync += response.valid.eq(r.valid & ~broken & ~stopped & (pending.client == index))
        with m.If(r.valid):
            m.d.sync += beat.eq(Mux(r.payload.last, 0, beat + 1))
        check(m, r.valid, issued.target.valid, "memory answered without being asked")
        message = "last beat {} of a burst of {}"
        ends = beat == pending.beats_minus_one
        check(m, r.valid, r.payload.last == ends, message, beat, pending.beats_minus_one + 1)
        return broken
