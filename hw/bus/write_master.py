"""The AXI4 write master: runs of beats to memory as bursts, several of them unanswered at a time."""

from __future__ import annotations

from amaranth.hdl import Assert, Module, Mux, ResetSignal, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.fifo import SyncFIFO
from amaranth.lib.wiring import In, Out, connect, flipped
from amaranth.utils import exact_log2

from hw.bus.bursts import BurstSplitter, longest_burst
from hw.bus.read_master import INCREMENTING
from hw.bus.window import burst_end, outside_window
from hw.config import AcceleratorConfig
from hw.interfaces.axi import Axi4Write, beat_run_layout
from hw.interfaces.errors import error_record_layout
from hw.interfaces.strobe import Strobe
from hw.isa import ErrorCode


class WriteMaster(wiring.Component):
    """Writes runs of beats.

    Parameters
    ----------
    config:
        Sizes of the machine.

    Members
    -------
    run:
        Where to write; :func:`hw.interfaces.axi.beat_run_layout`.
    beat:
        What to write: the beats of all runs, in order.
    bus:
        To memory. INCR bursts of full-width beats.
    window_base, window_limit, error:
        As in :class:`hw.bus.read_master.ReadMaster`, with BUS_WRITE.
    halt:
        Issue nothing more; bursts already issued are completed with all byte strobes 0, whether or not beats come.
    idle:
        All runs accepted so far are written and answered.
    quiescent:
        Nothing issued is unanswered; under ``halt`` or after an error, the master may be reset.
    transferred:
        A beat was transferred, for the counter of bytes.

    Timing: one beat a cycle; the first beat of a burst at least 6 cycles after its run.
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
                "window_base": In(32),
                "window_limit": In(32),
                "halt": In(1),
                "error": Out(Strobe(error_record_layout())),
                "idle": Out(1),
                "quiescent": Out(1),
                "transferred": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Addresses, data and answers, each from its own queue."""
        m = Module()
        bus = self.bus
        m.submodules.splitter = splitter = BurstSplitter(self._config, longest_burst(self._config))
        connect(m, flipped(self.run), splitter.run)
        m.submodules.lengths = lengths = SyncFIFO(width=8, depth=self.OUTSTANDING)
        m.submodules.unanswered = unanswered = SyncFIFO(width=32, depth=self.OUTSTANDING)
        failed, stopped, refused, broken = Signal(), Signal(), Signal(), Signal()
        moves = Signal()
        burst, checking = self._check(m, splitter.burst, moves)
        m.d.comb += [
            refused.eq(burst.valid & burst.outside & ~stopped),
            moves.eq(
                burst.valid
                & ~burst.outside
                & ~stopped
                & lengths.w_rdy
                & unanswered.w_rdy
                & (~bus.awvalid | bus.awready)
            ),
            broken.eq(bus.bvalid & bus.bresp[1] & ~stopped),
            self.quiescent.eq(unanswered.level == 0),
            self.idle.eq(self.quiescent & ~splitter.busy & ~checking),
        ]
        self._issue(m, burst, moves, lengths, unanswered)
        self._send(m, lengths, stopped)
        m.d.comb += [bus.bready.eq(1), unanswered.r_en.eq(bus.bvalid)]
        # What stops it decides much, so it is a register; bursts that leave until then are completed like all others.
        m.d.sync += [self.error.valid.eq(broken | refused), stopped.eq(failed | broken | refused | self.halt)]
        with m.If(broken | refused):
            m.d.sync += [
                failed.eq(1),
                self.error.payload.code.eq(Mux(broken, ErrorCode.BUS_WRITE, ErrorCode.ADDRESS_WINDOW)),
                self.error.payload.address.eq(Mux(broken, unanswered.r_data, burst.address)),
            ]
        with m.If(bus.bvalid & ~ResetSignal()):
            m.d.sync += Assert(unanswered.r_rdy, "memory answered a write that was not made")
        return m

    def _check(self, m: Module, burst: stream.Interface, leaves: Signal) -> tuple[data.View, Value]:
        """Work out a burst's end, then compare it with the window, a register each.

        Returns the checked burst, which stays until ``leaves``, and whether any is on its way.
        """
        shape = burst.payload.shape().members
        bounded = Signal(data.StructLayout({"valid": 1, **shape, "end": 33}))
        checked = Signal(data.StructLayout({"valid": 1, **shape, "outside": 1}))
        proceeds = Signal()
        m.d.comb += [proceeds.eq(~checked.valid | leaves), burst.ready.eq(~bounded.valid | proceeds)]
        with m.If(burst.ready):
            m.d.sync += [bounded.valid.eq(burst.valid), bounded.end.eq(burst_end(self._config, burst.payload))]
            m.d.sync += [bounded[name].eq(burst.payload[name]) for name in shape]
        with m.If(proceeds):
            outside = outside_window(bounded.address, bounded.end, self.window_base, self.window_limit)
            m.d.sync += [checked.valid.eq(bounded.valid), checked.outside.eq(outside)]
            m.d.sync += [checked[name].eq(bounded[name]) for name in shape]
        return checked, bounded.valid | checked.valid

    def _issue(self, m: Module, burst: data.View, moves: Signal, lengths: SyncFIFO, unanswered: SyncFIFO) -> None:
        """Show each burst on the address channel and note its length and address."""
        bus = self.bus
        m.d.comb += [
            lengths.w_en.eq(moves),
            lengths.w_data.eq(burst.beats_minus_one),
            unanswered.w_en.eq(moves),
            unanswered.w_data.eq(burst.address),
            bus.awsize.eq(exact_log2(self._config.memory_bytes)),
            bus.awburst.eq(INCREMENTING),
        ]
        with m.If(moves):
            m.d.sync += [
                bus.awvalid.eq(1),
                bus.awaddr.eq(burst.address),
                bus.awlen.eq(burst.beats_minus_one),
            ]
        with m.Elif(bus.awready):
            m.d.sync += bus.awvalid.eq(0)

    def _send(self, m: Module, lengths: SyncFIFO, stopped: Signal) -> None:
        """Send the beats of the bursts that were issued; blank ones once stopped."""
        bus = self.bus
        sent = Signal(8)
        free, moves, last = Signal(), Signal(), Signal()
        m.d.comb += [
            free.eq(~bus.wvalid | bus.wready),
            moves.eq(free & lengths.r_rdy & (self.beat.valid | stopped)),
            last.eq(sent == lengths.r_data),
            lengths.r_en.eq(moves & last),
            self.beat.ready.eq(moves),
            self.transferred.eq(bus.wvalid & bus.wready),
        ]
        with m.If(moves):
            m.d.sync += [
                bus.wvalid.eq(1),
                bus.wdata.eq(self.beat.payload),
                bus.wstrb.eq(Mux(stopped, 0, -1)),
                bus.wlast.eq(last),
                sent.eq(Mux(last, 0, sent + 1)),
            ]
        with m.Elif(bus.wready):
            m.d.sync += bus.wvalid.eq(0)
