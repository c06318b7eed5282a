"""Weight scheduling: walks the program ahead of execution and asks for the weight stream's blocks in order of use."""

from __future__ import annotations

from dataclasses import dataclass

from amaranth.hdl import Cat, Module, Mux, Signal, Value, unsigned
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from tessera.hw.config import AcceleratorConfig
from tessera.hw.interfaces.gate import queue_counts_layout
from tessera.hw.interfaces.jobs import StreamKind, stream_job_layout
from tessera.hw.interfaces.sequencer import RunOrder
from tessera.hw.isa import BYTE_ADDRESS_WIDTH, COMMAND_INDEX_WIDTH, Opcode
from tessera.hw.sequencer.command import DECODED_BITS, copy_common, selected, view
from tessera.hw.sequencer.experts import occupied_experts
from tessera.hw.tables import TABLE_ENTRIES

_COPIES = {Opcode.STAGE: StreamKind.STAGE, Opcode.LIST: StreamKind.LIST, Opcode.LOAD_RESIDUAL: StreamKind.RESIDUAL}
"""Commands that are nothing but a block of words or entries, and its kind."""
_BLOCKS = (Opcode.LINEAR, Opcode.CONVOLUTION, Opcode.LAYERNORM, Opcode.TABLE, *_COPIES)
"""Commands with one block of the stream; EXPERTS has two for each expert."""


@dataclass(frozen=True, kw_only=True)
class _Walk:
    """Signals of the scheduler that the walk over the experts uses.

    Members
    -------
    occupied:
        One bit for each expert: it has tokens.
    decided:
        The gate has filled the queues of the command.
    block:
        Register: byte address of the expert's first block.
    second:
        Register: the next job is the expert's second block.
    done:
        To drive: the last job of the command leaves.
    """

    occupied: Signal
    decided: Value
    block: Signal
    second: Signal
    done: Signal


class StreamScheduler(wiring.Component):
    """Turns commands into jobs of the weight stream.

    Design: one register for each kind of command with blocks says that it is the command's turn. A command stays on
    the stream until its last job has left. Commands without blocks, and those of other tasks, are passed over.

    A ``stored`` block is asked for when the dispatcher has handed out its command, so that all STOREs which that comes
    after are answered. What follows waits behind it: the stream keeps the order of the commands. The dispatcher hands
    out such a command without its block, so neither waits for the other for ever.

    Latency: a job leaves at most three cycles after its command came; that of a ``stored`` block ``RELEASE`` cycles
    after its command was handed out. EXPERTS takes two cycles for each expert more.

    Parameters
    ----------
    config:
        Sizes of the machine.

    Members
    -------
    command: In(stream)
        The program, from its own reader of the command ring.
    run: In(RunOrder)
        The selected task, and the base addresses of the weight stream and of the results.
    counts: In(queue_counts)
        Tokens on each expert's queue; valid while ``dispatch_experts`` is 1. Experts without tokens are passed over.
    dispatch_index: In(16)
        Index of the command that the dispatcher is at.
    dispatch_experts: In(1)
        That command is EXPERTS in progress, so the gate has filled the queues.
    job: Out(stream)
        Blocks for the weight stream, in order of use.
    """

    RELEASE = 3
    """From a command's being handed out to the job of its ``stored`` block."""

    def __init__(self, config: AcceleratorConfig) -> None:
        self._config = config
        super().__init__(
            {
                "command": In(stream.Signature(unsigned(DECODED_BITS))),
                "run": In(RunOrder()),
                "counts": In(queue_counts_layout(config)),
                "dispatch_index": In(COMMAND_INDEX_WIDTH),
                "dispatch_experts": In(1),
                "job": Out(stream.Signature(stream_job_layout(config))),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """One command at a time, one job or several for it."""
        m = Module()
        index = Signal(COMMAND_INDEX_WIDTH)
        command = self.command.payload
        head = view(command, Opcode.LINEAR)
        done, dispatched, passed = Signal(), Signal(), Signal()
        m.d.comb += self.command.ready.eq(done)
        with m.If(self.command.valid & done):
            m.d.sync += index.eq(Mux(head.opcode == Opcode.END, 0, index + 1))
        # The comparison is a cycle late. That does no harm, because the next command takes longer to come.
        m.d.sync += dispatched.eq(self.dispatch_experts & (self.dispatch_index == index))
        # The turn is decoded into registers, because it chooses all fields of the job. Each is valid from a command's
        # second cycle on until one cycle after its last.
        turn = {opcode: Signal(name=f"is_{opcode.name.lower()}") for opcode in (*_BLOCKS, Opcode.EXPERTS)}
        runs = selected(m, command, self.run.settings.task_index)
        m.d.sync += passed.eq(self.command.valid & ~(runs & Cat(head.opcode == opcode for opcode in turn).any()))
        stored, may_ask = self._stored(m, index)
        for opcode, found in turn.items():
            comes = may_ask if opcode == Opcode.LOAD_RESIDUAL else 1
            m.d.sync += found.eq(self.command.valid & runs & (head.opcode == opcode) & comes)
        # The address of the first block is added up in time for the turn; EXPERTS counts it on from there.
        block, begun, settings = Signal(BYTE_ADDRESS_WIDTH), Signal(), self.run.settings
        with m.If(~begun):
            m.d.sync += block.eq(Mux(stored, settings.output_base, settings.weight_address) + head.stream_address)
        second, first_bytes = Signal(), view(command, Opcode.EXPERTS).first_bytes
        m.d.comb += self.job.payload.address.eq(block + Mux(second, first_bytes, 0))
        occupied = occupied_experts(m, self.counts)
        with m.If(self.command.valid):
            m.d.comb += done.eq(passed)
            for opcode in _BLOCKS:
                with m.If(turn[opcode]):
                    self._describe(m, opcode)
                    m.d.comb += [
                        self.job.payload.bytes.eq(head.stream_bytes),
                        self.job.valid.eq(1),
                        done.eq(self.job.ready),
                    ]
            with m.If(turn[Opcode.EXPERTS]):
                # The dispatcher may hand out its last expert before the blocks of that one have been asked for.
                decided = begun | dispatched
                m.d.sync += begun.eq(decided & ~done)
                walk = _Walk(occupied=occupied, decided=decided, block=block, second=second, done=done)
                self._experts(m, walk)
        return m

    def _stored(self, m: Module, index: Signal) -> tuple[Signal, Value]:
        """Whether the shown block is a ``stored`` one, from a register; and whether a LOAD_RESIDUAL may have its turn.

        The dispatcher's index has passed that of every command that it has handed out. Comparing them has a cycle of
        its own.
        """
        loads = view(self.command.payload, Opcode.LOAD_RESIDUAL)
        stored, handed_out = Signal(), Signal()
        m.d.sync += [
            stored.eq(self.command.valid & (loads.opcode == Opcode.LOAD_RESIDUAL) & loads.stored),
            handed_out.eq(stored & (self.dispatch_index > index)),
        ]
        return stored, ~loads.stored | handed_out

    def _tiles(self, channels: Value) -> Value:
        """Tiles of P channels, rounded up."""
        return (channels + (self._config.elements - 1)) >> exact_log2(self._config.elements)

    def _describe(self, m: Module, opcode: Opcode) -> None:
        """What the block of a command holds, beyond its address and length."""
        fields = view(self.command.payload, opcode)
        job = self.job.payload
        if opcode == Opcode.LINEAR:
            m.d.comb += job.kind.eq(StreamKind.WEIGHTS)
            copy_common(m, job, fields)
            # Swapped roles broadcast the weights from the scratchpad, so only parameter sets are streamed.
            with m.If(~fields.swapped):
                m.d.comb += job.tiles.eq(self._tiles(fields.stationary_rows))
        elif opcode == Opcode.CONVOLUTION:
            m.d.comb += [
                job.kind.eq(StreamKind.WEIGHTS),
                job.channels.eq(fields.stationary_rows),
                job.tiles.eq(self._tiles(fields.stationary_rows)),
            ]
            copy_common(m, job, fields)
        elif opcode == Opcode.LAYERNORM:
            m.d.comb += [
                job.kind.eq(StreamKind.SHIFTS),
                job.channels.eq(fields.words << exact_log2(self._config.lanes)),
            ]
        elif opcode == Opcode.TABLE:
            m.d.comb += [job.kind.eq(StreamKind.TABLE), job.channels.eq(4 * TABLE_ENTRIES)]
        else:
            m.d.comb += [
                job.kind.eq(_COPIES[opcode]),
                job.base.eq(fields.destination_base),
            ]
            copy_common(m, job, fields)

    def _experts(self, m: Module, walk: _Walk) -> None:
        """Two blocks for every expert that has tokens; the block address steps on for every expert."""
        fields = view(self.command.payload, Opcode.EXPERTS)
        job = self.job.payload
        expert, second, block = Signal(8), walk.second, walk.block
        # An expert is looked up in one cycle and acted on from the next one on: the choice among all experts is slow.
        looked, wanted, ended = Signal(), Signal(), Signal()
        m.d.comb += job.kind.eq(StreamKind.WEIGHTS)
        with m.If(second):
            m.d.comb += [
                job.bytes.eq(fields.stream_bytes - fields.first_bytes),
                job.channels.eq(fields.channels),
                job.tiles.eq(self._tiles(fields.channels)),
                job.words.eq(fields.hidden_words),
            ]
        with m.Else():
            m.d.comb += [
                job.bytes.eq(fields.first_bytes),
                job.channels.eq(fields.hidden_channels),
                job.tiles.eq(self._tiles(fields.hidden_channels)),
                job.words.eq(fields.source_words),
            ]
        next_expert = [expert.eq(expert + 1), block.eq(block + fields.stream_bytes), looked.eq(0)]
        with m.If(walk.decided):
            with m.If(~looked):
                m.d.sync += [
                    looked.eq(1),
                    wanted.eq(walk.occupied.bit_select(expert[: exact_log2(self._config.max_experts)], 1)),
                    ended.eq(expert == fields.experts),
                ]
            with m.Elif(ended):
                m.d.comb += walk.done.eq(1)
                m.d.sync += [expert.eq(0), looked.eq(0)]
            with m.Elif(~wanted):
                m.d.sync += next_expert
            with m.Else():
                m.d.comb += self.job.valid.eq(1)
                with m.If(self.job.ready):
                    m.d.sync += second.eq(~second)
                    with m.If(second):
                        m.d.sync += next_expert
