"""GateWeights: softmax over a token's experts, for those that were chosen."""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Mux, Signal, signed
from amaranth.lib import data, memory, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from tessera.hw.blocks.arithmetic import pick, saturate
from tessera.hw.blocks.checks import check
from tessera.hw.blocks.exp2 import Exp2
from tessera.hw.blocks.fields import assign
from tessera.hw.blocks.multiplier import Multiplier
from tessera.hw.blocks.pipeline import delay
from tessera.hw.blocks.reciprocal import Reciprocal
from tessera.hw.blocks.rounding import ROUNDING_LATENCY, registered_round_shift
from tessera.hw.config import AcceleratorConfig
from tessera.hw.interfaces.gate import gate_score_layout, queue_append_layout, ranked_token_layout
from tessera.hw.interfaces.jobs import gate_job_layout
from tessera.hw.interfaces.strobe import Strobe, Work


class GateWeights(wiring.Component):
    """Exponentials of all scores of a token, one per cycle; the reciprocal of their sum weighs the chosen ones.

    ::

        best - score ─► Exp2 ─┬─► sum ─► Reciprocal ─┐
                              └─► chosen ones ───────┴─► x ─► round_shift ─► clip ─► append, best first

    Parameters
    ----------
    config:
        Sizes of the machine.

    Members
    -------
    score: In(Strobe(gate_score))
        A token's scores, all before it is ranked.
    ranked: In(Strobe(ranked_token))
        The next token's choice; at least max(experts + 1, ``INTERVAL``) cycles after the previous one.
    work: In(Work(gate_job))
        The next token is token 0 of this job. The first ``top_k`` experts of a ranking are chosen.
    append: Out(Strobe(queue_append))
        Token, expert and weight min(65535, round_shift(exponential * mantissa, exponent)): best first, one per cycle.
    token_last: Out(1)
        With a token's last append.

    Resources: three multipliers.
    """

    INTERVAL = 16
    """Cycles from one ranked token to the next, at least: a token's appends end before the next one's begin."""

    LATENCY = Multiplier.LATENCY + ROUNDING_LATENCY + 1
    """Cycles from the reciprocal to the first append."""

    def __init__(self, config: AcceleratorConfig) -> None:
        self._config = config
        super().__init__(
            {
                "score": In(Strobe(gate_score_layout(config))),
                "ranked": In(Strobe(ranked_token_layout(config))),
                "work": In(Work(gate_job_layout())),
                "append": Out(Strobe(queue_append_layout(config))),
                "token_last": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config = self._config
        weight = config.numerics.gate_weight
        total = Signal(weight.width + exact_log2(config.max_experts))
        picked = [Signal(weight.width, name=f"picked_{place}") for place in range(config.max_top_k)]
        experts = [Signal(range(config.max_experts), name=f"expert_{place}") for place in range(config.max_top_k)]
        complete = self._exponentials(m, total, picked, experts)

        m.submodules.reciprocal = reciprocal = Reciprocal(len(total))
        m.d.comb += [reciprocal.argument.valid.eq(complete), reciprocal.argument.payload.eq(total)]
        entry = data.StructLayout({"exponential": weight.width, "expert": range(config.max_experts)})
        chosen = Signal(data.ArrayLayout(entry, config.max_top_k))
        # A copy of the token's choice, because the next token's exponentials come while it is weighed.
        with m.If(complete):
            for place, exponential, expert in zip(chosen, picked, experts, strict=True):
                m.d.sync += assign(place, exponential=exponential, expert=expert)
        self._weigh(m, chosen, reciprocal)
        return m

    def _exponentials(self, m: Module, total: Signal, picked: list[Signal], experts: list[Signal]) -> Signal:
        """Raise a token's scores one after the other; returns a pulse when sum, exponentials and experts are there."""
        config = self._config
        shape = signed(config.numerics.score.width)
        m.submodules.scores = scores = memory.Memory(shape=shape, depth=2 * config.max_experts, init=[])
        write, read = scores.write_port(), scores.read_port()
        current, expert, running = Signal(ranked_token_layout(config)), Signal(range(config.max_experts)), Signal()
        last = expert == self.work.job.experts - 1
        m.d.comb += [
            write.en.eq(self.score.valid),
            write.addr.eq(Cat(self.score.payload.expert, self.score.payload.buffer)),
            write.data.eq(self.score.payload.score),
            read.addr.eq(Cat(expert, current.buffer)),
        ]
        with m.If(self.ranked.valid):
            m.d.sync += [current.eq(self.ranked.payload), expert.eq(0), running.eq(1)]
        with m.Elif(running):
            m.d.sync += [expert.eq(expert + 1), running.eq(~last)]
        with m.If(running & last):
            m.d.sync += [kept.eq(entry.expert) for kept, entry in zip(experts, current.ranking, strict=True)]
        check(m, self.ranked.valid, ~running, "a token was ranked while the previous one's scores are raised")

        # The first score of a ranking is the largest, so that no exponential exceeds 1.
        m.submodules.exp2 = exp2 = Exp2(config.numerics, config.numerics.gate_weight.width)
        m.d.sync += exp2.argument.payload.eq(current.ranking[0].score - read.data)
        m.d.comb += exp2.argument.valid.eq(delay(m, running, 2, name="running"))
        latency = 2 + Exp2.LATENCY
        chosen = Cat(entry.expert == expert for entry in current.ranking)
        raised_first = delay(m, expert == 0, latency, name="first")
        raised_chosen = delay(m, chosen, latency, name="chosen")
        with m.If(exp2.result.valid):
            m.d.sync += total.eq(Mux(raised_first, 0, total) + exp2.result.payload)
            for place, exponential in enumerate(picked):
                with m.If(raised_chosen[place]):
                    m.d.sync += exponential.eq(exp2.result.payload)
        return delay(m, running & last, latency + 1, name="complete")

    def _weigh(self, m: Module, chosen: data.View, reciprocal: Reciprocal) -> None:
        """Multiply the chosen exponentials by the reciprocal, one per cycle."""
        config = self._config
        weight, inverse = config.numerics.gate_weight, reciprocal.result
        place, busy, token = Signal(range(config.max_top_k)), Signal(), self.append.payload.entry.token
        scale = Signal(inverse.payload.shape())
        last = place == self.work.job.top_k - 1
        expert = Signal(range(config.max_experts))
        # The experts of a ranking are weighed one by one, because there is one multiplier.
        m.d.comb += expert.eq(pick([entry.expert for entry in chosen], place))
        m.submodules.multiplier = multiplier = Multiplier(max(weight.width, len(scale.mantissa)) + 1, 1)
        product = multiplier.product[0][: weight.width + len(scale.mantissa)]
        rounded = registered_round_shift(m, product, scale.exponent, name="weight")
        with m.If(inverse.valid):
            m.d.sync += [scale.eq(inverse.payload), place.eq(0), busy.eq(1)]
        with m.Elif(busy):
            m.d.sync += [place.eq(place + 1), busy.eq(~last)]
        m.d.sync += self.append.payload.entry.weight.eq(saturate(rounded, weight))
        m.d.comb += [
            multiplier.broadcast.eq(scale.mantissa),
            multiplier.stationary[0].eq(pick([entry.exponential for entry in chosen], place)),
            self.append.valid.eq(delay(m, busy, self.LATENCY, name="busy")),
            self.append.payload.expert.eq(delay(m, expert, self.LATENCY, name="append_expert")),
            self.token_last.eq(delay(m, busy & last, self.LATENCY, name="token_last")),
        ]
        with m.If(self.work.start):
            m.d.sync += token.eq(0)
        with m.Elif(self.token_last):
            m.d.sync += token.eq(token + 1)
        check(m, inverse.valid, ~busy, "token {} is not weighed yet", token)
