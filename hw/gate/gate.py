"""Gate: chooses each token's experts and queues the token with them."""

from __future__ import annotations

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped
from amaranth.utils import exact_log2

from tessera.hw.blocks.arithmetic import pick
from tessera.hw.blocks.checks import check
from tessera.hw.blocks.fields import assign
from tessera.hw.blocks.pipeline import delay
from tessera.hw.blocks.sleep import sleeping
from tessera.hw.config import AcceleratorConfig
from tessera.hw.gate.token_queues import TokenQueues
from tessera.hw.gate.top_k import TopK
from tessera.hw.gate.weights import GateWeights
from tessera.hw.interfaces.gate import candidate_layout, list_write_layout, queue_read, queue_write_layout
from tessera.hw.interfaces.jobs import gate_job_layout
from tessera.hw.interfaces.memory import MEMORY_LATENCY, score_read
from tessera.hw.interfaces.sequencer import gate_report
from tessera.hw.interfaces.strobe import Strobe, Work


class Gate(wiring.Component):
    """Top-k gating for Edge-MoE's expert-by-expert order (ICCAD 2023, section IV-D): one queue of tokens per expert.

    Two stages work on two tokens. The first reads a token's logits and sorts the best, one per cycle. The second raises
    them, sums, and weighs the chosen (integer golden model: ``gate``, ``queues``).

    ::

        score buffer ─► select ─┬─► TopK ────► GateWeights ─► TokenQueues ─► queue_read
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
    report: Out(gate_report)
        ``rows_ready`` counts from the cycle after the job was taken on, and never falls during a job. ``counts`` are
        kept until the next job; ``done`` says that the queues are complete.
    score_read: Out(MemoryRead)
        Read port of the score buffer. Expert e of token t is element e % P of word e // P * tokens + t.
    queue_read: In(TableRead)
        Read port of the queues.
    list_write: In(stream(list_write))
        Entries of lists of rows, which lie where the queues do.
    queue_write: Out(Strobe(queue_write))
        Every entry as it is written: tokens in order, a token's experts best first.

    Timing: max(experts + 1, 16) cycles per token once its logits are there, and about 55 for the last one.
    Resources: queues of max_experts x max_tokens entries in block RAM, three multipliers.
    """

    def __init__(self, config: AcceleratorConfig) -> None:
        self._config = config
        super().__init__(
            {
                "job": In(stream.Signature(gate_job_layout())),
                "report": Out(gate_report(config)),
                "score_read": Out(score_read(config)),
                "queue_read": In(queue_read(config)),
                "list_write": In(stream.Signature(list_write_layout(config))),
                "queue_write": Out(Strobe(queue_write_layout(config))),
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
        connect(m, flipped(self.queue_read), queues.read)
        connect(m, flipped(self.list_write), queues.list_write)
        connect(m, queues.written, flipped(self.queue_write))
        work = Work(gate_job_layout()).create(path=("work",))
        connect(m, work, weights.work)
        job, scanning, taken = work.job, Signal(), Signal()
        m.d.comb += [
            taken.eq(self.job.valid & self.job.ready),
            awake.eq(scanning | self.report.done),
            queues.clear.eq(work.start),
            self.report.counts.eq(queues.counts),
        ]
        buffer = self._select(m, *self._scan(m, job, scanning), top_k, weights)
        m.d.comb += assign(weights.ranked.payload, ranking=top_k.ranking, buffer=buffer)

        # The queues write an entry one cycle after it was appended.
        last_token = Signal(range(config.max_tokens))
        m.d.sync += last_token.eq(job.tokens - 1)
        last = weights.token_last & (weights.append.payload.entry.token == last_token)
        finished = delay(m, last, 1, name="finished")
        m.d.sync += [self.report.done.eq(finished), work.start.eq(taken)]
        # A job is in progress while it scans: `scanning` is all the state that there is.
        m.d.comb += self.job.ready.eq(~scanning)
        with m.If(taken):
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
        # Comparisons with the job are registered, because they come before a token's first read: tokens never overtake
        # their limit, so that a test for equality is enough.
        limit, last_slot, last_expert = Signal.like(token), Signal.like(slot), Signal.like(slot)
        reading, slot_last, within = Signal(), Signal(), Signal(init=1)
        m.d.sync += [
            limit.eq(Mux(self.report.rows_ready < job.tokens, self.report.rows_ready, job.tokens)),
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
        # The read leaves from registers, because the score buffer is far away.
        m.d.sync += [self.score_read.enable.eq(issued), self.score_read.address.eq(first_word + token)]
        # A token takes one slot per expert and one more, but at least INTERVAL, which the second stage needs per token.
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
            chosen.payload.score.eq(pick(self.score_read.data, arrived.expert[: exact_log2(config.elements)])),
        ]
        ended = delay(m, last, MEMORY_LATENCY + 2, name="ended")
        with m.If(ended):
            m.d.sync += [buffer.eq(~buffer), ranked_buffer.eq(buffer)]
        m.d.comb += [
            chosen.valid.eq(delay(m, issued, MEMORY_LATENCY + 2, name="issued")),
            weights.score.valid.eq(chosen.valid),
            *assign(weights.score.payload, chosen.payload, buffer=buffer),
            weights.ranked.valid.eq(delay(m, ended, TopK.LATENCY, name="ranked")),
        ]
        return ranked_buffer

    def _check(self, m: Module) -> None:
        """What the command's checks guarantee."""
        config, given = self._config, self.job.payload
        tokens = (given.tokens != 0) & (given.tokens <= config.max_tokens)
        experts = (given.experts != 0) & (given.experts <= config.max_experts)
        top_k = (given.top_k != 0) & (given.top_k <= given.experts) & (given.top_k <= config.max_top_k)
        check(m, self.job.valid, tokens, "gate of {} tokens", given.tokens)
        check(m, self.job.valid, experts, "gate of {} experts", given.experts)
        check(m, self.job.valid, top_k, "gate chooses {} of {} experts", given.top_k, given.experts)
