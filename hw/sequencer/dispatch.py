"""Dispatch: commands in order, one at a time; the expert loop; errors and progress marks."""

from __future__ import annotations

from collections.abc import Mapping

from amaranth.hdl import Cat, Const, Module, Signal, Value, unsigned
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from hw.bus.window import error_report
from hw.config import AcceleratorConfig
from hw.interfaces import Strobe
from hw.isa import Destination, ErrorCode, Opcode, StallSource
from hw.sequencer.command import DECODED_BITS, view
from hw.sequencer.rules import violations
from hw.sequencer.schedule import queue_counts

UNIT_OPCODES = {
    "engine": (Opcode.LINEAR, Opcode.ATTENTION),
    "layernorm": (Opcode.LAYERNORM,),
    "gate": (Opcode.GATE,),
    "image": (Opcode.LOAD_IMAGE,),
    "store": (Opcode.STORE,),
}
"""Which unit runs which command. STAGE and LOAD_RESIDUAL are the weight stream's; EXPERTS loops over the engine."""

_STALL_SOURCE = {
    "engine": StallSource.ENGINE,
    "layernorm": StallSource.LAYERNORM,
    "gate": StallSource.GATE,
    "image": StallSource.IMAGE,
    "store": StallSource.STORE,
}


def dispatcher_members(
    config: AcceleratorConfig, job_layouts: Mapping[str, data.StructLayout]
) -> dict[str, wiring.Member]:
    """Ports of the :class:`Dispatcher`."""
    units = {}
    for name in UNIT_OPCODES:
        units[f"{name}_job"] = Out(stream.Signature(job_layouts[name]))
        units[f"{name}_done"] = In(1)
    return {
        "start": In(1),
        "task_index": In(4),
        "image_base": In(32),
        "output_base": In(32),
        "command": In(stream.Signature(unsigned(DECODED_BITS))),
        **units,
        "counts": In(queue_counts(config)),
        "stream_permit": Out(1),
        "stream_done": In(1),
        "index": Out(16),
        "experts_active": Out(1),
        "expert": Out(range(config.max_experts)),
        "second_matrix": Out(1),
        "started": Out(1),
        "ended": Out(1),
        "busy": Out(1),
        "finished": Out(1),
        "error": Out(Strobe(error_report())),
        "stalled_on": Out(unsigned(3)),
    }


class Dispatcher(wiring.Component):
    """Runs the program: checks each command, hands it to its unit, waits until it is done.

    Parameters
    ----------
    config:
        Sizes of the machine.
    job_layouts:
        Payload of each unit's job stream, by the names of ``UNIT_OPCODES``. Fields named as in ``hw.isa`` are copied
        from the command; ``image_base`` and ``output_base`` come from the registers.

    Members
    -------
    start:
        Run from command 0; ``task_index``, ``image_base`` and ``output_base`` must stay stable while ``busy``.
    command:
        The program, from its own reader of the command ring.
    UNIT_job, UNIT_done:
        Job stream and done pulse of each unit.
    counts:
        Queue lengths from the gate.
    stream_permit, stream_done:
        Delivery of a block that its command waits for (STAGE, LOAD_RESIDUAL, LayerNorm's shifts).
    index, experts_active, expert:
        Command in progress, whether it is an EXPERTS command, and its current expert.
    started, ended:
        Time-stamp pulses for command ``index``.
    finished, error:
        END was reached; or a command was refused (the dispatcher then stays halted until it is reset).
    stalled_on:
        The unit that it waits for, for the watchdog.

    A command costs two cycles beyond its unit's own time; one of another task costs one.
    """

    def __init__(self, config: AcceleratorConfig, job_layouts: Mapping[str, data.StructLayout]) -> None:
        self._config = config
        super().__init__(dispatcher_members(config, job_layouts))

    def elaborate(self, platform: object) -> Module:
        """Decode, issue, wait, next."""
        m = Module()
        command = self.command.payload
        head = view(command, Opcode.LINEAR)
        m.d.comb += self.busy.eq(1)
        with m.FSM(name="state"):
            with m.State("IDLE"):
                m.d.comb += self.busy.eq(0)
                with m.If(self.start):
                    m.d.sync += self.index.eq(0)
                    m.next = "DECODE"
            with m.State("DECODE"):
                m.d.comb += self.stalled_on.eq(StallSource.FETCH)
                with m.If(self.command.valid):
                    with m.If(~(head.task_mask >> self.task_index)[0]):
                        self._next(m)
                    with m.Else():
                        self._decode(m)
            for name in UNIT_OPCODES:
                self._unit_states(m, name)
            with m.State("BLOCK"):
                m.d.comb += [self.stream_permit.eq(1), self.stalled_on.eq(StallSource.STREAM)]
                with m.If(self.stream_done):
                    with m.If(head.opcode == Opcode.LAYERNORM):
                        m.next = "LAYERNORM"
                    with m.Else():
                        self._complete(m)
            self._expert_states(m)
            with m.State("HALTED"):
                pass
        return m

    def _next(self, m: Module) -> None:
        m.d.comb += self.command.ready.eq(1)
        m.d.sync += self.index.eq(self.index + 1)
        m.next = "DECODE"

    def _complete(self, m: Module) -> None:
        m.d.comb += self.ended.eq(1)
        self._next(m)

    def _decode(self, m: Module) -> None:
        """Refuse a malformed command; else go to the state that runs it."""
        head = view(self.command.payload, Opcode.LINEAR)
        state = {opcode: name.upper() for name, opcodes in UNIT_OPCODES.items() for opcode in opcodes}
        state |= {
            Opcode.STAGE: "BLOCK",
            Opcode.LOAD_RESIDUAL: "BLOCK",
            Opcode.LAYERNORM: "BLOCK",
            Opcode.EXPERTS: "NEXT_EXPERT",
        }
        with m.Switch(head.opcode):
            for opcode, target in state.items():
                with m.Case(opcode):
                    wrong = violations(self._config, opcode, view(self.command.payload, opcode))
                    with m.If(Cat(*wrong).any()):
                        self._refuse(m, ErrorCode.BAD_FIELD)
                    with m.Else():
                        m.d.comb += self.started.eq(1)
                        m.next = target
            with m.Case(Opcode.END):
                m.d.comb += [self.finished.eq(1), self.command.ready.eq(1)]
                m.next = "IDLE"
            with m.Default():
                self._refuse(m, ErrorCode.BAD_OPCODE)

    def _refuse(self, m: Module, code: ErrorCode) -> None:
        head = view(self.command.payload, Opcode.LINEAR)
        m.d.comb += [
            self.error.valid.eq(1),
            self.error.payload.code.eq(code),
            self.error.payload.address.eq(head.opcode),
        ]
        m.next = "HALTED"

    def _unit_states(self, m: Module, name: str) -> None:
        """Offer a command to its unit, then wait for it."""
        job, done = getattr(self, f"{name}_job"), getattr(self, f"{name}_done")
        with m.State(name.upper()):
            m.d.comb += [job.valid.eq(1), self.stalled_on.eq(_STALL_SOURCE[name])]
            for opcode in UNIT_OPCODES[name]:
                with m.If(view(self.command.payload, Opcode.LINEAR).opcode == opcode):
                    self._fill(m, job.payload, view(self.command.payload, opcode))
                    if opcode == Opcode.ATTENTION:
                        m.d.comb += job.payload.attention.eq(1)
            with m.If(job.ready):
                m.next = f"{name.upper()}_WAIT"
        with m.State(f"{name.upper()}_WAIT"):
            m.d.comb += self.stalled_on.eq(_STALL_SOURCE[name])
            with m.If(done):
                self._complete(m)

    def _fill(self, m: Module, job: data.View, fields: data.View) -> None:
        """Copy the fields that command and job have in common."""
        known = {name for name, _ in fields.shape()}
        registers = {"image_base": self.image_base, "output_base": self.output_base}
        for name, _ in job.shape():
            if name in registers:
                m.d.comb += job[name].eq(registers[name])
            elif name in known:
                m.d.comb += job[name].eq(fields[name])

    def _expert_states(self, m: Module) -> None:
        """Two engine jobs for every expert with tokens: gather through the first matrix, scatter through the second."""
        fields = view(self.command.payload, Opcode.EXPERTS)
        expert = Signal(8)
        second = Signal()
        count = Signal(16)
        m.d.comb += [
            self.expert.eq(expert),
            self.second_matrix.eq(second),
            count.eq(self.counts[expert[: exact_log2(self._config.max_experts)]]),
        ]
        with m.State("NEXT_EXPERT"):
            m.d.comb += self.experts_active.eq(1)
            with m.If(expert == fields.experts):
                m.d.sync += expert.eq(0)
                self._complete(m)
            with m.Elif(count == 0):
                m.d.sync += expert.eq(expert + 1)
            with m.Else():
                m.next = "EXPERT"
        with m.State("EXPERT"):
            m.d.comb += [self.experts_active.eq(1), self.engine_job.valid.eq(1)]
            m.d.comb += self.stalled_on.eq(StallSource.ENGINE)
            self._expert_job(m, fields, count, second)
            with m.If(self.engine_job.ready):
                m.next = "EXPERT_WAIT"
        with m.State("EXPERT_WAIT"):
            m.d.comb += [self.experts_active.eq(1), self.stalled_on.eq(StallSource.ENGINE)]
            with m.If(self.engine_done):
                m.d.sync += second.eq(~second)
                with m.If(second):
                    m.d.sync += expert.eq(expert + 1)
                    m.next = "NEXT_EXPERT"
                with m.Else():
                    m.next = "EXPERT"

    def _expert_job(self, m: Module, c: data.View, count: Value, second: Value) -> None:
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
            job.steps.eq(count),
            job.expert.eq(self.expert),
            job.gelu_multiplier.eq(c.gelu_multiplier),
            job.gelu_shift.eq(c.gelu_shift),
        ]
        for chosen, values in ((~second, first_job), (second, second_job)):
            with m.If(chosen):
                m.d.comb += [job[name].eq(value) for name, value in values.items()]
