"""The loop over experts: one EXPERTS command becomes two engine jobs for each expert that has tokens."""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Mux, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from tessera.hw.blocks.arithmetic import pick
from tessera.hw.blocks.fields import assign
from tessera.hw.config import AcceleratorConfig
from tessera.hw.interfaces.gate import queue_counts_layout
from tessera.hw.interfaces.jobs import expert_job_layout
from tessera.hw.isa import Destination, Function, Opcode
from tessera.hw.sequencer.command import DECODED_BITS, view

_COUNTS_PER_CYCLE = 4
"""Token counts among which one cycle chooses: the first of two stages takes one of four, the second one of the rest."""


def occupied_experts(m: Module, counts: data.View) -> Signal:
    """One bit for each expert: it has tokens. A register, so it follows ``counts`` by a cycle.

    The counts settle long before their use, because the gate is done before the loop begins.
    """
    experts = Signal(len(counts), name="occupied")
    m.d.sync += experts.eq(Cat(count != 0 for count in counts))
    return experts


class ExpertLoop(wiring.Component):
    """Walks the experts of an EXPERTS command and offers the engine two jobs for each that has tokens.

    The first job gathers the rows of an expert's tokens, multiplies them by the first matrix and applies GELU. The
    second multiplies the result by the second matrix and adds its rows to those of the tokens (scatter).

    Design: the loop rests on an expert for a cycle to look it up. If the expert has tokens, its first job is offered
    from the next cycle on, then its second; else the loop goes on. ``job.valid`` is the whole state.

    Latency: one cycle for each expert, beside the engine's time to take its jobs; one cycle at the end.

    Parameters
    ----------
    config:
        Sizes of the machine.

    Members
    -------
    running: In(1)
        Level: the command's turn has come; until ``ended``.
    command: In(DECODED_BITS)
        The EXPERTS command, stable while ``running``.
    counts: In(queue_counts)
        Tokens on each expert's queue, stable while ``running``.
    job: Out(stream)
        The engine's jobs.
    expert: Out(8), second_matrix: Out(1)
        What the offered job is for.
    active: Out(1)
        Level: the loop goes on, so more jobs may come.
    ended: Out(1)
        Pulse: the engine has taken the last job.
    """

    def __init__(self, config: AcceleratorConfig) -> None:
        self._config = config
        super().__init__(
            {
                "running": In(1),
                "command": In(DECODED_BITS),
                "counts": In(queue_counts_layout(config)),
                "job": Out(stream.Signature(expert_job_layout(config))),
                "expert": Out(8),
                "second_matrix": Out(1),
                "active": Out(1),
                "ended": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Look an expert up, then offer its two jobs."""
        m = Module()
        number = self.expert[: exact_log2(self._config.max_experts)]
        occupied = occupied_experts(m, self.counts)
        looking = self.running & ~self.job.valid
        m.d.comb += [
            self.ended.eq(looking & (self.expert == view(self.command, Opcode.EXPERTS).experts)),
            self.active.eq(self.running & ~self.ended),
        ]
        # The look-up has a cycle of its own, because the choice of the token count starts in it.
        with m.If(self.ended):
            m.d.sync += self.expert.eq(0)
        with m.Elif(looking):
            with m.If(occupied.bit_select(number, 1)):
                m.d.sync += self.job.valid.eq(1)
            with m.Else():
                m.d.sync += self.expert.eq(self.expert + 1)
        # The engine takes the first matrix, then the second; only then the loop goes on to the next expert.
        with m.If(self.job.valid & self.job.ready):
            m.d.sync += self.second_matrix.eq(~self.second_matrix)
            with m.If(self.second_matrix):
                m.d.sync += [self.expert.eq(self.expert + 1), self.job.valid.eq(0)]
        self._describe(m, self._tokens(m, number))
        return m

    def _tokens(self, m: Module, number: Value) -> Value:
        """Tokens of the expert: valid from the second cycle on in which the loop is at it."""
        # Choosing one of all counts takes longer than a cycle, so a register holds one candidate of each few.
        low = exact_log2(_COUNTS_PER_CYCLE)
        candidates = []
        for first in range(0, self._config.max_experts, _COUNTS_PER_CYCLE):
            candidate = Signal(self.job.payload.steps.shape(), name=f"tokens_{first}")
            m.d.sync += candidate.eq(pick(list(self.counts)[first : first + _COUNTS_PER_CYCLE], number[:low]))
            candidates.append(candidate)
        return pick(candidates, number[low:])

    def _describe(self, m: Module, tokens: Value) -> None:
        """The job in hand: gather through the first matrix, or scatter through the second."""
        # Each field is a choice of two command fields. Bases and strides cross over, because the second matrix reads
        # what the first one writes.
        job, c, second = self.job.payload, view(self.command, Opcode.EXPERTS), self.second_matrix
        m.d.comb += assign(
            job,
            list=self.expert << exact_log2(self._config.max_tokens),
            routed=1,
            steps=tokens,
            broadcast_base=Mux(second, c.hidden_base, c.source_base),
            broadcast_stride=Mux(second, c.hidden_stride, c.source_stride),
            words=Mux(second, c.hidden_words, c.source_words),
            stationary_rows=Mux(second, c.channels, c.hidden_channels),
            channels=Mux(second, c.channels, c.hidden_channels),
            destination_base=Mux(second, c.destination_base, c.hidden_base),
            destination_stride=Mux(second, c.destination_stride, c.hidden_stride),
            destination=Mux(second, Destination.RESIDUAL_ADD, Destination.ACTIVATION),
            function=Mux(second, Function.NONE, c.function),
            gather=~second,
            scatter=second,
            broadcast_unsigned=second,  # what a Function leaves is unsigned
            function_multiplier=c.function_multiplier,
            function_shift=c.function_shift,
        )
