"""The AXI4 write master: runs of beats to memory as bursts, several of them unanswered at a time."""

from __future__ import annotations

from amaranth.hdl import Module, Mux, Signal, Value, unsigned
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from tessera.hw.blocks.checks import check
from tessera.hw.blocks.fields import same_fields
from tessera.hw.blocks.queue import Queue
from tessera.hw.bus.bursts import BurstSplitter, longest_burst, show_burst
from tessera.hw.bus.window import burst_end, outside_window
from tessera.hw.config import AcceleratorConfig
from tessera.hw.interfaces.axi import Axi4Write, beat_run_layout
from tessera.hw.interfaces.errors import Guard
from tessera.hw.isa import ErrorCode


class WriteMaster(wiring.Component):
    """Writes runs of beats.

    ::

        run ─► BurstSplitter ─► check ─┬─► bus.aw
                                       ├─► lengths ────► send ──► bus.w
                                       │                  ▲
        beat ──────────────────────────│──────────────────┘
                                       └─► unanswered ◄────────── bus.b

    Parameters
    ----------
    config:
        Sizes of the machine.

    Members
    -------
    run:
        Where to write; :func:`tessera.hw.interfaces.axi.beat_run_layout`.
    beat:
        What to write: the beats of all runs, in order.
    bus:
        Memory. INCR bursts of full-width beats.
    guard:
        Limits and reports; see :class:`tessera.hw.interfaces.errors.Guard`. Error responses are reported as BUS_WRITE
        with the burst's address. Under ``halt``, bursts already issued are completed with all byte strobes 0, whether
        or not beats come.
    idle:
        All runs accepted so far are written and answered.
    transferred:
        1 in a cycle in which a beat is transferred, for the counter of bytes.

    Timing: one beat per cycle; the first beat of a burst leaves at least 6 cycles after its run came.
    """

    OUTSTANDING = 8
    """Bursts issued and not yet answered."""

    def __init__(self, config: AcceleratorConfig) -> None:
        self._config = config
        super().__init__(
            {
                "run": In(stream.Signature(beat_run_layout())),
                "beat": In(stream.Signature(8 * config.memory_bytes)),
                "bus": Out(Axi4Write(config)),
                "guard": In(Guard()),
                "idle": Out(1),
                "transferred": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Addresses, data and answers, each from its own queue."""
        m = Module()
        aw, b, guard = self.bus.aw, self.bus.b, self.guard
        m.submodules.splitter = splitter = BurstSplitter(self._config, longest_burst(self._config))
        connect(m, flipped(self.run), splitter.run)
        m.submodules.lengths = lengths = Queue(unsigned(8), self.OUTSTANDING)
        m.submodules.unanswered = unanswered = Queue(unsigned(32), self.OUTSTANDING)
        failed, stopped, refused, broken = Signal(), Signal(), Signal(), Signal()
        moves = Signal()
        burst, checking = self._check(m, splitter.burst, moves)
        room = lengths.source.ready & unanswered.source.ready & (~aw.valid | aw.ready)
        m.d.comb += [
            refused.eq(burst.valid & burst.outside & ~stopped),
            moves.eq(burst.valid & ~burst.outside & ~stopped & room),
            lengths.source.valid.eq(moves),
            lengths.source.payload.eq(burst.beats_minus_one),
            unanswered.source.valid.eq(moves),
            unanswered.source.payload.eq(burst.address),
            b.ready.eq(1),
            unanswered.target.ready.eq(b.valid),
            broken.eq(b.valid & b.payload.resp[1] & ~stopped),
            guard.quiescent.eq(unanswered.level == 0),
            self.idle.eq(guard.quiescent & ~splitter.busy & ~checking),
        ]
        show_burst(m, self._config, aw, moves, burst)
        self._send(m, lengths.target, stopped)
        # ``stopped`` has a high fan-out, so it is a register. A burst that leaves in the cycle before it rises is
        # completed like all others.
        m.d.sync += [guard.error.valid.eq(broken | refused), stopped.eq(failed | broken | refused | guard.halt)]
        with m.If(broken | refused):
            m.d.sync += [
                failed.eq(1),
                guard.error.payload.code.eq(Mux(broken, ErrorCode.BUS_WRITE, ErrorCode.ADDRESS_WINDOW)),
                guard.error.payload.address.eq(Mux(broken, unanswered.target.payload, burst.address)),
            ]
        check(m, b.valid, unanswered.target.valid, "memory answered a write that was not made")
        return m

    def _check(self, m: Module, burst: stream.Interface, leaves: Signal) -> tuple[data.View, Value]:
        """Work out a burst's end, then compare it with the window.

        Each step is a pipeline stage, because an addition and two comparisons of 33 bits do not fit into one cycle.

        Returns
        -------
        tuple
            The checked burst, which stays until ``leaves``, and whether a burst is in either stage.
        """
        guard, shape = self.guard, burst.payload.shape().members
        bounded = Signal(data.StructLayout({"valid": 1, **shape, "end": 33}))
        checked = Signal(data.StructLayout({"valid": 1, **shape, "outside": 1}))
        proceeds = Signal()
        m.d.comb += [proceeds.eq(~checked.valid | leaves), burst.ready.eq(~bounded.valid | proceeds)]
        with m.If(burst.ready):
            m.d.sync += [bounded.valid.eq(burst.valid), bounded.end.eq(burst_end(self._config, burst.payload))]
            m.d.sync += same_fields(bounded, burst.payload, *shape)
        with m.If(proceeds):
            m.d.sync += [
                *same_fields(checked, bounded, "valid", *shape),
                checked.outside.eq(outside_window(bounded.address, bounded.end, guard.window)),
            ]
        return checked, bounded.valid | checked.valid

    def _send(self, m: Module, lengths: stream.Interface, stopped: Signal) -> None:
        """Send the beats of the bursts that were issued; blank ones once stopped, because AXI wants each completed."""
        w = self.bus.w
        sent = Signal(8)
        free, moves, last = Signal(), Signal(), Signal()
        m.d.comb += [
            free.eq(~w.valid | w.ready),
            moves.eq(free & lengths.valid & (self.beat.valid | stopped)),
            last.eq(sent == lengths.payload),
            lengths.ready.eq(moves & last),
            self.beat.ready.eq(moves),
            self.transferred.eq(w.valid & w.ready),
        ]
        with m.If(moves):
            m.d.sync += [
                w.valid.eq(1),
                w.payload.data.eq(self.beat.payload),
                w.payload.strb.eq(Mux(stopped, 0, -1)),
                w.payload.last.eq(last),
                sent.eq(Mux(last, 0, sent + 1)),
            ]
        with m.Elif(w.ready):
            m.d.sync += w.valid.eq(0)
