"""Softmax: the single-pass attention softmax, between score buffer and stationary banks."""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Mux, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped
from amaranth.utils import exact_log2

from tessera.hw.blocks.arithmetic import pick
from tessera.hw.blocks.checks import check
from tessera.hw.blocks.exp2 import Exp2
from tessera.hw.blocks.fields import assign
from tessera.hw.blocks.jobs import hand_over
from tessera.hw.blocks.pipeline import delay
from tessera.hw.blocks.queue import Queue
from tessera.hw.config import AcceleratorConfig
from tessera.hw.interfaces.compute import query_scale_layout
from tessera.hw.interfaces.jobs import softmax_job_layout
from tessera.hw.interfaces.memory import MEMORY_LATENCY, bank_exponentials_layout, score_read, score_write_layout
from tessera.hw.interfaces.strobe import Strobe, Work
from tessera.hw.softmax.query_scales import QueryScales, sum_width
from tessera.hw.softmax.score_buffer import ScoreBuffer

FIFO_DEPTH = 32
"""Exponentials that may be on their way. A score reserves a place when it is issued, so that there must be more places
than cycles from a score's issue to its exponential's departure."""


class Softmax(wiring.Component):
    """Softmax over the keys for P queries at a time, in one pass over the scores.

    Edge-MoE (ICCAD 2023, section IV-B) keeps a running maximum while scores arrive and never divides the exponentials:
    the reciprocal of their sum becomes part of the output's requantisation. Here the sums are taken over the rounded
    exponentials as they leave. They are exact, and every score costs one exponential.

    ::

        scores ──► ScoreBuffer ──► maximum - score ──► E x Exp2 ─┬─► Queue ──► exponentials (to the banks)
                   └─ maxima ───────────┘                        └─► sums ──► QueryScales ──► query_scales

    Parameters
    ----------
    config:
        Sizes of the machine.

    Members
    -------
    score_write: In(Strobe(score_write))
        Scores (signed, 10 fraction bits, octaves) of one key, or gate logits, which are only stored. Scores for one
        buffer may come while the other one drains.
    job: In(stream(softmax_job))
        A buffer to drain, whose scores of ``keys`` keys (1 to max_tokens) have all been written. Taken when idle.
    exponentials: Out(stream(bank_exponentials))
        Unsigned values, all bits fraction bits: key by key, group by group, into the words from
        ``attention_buffer(buffer) + query_words`` on. Key k is lane k % T. A word's first lane clears the others.
    query_scales: Out(2P x query_scale)
        Index ``buffer * P + element``; those of a job's buffer are replaced just before its ``done``.
    done: Out(1)
        Pulse: all exponentials have been taken and the query scales are there.
    score_read: In(MemoryRead)
        The gate's read port into the score buffer; only while no job runs (asserted). Data comes MEMORY_LATENCY later.

    Timing: ``keys * P / E`` cycles while the banks take a beat per cycle, plus ``P + overhead`` (attribute) until
    done.
    Resources: the score buffer in block RAM, E + 2 small multipliers.

    Raises
    ------
    ValueError
        When max_tokens exponentials do not fit an attention buffer of the banks.
    """

    def __init__(self, config: AcceleratorConfig) -> None:
        if config.max_tokens > config.exponential_words * config.lanes:
            raise ValueError(
                f"max_tokens is {config.max_tokens}, but an attention buffer of the banks holds "
                f"{config.exponential_words * config.lanes} exponentials; lower max_tokens or raise bank_words"
            )
        self._config = config
        self._groups = config.elements // config.exponential_lanes
        self._scales = QueryScales(config)
        self.overhead = MEMORY_LATENCY + 3 + Exp2.LATENCY + 3 + self._scales.latency
        super().__init__(
            {
                "score_write": In(Strobe(score_write_layout(config))),
                "job": In(stream.Signature(softmax_job_layout(config))),
                "exponentials": Out(stream.Signature(bank_exponentials_layout(config))),
                "query_scales": Out(data.ArrayLayout(query_scale_layout(config), 2 * config.elements)),
                "done": Out(1),
                "score_read": In(score_read(config)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config = self._config
        m.submodules.scores = scores = ScoreBuffer(config)
        m.submodules.scales = scales = self._scales
        connect(m, flipped(self.score_write), scores.write)
        # The scales are work that begins with the job's last exponential.
        work = Work(softmax_job_layout(config)).create(path=("work",))
        connect(m, work, scales.work)
        job, finished, start, draining = work.job, work.start, Signal(), Signal()
        m.d.comb += [
            self.query_scales.eq(scales.scales),
            self.done.eq(scales.done),
        ]
        # START clears keys, groups and sums; SCALE waits because the sums must not change until all scales are there.
        with m.FSM(name="state"):
            with m.State("IDLE"):
                m.d.comb += self.job.ready.eq(1)
                m.d.sync += job.eq(self.job.payload)
                with m.If(self.job.valid):
                    m.next = "START"
            with m.State("START"):
                m.d.comb += start.eq(1)
                m.next = "DRAIN"
            with m.State("DRAIN"):
                m.d.comb += draining.eq(1)
                with m.If(finished):
                    m.next = "SCALE"
            with m.State("SCALE"):
                with m.If(scales.done):
                    m.next = "IDLE"

        group, issued = self._read_scores(m, scores, job, start, draining)
        exponentials, valid = self._exponentials(m, scores, job.buffer, group, issued)
        self._sum(m, exponentials, valid, start, scales.sums)
        m.d.sync += finished.eq(self._deliver(m, exponentials, valid, job, start))
        self._check(m, job, draining)
        return m

    def _read_scores(
        self, m: Module, scores: ScoreBuffer, job: data.View, start: Signal, draining: Signal
    ) -> tuple[Signal, Signal]:
        """Go through keys and groups as far as the queue has room; returns the group and whether one was issued."""
        config = self._config
        key, group = Signal(range(config.max_tokens + 1)), Signal(range(self._groups))
        room, issued = Signal(range(FIFO_DEPTH + 1), init=FIFO_DEPTH), Signal()
        m.d.comb += [
            issued.eq(draining & (key != job.keys) & (room != 0)),
            scores.read.enable.eq(issued | self.score_read.enable),
            scores.read.address.eq(
                Mux(draining, Cat(key[: exact_log2(config.max_tokens)], job.buffer), self.score_read.address)
            ),
            self.score_read.data.eq(scores.read.data),
        ]
        # A score takes a place of the queue when it is issued: exponentials cannot be held up on their way.
        m.d.sync += room.eq(room - issued + (self.exponentials.valid & self.exponentials.ready))
        with m.If(start):
            m.d.sync += [key.eq(0), group.eq(0)]
        with m.Elif(issued):
            self._advance(m, key, group)
        return group, issued

    def _advance(self, m: Module, key: Signal, group: Signal) -> None:
        """Next group, or the next key's first."""
        last = group == self._groups - 1
        m.d.sync += [group.eq(Mux(last, 0, group + 1)), key.eq(key + last)]

    def _exponentials(
        self, m: Module, scores: ScoreBuffer, buffer: Value, group: Signal, issued: Signal
    ) -> tuple[list[Value], Value]:
        """Select, subtract from the maximum, raise: E per cycle; returns exponentials and whether they are valid."""
        config = self._config
        lanes = config.exponential_lanes
        width = config.numerics.score.width
        arrived = delay(m, group, MEMORY_LATENCY, name="group_arrived")

        def chosen(word: Value) -> data.View:
            groups = (word[i : i + lanes * width] for i in range(0, len(word), lanes * width))
            return data.View(data.ArrayLayout(width, lanes), pick(groups, arrived))

        selected = chosen(scores.read.data.as_value())
        largest = chosen(Mux(buffer, *(scores.maxima[b].as_value() for b in (1, 0))))

        valid = delay(m, issued, MEMORY_LATENCY + 2, name="valid")
        results = []
        for lane in range(lanes):
            m.submodules[f"exp2_{lane}"] = exp2 = Exp2(config.numerics, config.numerics.exponential.width)
            # One stage to select, one to subtract: E of P scores is a wide multiplexer.
            score = Signal(width, name=f"score_{lane}")
            maximum = Signal(width, name=f"maximum_{lane}")
            m.d.sync += [
                score.eq(selected[lane]),
                maximum.eq(largest[lane]),
                exp2.argument.payload.eq(maximum.as_signed() - score.as_signed()),
            ]
            m.d.comb += exp2.argument.valid.eq(valid)
            check(m, valid, ~exp2.argument.payload[-1], "a score exceeds its query's maximum")
            results.append(exp2.result)
        return [result.payload for result in results], results[0].valid

    def _sum(self, m: Module, exponentials: list[Value], valid: Value, start: Value, total: data.View) -> None:
        """Add each query's exponentials. The sums travel round a ring, so that each meets its group without a mux."""
        lanes = len(exponentials)
        sums = [Signal(sum_width(self._config), name=f"sum_{element}") for element in range(len(total))]
        with m.If(start):
            m.d.sync += [value.eq(0) for value in sums]
        with m.Elif(valid):
            added = [value + exponential for value, exponential in zip(sums[:lanes], exponentials, strict=True)]
            m.d.sync += [value.eq(following) for value, following in zip(sums, sums[lanes:] + added, strict=True)]
        m.d.comb += [target.eq(value) for target, value in zip(total, sums, strict=True)]

    def _deliver(self, m: Module, exponentials: list[Value], valid: Value, job: data.View, start: Value) -> Value:
        """Queue the exponentials, give each its place in the banks; returns whether the job's last one is taken."""
        config, out = self._config, self.exponentials
        m.submodules.queue = queue = Queue(out.payload.data.shape(), FIFO_DEPTH, buffered=True)
        hand_over(m, queue.target, out)
        key, group = Signal(range(config.max_tokens + 1)), Signal(range(self._groups))
        lane_bits = exact_log2(config.lanes)
        first_word = Mux(job.buffer, *(config.attention_buffer(b) + config.query_words for b in (1, 0)))
        taken = out.valid & out.ready
        m.d.comb += [
            queue.source.valid.eq(valid),
            queue.source.payload.as_value().eq(Cat(*exponentials)),
            *assign(
                out.payload,
                group=group,
                address=first_word + key[lane_bits:],
                lane=key[:lane_bits],
                clear=key[:lane_bits] == 0,
                data=queue.target.payload,
            ),
        ]
        with m.If(start):
            m.d.sync += [key.eq(0), group.eq(0)]
        with m.Elif(taken):
            self._advance(m, key, group)
        return taken & (key == job.keys - 1) & (group == self._groups - 1)

    def _check(self, m: Module, job: data.View, draining: Signal) -> None:
        """What the engine must keep to."""
        arriving, keys = self.score_write, self.job.payload.keys
        some = (keys != 0) & (keys <= self._config.max_tokens)
        overwrites = arriving.valid & arriving.payload.attention & (arriving.payload.buffer == job.buffer)
        check(m, self.job.valid, some, "softmax of {} keys", keys)
        check(m, draining, ~overwrites, "scores arrive in buffer {} while it drains", job.buffer)
        check(m, draining, ~self.score_read.enable, "the gate reads scores while softmax does")
