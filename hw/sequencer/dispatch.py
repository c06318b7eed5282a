"""Dispatch: commands to their units in order, each as soon as what it waits for is done; the expert loop; refusals."""

from __future__ import annotations

from collections.abc import Mapping

from amaranth.hdl import Array, Cat, Const, Module, Mux, Signal, unsigned
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from hw.config import AcceleratorConfig
from hw.interfaces.errors import error_record_layout
from hw.interfaces.gate import queue_counts_layout
from hw.interfaces.jobs import place_layout
from hw.interfaces.strobe import Strobe
from hw.isa import Destination, ErrorCode, Follow, Opcode, StallSource
from hw.sequencer.command import DECODED_BITS, view
from hw.sequencer.ledger import ENGINE, FOLLOWERS, GATE, IMAGE, NORM, STORE, STREAM, UNITS, Ledger
from hw.sequencer.rules import violations
from hw.sequencer.schedule import occupied

JOB_UNITS = {"engine": ENGINE, "layernorm": NORM, "gate": GATE, "image": IMAGE, "store": STORE}
"""Units that take jobs, by the name of their ports. STAGE and LOAD_RESIDUAL are blocks that the stream may deliver."""

UNIT_OF = {
    Opcode.LINEAR: "engine",
    Opcode.ATTENTION: "engine",
    Opcode.GATE: "gate",
    Opcode.LOAD_IMAGE: "image",
    Opcode.STORE: "store",
}
"""Commands that are one job. LAYERNORM first needs its shifts; EXPERTS loops over the engine."""

_SUSPECTS = (
    (STREAM, StallSource.STREAM),
    (IMAGE, StallSource.IMAGE),
    (STORE, StallSource.STORE),
    (ENGINE, StallSource.ENGINE),
    (NORM, StallSource.LAYERNORM),
    (GATE, StallSource.GATE),
)
"""Whom the watchdog names: of the busy units the one that the others are likely to wait for."""


_TOGETHER = 4
"""Experts of whose counts one is chosen in a cycle."""


def dispatcher_members(
    config: AcceleratorConfig, job_layouts: Mapping[str, data.StructLayout]
) -> dict[str, wiring.Member]:
    """Ports of the :class:`Dispatcher`."""
    units = {}
    for name in JOB_UNITS:
        units[f"{name}_job"] = Out(stream.Signature(job_layouts[name]))
        units[f"{name}_done"] = In(1)
    return {
        "start": In(1),
        "task_index": In(4),
        "image_base": In(32),
        "output_base": In(32),
        "command": In(stream.Signature(unsigned(DECODED_BITS))),
        **units,
        "counts": In(queue_counts_layout(config)),
        "stream_permit": Out(1),
        "stream_done": In(1),
        "row_written": In(1),
        "norm_rows": In(16),
        "image_rows": In(16),
        "rows_ready": Out(16).array(len(FOLLOWERS)),
        "index": Out(16),
        "experts_active": Out(1),
        "started": Out(1),
        "ended": Out(len(UNITS)),
        "places": Out(place_layout(config)).array(len(UNITS)),
        "engine_place": Out(place_layout(config)),
        "unit_busy": Out(len(UNITS)),
        "waiting_for": Out(len(UNITS)),
        "busy": Out(1),
        "finished": Out(1),
        "error": Out(Strobe(error_record_layout())),
        "stalled_on": Out(unsigned(3)),
    }


class Dispatcher(wiring.Component):
    """Runs the program: checks each command and hands it to its unit when the units named in ``after`` are idle.

    Parameters
    ----------
    config:
        Sizes of the machine.
    job_layouts:
        Payload of each unit's job stream, by the names of ``JOB_UNITS``. Fields named as in ``hw.isa`` are copied
        from the command; ``image_base`` and ``output_base`` come from the registers.

    Members
    -------
    start:
        Run from command 0; ``task_index``, ``image_base`` and ``output_base`` must stay stable while ``busy``.
    command:
        The program, from its own reader of the command ring.
    UNIT_job, UNIT_done:
        Job stream and done pulses of each unit, in order.
    counts:
        Queue lengths from the gate.
    stream_permit, stream_done:
        Delivery of a block that belongs to a command (STAGE, LOAD_RESIDUAL, LayerNorm's shifts).
    row_written, norm_rows, image_rows, rows_ready:
        Progress of rows, see :class:`Ledger`.
    index, experts_active:
        The next command to hand out, and whether it is an EXPERTS command whose queues are complete.
    started:
        Pulse: command ``index`` was handed out (LAYERNORM: its shifts were asked for; EXPERTS: its loop began).
    ended, places:
        For each unit: pulse, its oldest command is done; and the place of its oldest (or last) job.
    engine_place, unit_busy, waiting_for:
        Place of the engine's latest job; units with jobs under way; those of them that the next command comes after.
    finished, error:
        END was reached and everything is done; or a command was refused (the dispatcher then stays halted until it is
        reset).
    stalled_on:
        The unit to suspect, for the watchdog.

    A command costs three cycles beyond its waiting, whose end is seen a cycle late; LAYERNORM three more, EXPERTS one
    for each expert. What a unit is offered, and that it is, comes from registers.
    """

    def __init__(self, config: AcceleratorConfig, job_layouts: Mapping[str, data.StructLayout]) -> None:
        self._config = config
        super().__init__(dispatcher_members(config, job_layouts))

    def elaborate(self, platform: object) -> Module:
        """Decode, wait, hand out, next."""
        m = Module()
        m.submodules.ledger = self._ledger = ledger = Ledger(self._config)
        self._head = view(self.command.payload, Opcode.LINEAR)
        self._clear, self._shifts_wanted = Signal(), Signal()
        # One register a unit says that a job is offered to it; and one that the engine's is an expert's.
        self._offer = {name: Signal(name=f"offer_{name}") for name in JOB_UNITS}
        self._offer_expert, self._offered, self._taken, handed = Signal(), Signal(), Signal(), Signal()
        self._expert, self._second = Signal(8), Signal()
        self._occupied = occupied(m, self.counts)
        self._examine(m)
        m.d.sync += self._clear.eq(self.waiting_for == 0)
        m.d.comb += [
            self.waiting_for.eq(Mux(self.command.valid, self._head.after & ledger.busy, 0)),
            self.busy.eq(1),
            ledger.where.command.eq(self.index),
            ledger.follow.eq(self._head.follow),
            ledger.looping.eq(self.experts_active),
            ledger.row_written.eq(self.row_written),
            ledger.norm_rows.eq(self.norm_rows),
            ledger.image_rows.eq(self.image_rows),
            ledger.done[STREAM].eq(self.stream_done & ledger.busy[STREAM]),
            *(ledger.done[unit].eq(getattr(self, f"{name}_done")) for name, unit in JOB_UNITS.items()),
            *(ready.eq(source) for ready, source in zip(self.rows_ready, ledger.rows_ready, strict=True)),
            self.ended.eq(ledger.ended),
            *(target.eq(source) for target, source in zip(self.places, ledger.oldest, strict=True)),
            self.engine_place.eq(ledger.latest),
            self.unit_busy.eq(ledger.busy),
        ]
        for name, unit in JOB_UNITS.items():
            job = getattr(self, f"{name}_job")
            m.d.comb += [job.valid.eq(self._offer[name]), ledger.taken[unit].eq(job.valid & job.ready)]
            with m.If(job.ready):
                m.d.sync += self._offer[name].eq(0)
        m.d.comb += [
            self.engine_job.valid.eq(self._offer["engine"] | self._offer_expert),
            self._taken.eq(
                Cat(offer & getattr(self, f"{name}_job").ready for name, offer in self._offer.items()).any()
            ),
        ]
        for opcode, taker in UNIT_OF.items():
            with m.If(self._is[opcode]):
                self._fill(m, getattr(self, f"{taker}_job").payload, view(self.command.payload, opcode))
                if opcode == Opcode.ATTENTION:
                    m.d.comb += self.engine_job.payload.attention.eq(1)
        self._fill(m, self.layernorm_job.payload, view(self.command.payload, Opcode.LAYERNORM))
        # An expert is known a cycle before its first job is offered: time for the first half of choosing its count.
        self._number = number = self._expert[: exact_log2(self._config.max_experts)]
        self._tokens = []
        for first in range(0, self._config.max_experts, _TOGETHER):
            tokens = Signal(16, name=f"tokens_{first}")
            m.d.sync += tokens.eq(Array(list(self.counts)[first : first + _TOGETHER])[number[: exact_log2(_TOGETHER)]])
            self._tokens.append(tokens)
        with m.If(self._offer_expert):
            self._expert_job(m)
        self._suspect(m)
        m.d.sync += [self.error.valid.eq(0), self.finished.eq(0)]
        with m.FSM(name="state"):
            with m.State("IDLE"):
                m.d.comb += self.busy.eq(0)
                with m.If(self.start):
                    m.d.sync += self.index.eq(0)
                    m.next = "DECODE"
            with m.State("DECODE"):
                m.d.comb += self.started.eq(self._taken)
                m.d.sync += handed.eq(self._taken)
                with m.If(handed):
                    m.d.sync += self._offered.eq(0)
                    self._next(m)
                with m.Elif(self.command.valid):
                    with m.If(self._skipped):
                        self._next(m)
                    with m.Else():
                        self._decode(m)
            self._norm_states(m)
            self._expert_states(m)
            with m.State("HALTED"):
                pass
        m.d.comb += self.stream_permit.eq(ledger.busy[STREAM] | self._shifts_wanted)
        return m

    def _examine(self, m: Module) -> None:
        """In a command's first cycle find out what it is: of another task, malformed, or of which opcode.

        One of the registers is 1 from its second cycle on, and still in the cycle after its last.
        """
        fresh, selected = self.command.valid, Signal()
        # The task was chosen long before the first command comes.
        task = Signal.like(self._head.task_mask)
        m.d.sync += task.eq(1 << self.task_index)
        m.d.comb += selected.eq((self._head.task_mask & task).any())
        self._skipped, self._malformed, self._unknown = Signal(), Signal(), Signal()
        self._is = {opcode: Signal(name=f"is_{opcode.name.lower()}") for opcode in Opcode}
        m.d.sync += [self._skipped.eq(fresh & ~selected), self._malformed.eq(0), self._unknown.eq(0)]
        m.d.sync += [found.eq(0) for found in self._is.values()]
        with m.If(fresh & selected):
            with m.Switch(self._head.opcode):
                for opcode, found in self._is.items():
                    with m.Case(opcode):
                        wrong = Cat(*violations(self._config, opcode, view(self.command.payload, opcode))).any()
                        m.d.sync += [found.eq(~wrong), self._malformed.eq(wrong)]
                with m.Default():
                    m.d.sync += self._unknown.eq(1)

    def _suspect(self, m: Module) -> None:
        """Of the busy units the one that others wait for; nobody is busy: the fetch."""
        m.d.comb += self.stalled_on.eq(StallSource.FETCH)
        for unit, source in reversed(_SUSPECTS):
            with m.If(self._ledger.busy[unit]):
                m.d.comb += self.stalled_on.eq(source)

    def _next(self, m: Module) -> None:
        m.d.comb += self.command.ready.eq(1)
        m.d.sync += self.index.eq(self.index + 1)
        m.next = "DECODE"

    def _handed_out(self, m: Module) -> None:
        m.d.comb += self.started.eq(1)
        self._next(m)

    def _decode(self, m: Module) -> None:
        """Refuse a malformed command; else hand it out once it may start."""
        ledger = self._ledger
        with m.If(self._malformed):
            self._refuse(m, ErrorCode.BAD_FIELD)
        with m.If(self._unknown):
            self._refuse(m, ErrorCode.BAD_OPCODE)
        with m.If(self._is[Opcode.END] & (ledger.busy == 0)):
            m.d.comb += self.command.ready.eq(1)
            m.d.sync += self.finished.eq(1)
            m.next = "IDLE"
        for opcode, found in self._is.items():
            if opcode in UNIT_OF:
                with m.If(found & ~self._offered & (self.waiting_for == 0)):
                    m.d.sync += [self._offer[UNIT_OF[opcode]].eq(1), self._offered.eq(1)]
            elif opcode != Opcode.END:
                with m.If(found & self._clear):
                    self._start(m, opcode)

    def _refuse(self, m: Module, code: ErrorCode) -> None:
        m.d.sync += [
            self.error.valid.eq(1),
            self.error.payload.code.eq(code),
            self.error.payload.address.eq(self._head.opcode),
        ]
        m.next = "HALTED"

    def _start(self, m: Module, opcode: Opcode) -> None:
        """Everything that a command that is not just one job waits for is done."""
        ledger = self._ledger
        if opcode in (Opcode.STAGE, Opcode.LOAD_RESIDUAL):
            with m.If(~ledger.busy[STREAM]):
                m.d.comb += ledger.taken[STREAM].eq(1)
                self._handed_out(m)
        elif opcode == Opcode.LAYERNORM:
            with m.If(~ledger.busy[STREAM] & ~ledger.busy[NORM]):
                m.d.comb += self.started.eq(1)
                m.d.sync += self._shifts_wanted.eq(1)
                m.next = "SHIFTS"
        else:
            m.d.comb += self.started.eq(1)
            m.next = "NEXT_EXPERT"

    def _fill(self, m: Module, job: data.View, fields: data.View) -> None:
        """Copy the fields that command and job have in common."""
        known = {name for name, _ in fields.shape()}
        registers = {"image_base": self.image_base, "output_base": self.output_base}
        for name, _ in job.shape():
            if name in registers:
                m.d.comb += job[name].eq(registers[name])
            elif name in known:
                m.d.comb += job[name].eq(fields[name])

    def _norm_states(self, m: Module) -> None:
        """LayerNorm's shifts, which no block overtakes, then its job."""
        with m.State("SHIFTS"):
            with m.If(self.stream_done):
                m.d.sync += [self._shifts_wanted.eq(0), self._offer["layernorm"].eq(1)]
                m.next = "NORM"
        with m.State("NORM"):
            with m.If(self.layernorm_job.ready):
                self._next(m)

    def _expert_states(self, m: Module) -> None:
        """Two engine jobs for every expert with tokens."""
        fields = view(self.command.payload, Opcode.EXPERTS)
        expert, second = self._expert, self._second
        with m.State("NEXT_EXPERT"):
            m.d.comb += self.experts_active.eq(1)
            with m.If(expert == fields.experts):
                m.d.comb += self.experts_active.eq(0)
                m.d.sync += expert.eq(0)
                self._next(m)
            with m.Elif(~self._occupied.bit_select(self._number, 1)):
                m.d.sync += expert.eq(expert + 1)
            with m.Else():
                m.d.sync += self._offer_expert.eq(1)
                m.next = "EXPERT"
        with m.State("EXPERT"):
            m.d.comb += self.experts_active.eq(1)
            with m.If(self.engine_job.ready):
                m.d.sync += second.eq(~second)
                with m.If(second):
                    m.d.sync += [expert.eq(expert + 1), self._offer_expert.eq(0)]
                    m.next = "NEXT_EXPERT"

    def _expert_job(self, m: Module) -> None:
        """Gather through the first matrix, or scatter through the second, which reads what the first writes."""
        ledger, second, c = self._ledger, self._second, view(self.command.payload, Opcode.EXPERTS)
        m.d.comb += [
            ledger.where.expert.eq(self._expert),
            ledger.where.second_matrix.eq(second),
            ledger.follow.eq(Mux(second, Follow.ENGINE, Follow.NOTHING)),
        ]
        first_job = {
            "broadcast_base": c.source_base,
            "broadcast_stride": c.source_stride,
            "words": c.source_words,
            "stationary_rows": c.hidden_channels,
            "channels": c.hidden_channels,
            "destination_base": c.hidden_base,
            "destination_stride": c.hidden_stride,
            "gelu": Const(1),
            "gather": Const(1),
        }
        second_job = {
            "broadcast_base": c.hidden_base,
            "broadcast_stride": c.hidden_stride,
            "broadcast_unsigned": Const(1),
            "words": c.hidden_words,
            "stationary_rows": c.channels,
            "channels": c.channels,
            "destination_base": c.destination_base,
            "destination_stride": c.destination_stride,
            "destination": Const(Destination.RESIDUAL_ADD),
            "scatter": Const(1),
        }
        job = self.engine_job.payload
        m.d.comb += [
            job.steps.eq(Array(self._tokens)[self._number[exact_log2(_TOGETHER) :]]),
            job.expert.eq(self._expert),
            job.gelu_multiplier.eq(c.gelu_multiplier),
            job.gelu_shift.eq(c.gelu_shift),
        ]
        for chosen, values in ((~second, first_job), (second, second_job)):
            with m.If(chosen):
                m.d.comb += [job[name].eq(value) for name, value in values.items()]
