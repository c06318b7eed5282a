"""TopK: keeps the largest of a sequence of scores, sorted."""

from __future__ import annotations

from amaranth.hdl import Module, Mux, Signal, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from hw.config import AcceleratorConfig
from hw.interfaces import Strobe


def candidate(config: AcceleratorConfig) -> data.StructLayout:
    """A score of one expert; ``first`` starts a new sequence."""
    return data.StructLayout(
        {"score": signed(config.numerics.score.width), "expert": range(config.max_experts), "first": 1}
    )


def ranking(config: AcceleratorConfig) -> data.ArrayLayout:
    """Scores and experts, best first."""
    entry = data.StructLayout({"score": signed(config.numerics.score.width), "expert": range(config.max_experts)})
    return data.ArrayLayout(entry, config.max_top_k)


class TopK(wiring.Component):
    """Insertion into a sorted list, one score a cycle. Of equal scores the one that came first ranks higher.

    Parameters
    ----------
    config:
        Sizes of the machine.

    Members
    -------
    candidate: In(Strobe(candidate))
        Scores in the order of their experts.
    ranking: Out(ranking)
        The max_top_k best so far, best first, from the next cycle on; places beyond the scores seen have no meaning.
    """

    def __init__(self, config: AcceleratorConfig) -> None:
        self._config = config
        super().__init__({"candidate": In(Strobe(candidate(config))), "ranking": Out(ranking(config))})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        new = self.candidate.payload
        filled = Signal(len(self.ranking))
        beaten = Signal(len(self.ranking))
        for place, entry in enumerate(self.ranking):
            m.d.comb += beaten[place].eq(new.first | ~filled[place] | (new.score > entry.score))
        with m.If(self.candidate.valid):
            # Beaten places are always the last ones, so that the new score goes to the first of them.
            m.d.sync += filled.eq(Mux(new.first, 1, (filled << 1) | 1))
            for place, entry in enumerate(self.ranking):
                with m.If(beaten[place]):
                    m.d.sync += [entry.score.eq(new.score), entry.expert.eq(new.expert)]
                    if place:
                        with m.If(beaten[place - 1]):
                            m.d.sync += entry.eq(self.ranking[place - 1])
        return m
