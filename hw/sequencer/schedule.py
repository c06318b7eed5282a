"""Weight scheduling: walks the program ahead of execution and asks for the weight stream's blocks in order of use."""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Mux, Signal, Value, unsigned
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from hw.config import AcceleratorConfig
from hw.interfaces.gate import queue_counts_layout
from hw.interfaces.jobs import StreamKind, stream_job_layout
from hw.isa import Opcode
from hw.sequencer.command import DECODED_BITS, view


def occupied(m: Module, counts: data.View) -> Signal:
    """Which experts have tokens, from registers: a cycle behind the counts, which settle long before their use."""
    experts = Signal(len(counts), name="occupied")
    m.d.sync += experts.eq(Cat(count != 0 for count in counts))
    return experts


_BLOCKS = (Opcode.LINEAR, Opcode.STAGE, Opcode.LOAD_RESIDUAL, Opcode.LAYERNORM)
"""Commands with one block of the stream; EXPERTS have two for each expert."""


class StreamScheduler(wiring.Component):
    """Turns commands into jobs of the weight stream.

    Parameters
    ----------
    config:
        Sizes of the machine.

    Members
    -------
    command:
        The program, from its own reader of the command ring.
    task_index, weight_address:
        Selected task (commands of other tasks are passed over) and base address of the stream.
    counts:
        Queue lengths; read from the time on when ``dispatch_experts`` marks command ``dispatch_index`` as an EXPERTS
        command in progress, for only then the gate has decided. Experts without tokens are passed over.
    job:
        To the weight stream.

    A job leaves at most three cycles after its command came, or two cycles an expert.
    """

    def __init__(self, config: AcceleratorConfig) -> None:
        self._config = config
        super().__init__(
            {
                "command": In(stream.Signature(unsigned(DECODED_BITS))),
                "task_index": In(4),
                "weight_address": In(32),
                "counts": In(queue_counts_layout(config)),
                "dispatch_index": In(16),
                "dispatch_experts": In(1),
                "job": Out(stream.Signature(stream_job_layout(config))),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """One state machine; a command stays on the stream until its last job has left."""
        m = Module()
        index = Signal(16)
        self._occupied = occupied(m, self.counts)
        command = self.command.payload
        head = view(command, Opcode.LINEAR)
        done, dispatched, passed = Signal(), Signal(), Signal()
        m.d.comb += self.command.ready.eq(done)
        with m.If(self.command.valid & done):
            m.d.sync += index.eq(Mux(head.opcode == Opcode.END, 0, index + 1))
        # A cycle late, but the next command takes longer to come.
        m.d.sync += dispatched.eq(self.dispatch_experts & (self.dispatch_index == index))
        # From a command's second cycle on, and in the one after its last, a register says whose turn it is.
        turn = {opcode: Signal(name=f"is_{opcode.name.lower()}") for opcode in (*_BLOCKS, Opcode.EXPERTS)}
        task = Signal.like(head.task_mask)
        m.d.sync += task.eq(1 << self.task_index)
        selected = (head.task_mask & task).any()
        m.d.sync += passed.eq(self.command.valid & ~(selected & Cat(head.opcode == opcode for opcode in turn).any()))
        for opcode, found in turn.items():
            m.d.sync += found.eq(self.command.valid & selected & (head.opcode == opcode))
        # Address of the command's first block, in time for its turn; an EXPERTS command counts it on from then.
        block, begun = Signal(32), Signal()
        with m.If(~begun):
            m.d.sync += block.eq(self.weight_address + head.stream_address)
        self._second = Signal()
        first_bytes = view(command, Opcode.EXPERTS).first_bytes
        m.d.comb += self.job.payload.address.eq(block + Mux(self._second, first_bytes, 0))
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
                self._experts(m, decided, done, block)
        return m

    def _tiles(self, channels: Value) -> Value:
        return (channels + (self._config.elements - 1)) >> exact_log2(self._config.elements)

    def _describe(self, m: Module, opcode: Opcode) -> None:
        """What the block of a command holds, beyond its address and length."""
        fields = view(self.command.payload, opcode)
        job = self.job.payload
        if opcode == Opcode.LINEAR:
            m.d.comb += [
                job.kind.eq(StreamKind.WEIGHTS),
                job.channels.eq(fields.channels),
                job.words.eq(fields.words),
                job.wide.eq(fields.wide),
            ]
            with m.If(~fields.swapped):
                m.d.comb += job.tiles.eq(self._tiles(fields.stationary_rows))
        elif opcode == Opcode.LAYERNORM:
            m.d.comb += [
                job.kind.eq(StreamKind.SHIFTS),
                job.channels.eq(fields.words << exact_log2(self._config.lanes)),
            ]
        else:
            kind = StreamKind.STAGE if opcode == Opcode.STAGE else StreamKind.RESIDUAL
            m.d.comb += [job.kind.eq(kind), job.words.eq(fields.words), job.base.eq(fields.destination_base)]

    def _experts(self, m: Module, decided: Value, done: Signal, block: Signal) -> None:
        """Two blocks for every expert that has tokens; the block address steps on for every expert."""
        fields = view(self.command.payload, Opcode.EXPERTS)
        job = self.job.payload
        expert, second = Signal(8), self._second
        # What is to be done for an expert is looked up in one cycle and done from the next one on.
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
        with m.If(decided):
            with m.If(~looked):
                m.d.sync += [
                    looked.eq(1),
                    wanted.eq(self._occupied.bit_select(expert[: exact_log2(self._config.max_experts)], 1)),
                    ended.eq(expert == fields.experts),
                ]
            with m.Elif(ended):
                m.d.comb += done.eq(1)
                m.d.sync += [expert.eq(0), looked.eq(0)]
            with m.Elif(~wanted):
                m.d.sync += [expert.eq(expert + 1), block.eq(block + fields.stream_bytes), looked.eq(0)]
            with m.Else():
                m.d.comb += self.job.valid.eq(1)
                with m.If(self.job.ready):
                    m.d.sync += second.eq(~second)
                    with m.If(second):
                        m.d.sync += [expert.eq(expert + 1), block.eq(block + fields.stream_bytes), looked.eq(0)]
