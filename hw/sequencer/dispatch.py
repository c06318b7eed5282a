"""Dispatch: commands to their units in order, each as soon as what it waits for is done."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from amaranth.hdl import Cat, Module, Mux, Signal, unsigned
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from tessera.hw.blocks.fields import assign, same_fields
from tessera.hw.config import AcceleratorConfig
from tessera.hw.interfaces.jobs import ATTENTION_FIELDS, CONVOLUTION_FIELDS
from tessera.hw.interfaces.sequencer import ProgramProgress, RunOrder, UnitPorts, in_unit_order
from tessera.hw.isa import ErrorCode, Follow, Opcode
from tessera.hw.sequencer.command import DECODED_BITS, copy_common, view
from tessera.hw.sequencer.examine import CommandExaminer
from tessera.hw.sequencer.experts import ExpertLoop
from tessera.hw.sequencer.ledger import ENGINE, GATE, IMAGE, NORM, STORE, STREAM, UNITS, Ledger
from tessera.hw.sequencer.suspect import suspect

JOB_UNITS = (ENGINE, NORM, GATE, IMAGE, STORE)
"""Units that take jobs. STAGE, LIST, LOAD_RESIDUAL and TABLE are blocks that the stream may deliver."""

UNIT_OF = {
    Opcode.LINEAR: ENGINE,
    Opcode.CONVOLUTION: ENGINE,
    Opcode.ATTENTION: ENGINE,
    Opcode.GATE: GATE,
    Opcode.LOAD_IMAGE: IMAGE,
    Opcode.STORE: STORE,
}
"""Commands that are one job, and the unit that takes it. LAYERNORM first needs its shifts; EXPERTS is a loop."""


@dataclass(frozen=True, kw_only=True)
class _Parts:
    """What the states share.

    Members
    -------
    ledger, examiner, experts:
        Submodules.
    offers:
        For each unit that takes jobs a register: a job is offered to it. Jobs of the expert loop are not counted.
    offered:
        Register: the job of the current command has been offered.
    shifts_wanted:
        Register: LAYERNORM waits for its shifts.
    waiting_for:
        Bits of the units that the current command waits for.
    clear:
        Register: ``waiting_for`` was 0, a cycle ago.
    """

    ledger: Ledger
    examiner: CommandExaminer
    experts: ExpertLoop
    offers: Mapping[int, Signal]
    offered: Signal
    shifts_wanted: Signal
    waiting_for: Signal
    clear: Signal


class Dispatcher(wiring.Component):
    """Runs the program: hands each command to its unit when the units named in its ``after`` are idle.

    Design: :class:`CommandExaminer` says what the current command is, :class:`Ledger` which units are busy,
    :class:`ExpertLoop` makes the jobs of an EXPERTS command. The dispatcher waits, offers, and goes on to the next
    command. A register for each unit says that a job is offered to it, because the fields of the job fan out from it.

    Latency: three cycles for each command beyond its waiting, whose end is seen a cycle late. LAYERNORM takes three
    more, EXPERTS one for each expert.

    Parameters
    ----------
    config:
        Sizes of the machine.

    Members
    -------
    run: In(RunOrder)
        Start, task and addresses of a run.
    command: In(stream)
        The program, from its own reader of the command ring.
    units: Out(UnitPorts)
        Jobs and account of each unit.
    experts_active: Out(1)
        Command ``progress.index`` is an EXPERTS command, its queues are complete, and its loop goes on.
    progress: Out(ProgramProgress)
        How far the program has come.
    """

    def __init__(self, config: AcceleratorConfig) -> None:
        self._config = config
        super().__init__(
            {
                "run": In(RunOrder()),
                "command": In(stream.Signature(unsigned(DECODED_BITS))),
                "units": Out(UnitPorts(config)),
                "experts_active": Out(1),
                "progress": Out(ProgramProgress(config)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Examine, wait, hand out, next."""
        m = Module()
        ports = in_unit_order(self.units)
        m.submodules.ledger = ledger = Ledger(self._config)
        m.submodules.examiner = examiner = CommandExaminer(self._config)
        m.submodules.experts = experts = ExpertLoop(self._config)
        parts = _Parts(
            ledger=ledger,
            examiner=examiner,
            experts=experts,
            offers={unit: Signal(name=f"offer_{UNITS[unit].name.lower()}") for unit in JOB_UNITS},
            offered=Signal(),
            shifts_wanted=Signal(),
            waiting_for=Signal(len(ports)),
            clear=Signal(),
        )
        self._account(m, ports, parts)
        self._fill_jobs(m, parts)
        self._walk(m, self._offer(m, ports, parts), parts)
        m.d.comb += [
            examiner.shown.eq(self.command.valid),
            examiner.command.eq(self.command.payload),
            examiner.task_index.eq(self.run.settings.task_index),
            experts.command.eq(self.command.payload),
            experts.counts.eq(self.units.gate.report.counts),
            self.experts_active.eq(experts.active),
            # A block may be delivered for a command that is under way, or for LAYERNORM before its job is.
            self.units.stream.report.permit.eq(ledger.busy[STREAM] | parts.shifts_wanted),
        ]
        return m

    def _account(self, m: Module, ports: tuple[wiring.PureInterface, ...], parts: _Parts) -> None:
        """What the ledger hears of the units and says of them; and whom the current command waits for."""
        ledger, experts, progress = parts.ledger, parts.experts, self.progress
        head = view(self.command.payload, Opcode.LINEAR)
        loop_expert = Mux(experts.job.valid, experts.expert, 0)
        loop_second = experts.job.valid & experts.second_matrix
        m.d.comb += [
            parts.waiting_for.eq(Mux(self.command.valid, head.after & ledger.busy, 0)),
            # Jobs of a loop have places and rows to follow of their own: the second matrix reads what the first writes.
            *assign(ledger.where, command=progress.index, expert=loop_expert, second_matrix=loop_second),
            ledger.follow.eq(Mux(experts.job.valid, Mux(loop_second, Follow.ENGINE, Follow.NOTHING), head.follow)),
            ledger.looping.eq(experts.active),
            ledger.row_written.eq(self.units.engine.report.row_written),
            ledger.norm_rows.eq(self.units.layernorm.report.rows_done),
            ledger.image_rows.eq(self.units.image.report.rows_done),
            progress.engine_place.eq(ledger.latest),
            progress.stalled_on.eq(suspect(ledger.busy)),
        ]
        for unit, port in enumerate(ports):
            # The stream also reports LayerNorm's shifts, which are no job in the ledger.
            done = port.report.done & ledger.busy[unit] if unit == STREAM else port.report.done
            m.d.comb += [
                ledger.done[unit].eq(done),
                port.busy.eq(ledger.busy[unit]),
                port.awaited.eq(parts.waiting_for[unit]),
                port.place.eq(ledger.oldest[unit]),
                port.ended.eq(ledger.ended[unit]),
            ]
        for index, port in enumerate((self.units.engine, self.units.layernorm, self.units.gate)):
            m.d.comb += port.report.rows_ready.eq(ledger.rows_ready[index])
        m.d.sync += parts.clear.eq(parts.waiting_for == 0)

    def _offer(self, m: Module, ports: tuple[wiring.PureInterface, ...], parts: _Parts) -> Signal:
        """Offer jobs while their registers say so; returns whether a command's job is taken in this cycle."""
        taken = Signal()
        # An offer stands until the unit takes it: the register falls in the cycle after ``ready``.
        for unit, offer in parts.offers.items():
            job = ports[unit].job
            m.d.comb += [job.valid.eq(offer), parts.ledger.taken[unit].eq(job.valid & job.ready)]
            with m.If(job.ready):
                m.d.sync += offer.eq(0)
        engine_job, loop_job = self.units.engine.job, parts.experts.job
        m.d.comb += [
            engine_job.valid.eq(parts.offers[ENGINE] | loop_job.valid),
            loop_job.ready.eq(engine_job.ready),
            taken.eq(Cat(offer & ports[unit].job.ready for unit, offer in parts.offers.items()).any()),
        ]
        return taken

    def _fill_jobs(self, m: Module, parts: _Parts) -> None:
        """Fields of the jobs: those of the command, addresses of the run, or those that the expert loop makes."""
        units, command = self.units, self.command.payload
        # Where a unit takes jobs of one opcode only, nothing has to be chosen.
        for opcode, job in (
            (Opcode.LAYERNORM, units.layernorm.job),
            (Opcode.GATE, units.gate.job),
            (Opcode.LOAD_IMAGE, units.image.job),
            (Opcode.STORE, units.store.job),
        ):
            copy_common(m, job.payload, view(command, opcode))
            copy_common(m, job.payload, self.run.settings)
        engine_job = units.engine.job.payload
        m.d.comb += same_fields(engine_job, view(command, Opcode.ATTENTION), *ATTENTION_FIELDS)
        m.d.comb += same_fields(engine_job, view(command, Opcode.CONVOLUTION), *CONVOLUTION_FIELDS)
        # The opcode is known a cycle before the offer, so that the fields have settled when the job is valid.
        for opcode in (Opcode.LINEAR, Opcode.CONVOLUTION, Opcode.ATTENTION):
            with m.If(parts.examiner.accepted[opcode]):
                copy_common(m, engine_job, view(command, opcode))
                m.d.comb += engine_job.attention.eq(opcode == Opcode.ATTENTION)
                m.d.comb += engine_job.convolution.eq(opcode == Opcode.CONVOLUTION)
                if opcode == Opcode.CONVOLUTION:
                    m.d.comb += engine_job.channels.eq(view(command, opcode).stationary_rows)
        with m.If(parts.experts.job.valid):
            copy_common(m, units.engine.job.payload, parts.experts.job.payload)

    def _walk(self, m: Module, taken: Signal, parts: _Parts) -> None:
        """The state machine: one command after the other."""
        handed = Signal()
        m.d.sync += [self.progress.error.valid.eq(0), self.progress.finished.eq(0)]
        with m.FSM(name="state"):
            with m.State("IDLE"):
                with m.If(self.run.start):
                    m.d.sync += self.progress.index.eq(0)
                    m.next = "DECODE"
            # A command that is one job goes on when the job was taken, seen a cycle later: ``ready`` comes from afar.
            with m.State("DECODE"):
                m.d.comb += self.progress.started.eq(taken)
                m.d.sync += handed.eq(taken)
                with m.If(handed):
                    m.d.sync += parts.offered.eq(0)
                    self._next(m)
                with m.Elif(self.command.valid):
                    with m.If(parts.examiner.skipped):
                        self._next(m)
                    with m.Else():
                        self._decode(m, parts)
            # LAYERNORM: no block overtakes its shifts, so its job is offered when they have come.
            with m.State("SHIFTS"):
                with m.If(self.units.stream.report.done):
                    m.d.sync += [parts.shifts_wanted.eq(0), parts.offers[NORM].eq(1)]
                    m.next = "NORM"
            with m.State("NORM"):
                with m.If(self.units.layernorm.job.ready):
                    self._next(m)
            with m.State("EXPERTS"):
                m.d.comb += parts.experts.running.eq(1)
                with m.If(parts.experts.ended):
                    self._next(m)
            # After a refusal nothing more is handed out: the host must see the command that was refused.
            with m.State("HALTED"):
                pass

    def _next(self, m: Module) -> None:
        """Go on to the next command."""
        m.d.comb += self.command.ready.eq(1)
        m.d.sync += self.progress.index.eq(self.progress.index + 1)
        m.next = "DECODE"

    def _decode(self, m: Module, parts: _Parts) -> None:
        """Refuse a malformed command; else hand it out once it may start."""
        accepted = parts.examiner.accepted
        # In the first cycle of a command all results of the examiner are 0, so nothing is decided too early.
        with m.If(parts.examiner.malformed):
            self._refuse(m, ErrorCode.BAD_FIELD)
        with m.If(parts.examiner.unknown):
            self._refuse(m, ErrorCode.BAD_OPCODE)
        # A run is over when the results are in memory, so END waits for every unit, whatever its ``after`` says.
        with m.If(accepted[Opcode.END] & (parts.ledger.busy == 0)):
            m.d.comb += self.command.ready.eq(1)
            m.d.sync += self.progress.finished.eq(1)
            m.next = "IDLE"
        for opcode, unit in UNIT_OF.items():
            with m.If(accepted[opcode] & ~parts.offered & (parts.waiting_for == 0)):
                m.d.sync += [parts.offers[unit].eq(1), parts.offered.eq(1)]
        # The others act in the cycle in which they may start, so they wait for a register.
        for opcode in (Opcode.STAGE, Opcode.LIST, Opcode.LOAD_RESIDUAL, Opcode.TABLE):
            with m.If(accepted[opcode] & parts.clear):
                self._start_block(m, parts.ledger)
        with m.If(accepted[Opcode.LAYERNORM] & parts.clear):
            self._start_norm(m, parts)
        with m.If(accepted[Opcode.EXPERTS] & parts.clear):
            m.d.comb += self.progress.started.eq(1)
            m.next = "EXPERTS"

    def _refuse(self, m: Module, code: ErrorCode) -> None:
        """Report the current command's opcode and halt."""
        error = self.progress.error
        m.d.sync += [
            error.valid.eq(1),
            *assign(error.payload, code=code, address=view(self.command.payload, Opcode.LINEAR).opcode),
        ]
        m.next = "HALTED"

    def _start_block(self, m: Module, ledger: Ledger) -> None:
        """STAGE, LIST, LOAD_RESIDUAL, TABLE: the block was asked for long ago; now the stream may deliver it."""
        with m.If(~ledger.busy[STREAM]):
            m.d.comb += [ledger.taken[STREAM].eq(1), self.progress.started.eq(1)]
            self._next(m)

    def _start_norm(self, m: Module, parts: _Parts) -> None:
        """LAYERNORM: permit its shifts, which overwrite those of the LAYERNORM before it."""
        with m.If(~parts.ledger.busy[STREAM] & ~parts.ledger.busy[NORM]):
            m.d.comb += self.progress.started.eq(1)
            m.d.sync += parts.shifts_wanted.eq(1)
            m.next = "SHIFTS"
