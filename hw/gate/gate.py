"""Gate: chooses each token's experts and queues the token with them."""

from __future__ import annotations

from amaranth.hdl import Array, Assert, Format, Module, Mux, ResetSignal, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out, connect
from amaranth.utils import exact_log2

from hw.blocks.pipeline import delay
from hw.blocks.sleep import sleeping
from hw.config import AcceleratorConfig
from hw.gate.token_queues import TokenQueues
from hw.gate.top_k import TopK
from hw.gate.weights import GateWeights
from hw.interfaces.gate import (
    candidate_layout,
    queue_address_layout,
    queue_counts_layout,
    queue_entry_layout,
    queue_write_layout,
)
from hw.interfaces.jobs import gate_job_layout
from hw.interfaces.memory import MEMORY_LATENCY, score_word_layout
from hw.interfaces.strobe import Strobe


class Gate(wiring.Component):
    """Top-k gating for Edge-MoE's expert-by-expert order (ICCAD 2023, section IV-D): a queue of tokens for each expert.

    Two stages work on two tokens: one reads a token's logits and sorts the best, one a cycle; the other raises them,
    sums, and weighs the chosen (integer golden model: ``gate``, ``queues``).

    ::

        score buffer ─► select ─┬─► TopK ────► GateWeights ─► TokenQueues ─► queue_entry
                                └─► (scores) ───┘

    Parameters
    ----------
    config:
        Sizes of the machine.

    Members
    -------
    job: In(stream(gate_job))
        Tokens 1 to max_tokens, experts 1 to max_experts, top_k 1 to min(experts, max_top_k). Taken when idle; empties
        the queues.
    rows_ready: In(16)
        Tokens whose logits may be read, from the cycle after the job was taken on; never falls during a job.
    score_read_enable, score_read_address: Out, score_read_data: In(score_word)
        Read port of the score buffer, MEMORY_LATENCY: expert e of token t is element e % P of word e // P * tokens + t.
    queue_address: In(queue_address), queue_entry: Out(queue_entry)
        Read port of the queues, MEMORY_LATENCY.
    counts: Out(queue_counts)
        Queue lengths, kept until the next job.
    queue_write: Out(Strobe(queue_write))
        Every entry as it is written: tokens in order, a token's experts best first.
    done: Out(1)
        Pulse: the queues are complete.

    Timing: max(experts + 1, 16) cycles a token once its logits are there, and about 55 for the last one.
    Resources: queues of max_experts x max_tokens entries in block RAM, three multipliers.
    """

    def __init__(self, config: AcceleratorConfig) -> None:
        self._config = config
        super().__init__(
            {
                "job": In(stream.Signature(gate_job_layout())),
                "rows_ready": In(16),
                "score_read_enable": Out(1),
                "score_read_address": Out(range(config.score_words)),
                "score_read_data": In(score_word_layout(config)),
                "queue_address": In(queue_address_layout(config)),
                "queue_entry": Out(queue_entry_layout(config)),
                "counts": Out(queue_counts_layout(config)),
                "queue_write": Out(Strobe(queue_write_layout(config))),
                "done": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config = self._config
        top_k, weights, awake = TopK(config), GateWeights(config), Signal()
        m.submodules.top_k = sleeping(m, platform, "top_k", top_k, awake)
        m.submodules.weights = sleeping(m, platform, "weights", weights, awake)
        m.submodules.queues = queues = TokenQueues(config)
        connect(m, weights.append, queues.append)
        job, start, begun, scanning = Signal(gate_job_layout()), Signal(), Signal(), Signal()
        m.d.sync += begun.eq(start)
        m.d.comb += [
            start.eq(self.job.valid & self.job.ready),
            awake.eq(scanning | self.done),
            queues.clear.eq(begun),
            weights.clear.eq(begun),
            weights.experts.eq(job.experts),
            weights.top_k.eq(job.top_k),
            queues.address.eq(self.queue_address),
            self.queue_entry.eq(queues.entry),
            self.counts.eq(queues.counts),
            self.queue_write.valid.eq(queues.written.valid),
            self.queue_write.payload.eq(queues.written.payload),
        ]
        buffer = self._select(m, *self._scan(m, job, scanning), top_k, weights)
        m.d.comb += [weights.ranked.payload.ranking.eq(top_k.ranking), weights.ranked.payload.buffer.eq(buffer)]

        # The queue writes an entry a cycle after it was appended.
        last_token = Signal(range(config.max_tokens))
        m.d.sync += last_token.eq(job.tokens - 1)
        last = weights.token_last & (weights.append.payload.token == last_token)
        finished = delay(m, last, 1, name="finished")
        m.d.sync += self.done.eq(finished)
        m.d.comb += self.job.ready.eq(~scanning)
        with m.If(start):
            m.d.sync += [job.eq(self.job.payload), scanning.eq(1)]
        with m.Elif(finished):
            m.d.sync += scanning.eq(0)
        self._check(m)
        return m

    def _scan(self, m: Module, job: data.View, scanning: Signal) -> tuple[Signal, data.View, Signal]:
        """Issue reads; returns whether one was issued, for what, and whether it is its token's last."""
        config = self._config
        token = Signal(range(config.max_tokens + 1))
        slot = Signal(range(max(config.max_experts + 1, GateWeights.INTERVAL)))
        first_word = Signal(range(config.score_words))
        issued, last, wanted, waits = Signal(), Signal(), Signal(candidate_layout(config)), Signal()
        # What a job allows is worked out a cycle before it is looked at; tokens never overtake their limit.
        limit, last_slot, last_expert = Signal.like(token), Signal.like(slot), Signal.like(slot)
        reading, slot_last, within = Signal(), Signal(), Signal(init=1)
        m.d.sync += [
            limit.eq(Mux(self.rows_ready < job.tokens, self.rows_ready, job.tokens)),
            last_slot.eq(Mux(job.experts < GateWeights.INTERVAL, GateWeights.INTERVAL - 1, job.experts)),
            last_expert.eq(job.experts - 1),
            reading.eq(scanning),
        ]
        m.d.comb += [
            waits.eq(token == limit),
            slot_last.eq(slot == last_slot),
            issued.eq(reading & within & ~waits),
            last.eq(issued & (slot == last_expert)),
            wanted.expert.eq(slot),
            wanted.first.eq(slot == 0),
        ]
        m.d.sync += [self.score_read_enable.eq(issued), self.score_read_address.eq(first_word + token)]
        with m.If(~reading):
            m.d.sync += [token.eq(0), slot.eq(0), first_word.eq(0), within.eq(1)]
        with m.Elif(slot_last):
            m.d.sync += [slot.eq(0), first_word.eq(0), within.eq(1), token.eq(token + 1)]
        with m.Elif(~waits):
            m.d.sync += [slot.eq(slot + 1), within.eq(within & (slot != last_expert))]
            with m.If(slot[: exact_log2(config.elements)].all()):
                m.d.sync += first_word.eq(first_word + job.tokens)
        return issued, wanted, last

    def _select(
        self, m: Module, issued: Signal, wanted: data.View, last: Signal, top_k: TopK, weights: GateWeights
    ) -> Signal:
        """Pass the scores on as they arrive; returns the buffer of the token that is ranked."""
        config = self._config
        arrived = delay(m, wanted, 1 + MEMORY_LATENCY, name="arrived")
        chosen, buffer, ranked_buffer = top_k.candidate, Signal(), Signal()
        m.d.sync += [
            chosen.payload.eq(arrived),
            chosen.payload.score.eq(Array(self.score_read_data)[arrived.expert[: exact_log2(config.elements)]]),
        ]
        ended = delay(m, last, MEMORY_LATENCY + 2, name="ended")
        with m.If(ended):
            m.d.sync += [buffer.eq(~buffer), ranked_buffer.eq(buffer)]
        m.d.comb += [
            chosen.valid.eq(delay(m, issued, MEMORY_LATENCY + 2, name="issued")),
            weights.score.valid.eq(chosen.valid),
            weights.score.payload.buffer.eq(buffer),
            weights.score.payload.expert.eq(chosen.payload.expert),
            weights.score.payload.score.eq(chosen.payload.score),
            weights.ranked.valid.eq(delay(m, ended, TopK.LATENCY, name="ranked")),
        ]
        return ranked_buffer

    def _check(self, m: Module) -> None:
        """What the command's checks guarantee."""
        config, given = self._config, self.job.payload
        with m.If(self.job.valid & ~ResetSignal()):
            m.d.sync += [
                Assert(
                    (given.tokens != 0) & (given.tokens <= config.max_tokens), Format("gate of {} tokens", given.tokens)
                ),
                Assert(
                    (given.experts != 0) & (given.experts <= config.max_experts),
                    Format("gate of {} experts", given.experts),
                ),
                Assert(
                    (given.top_k != 0) & (given.top_k <= given.experts) & (given.top_k <= config.max_top_k),
                    Format("gate chooses {} of {} experts", given.top_k, given.experts),
                ),
            ]
