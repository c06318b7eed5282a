"""TopK: keeps the largest of a sequence of scores, sorted."""

from __future__ import annotations

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from tessera.hw.blocks.fields import same_fields
from tessera.hw.blocks.pipeline import delay
from tessera.hw.config import AcceleratorConfig
from tessera.hw.interfaces.gate import candidate_layout, ranking_layout
from tessera.hw.interfaces.strobe import Strobe


class TopK(wiring.Component):
    """Insertion into a sorted list, one score per cycle. Of equal scores the one that came first ranks higher.

    Parameters
    ----------
    config:
        Sizes of the machine.

    Members
    -------
    candidate: In(Strobe(candidate))
        Scores in the order of their experts.
    ranking: Out(ranking)
        The max_top_k best so far, best first, LATENCY cycles later; places beyond the scores seen have no meaning.
    """

    LATENCY = 2

    def __init__(self, config: AcceleratorConfig) -> None:
        self._config = config
        super().__init__({"candidate": In(Strobe(candidate_layout(config))), "ranking": Out(ranking_layout(config))})

    def elaborate(self, platform: object) -> Module:
        """Compare with the list as it will be once the score before is in it; insert a cycle later."""
        m = Module()
        new, held = self.candidate.payload, Signal(candidate_layout(self._config))
        filled, ahead, beaten = (Signal(len(self.ranking), name=name) for name in ("filled", "ahead", "beaten"))
        for place, entry in enumerate(self.ranking):
            m.d.comb += ahead[place].eq(~filled[place] | (new.score > entry.score))
        # A score waits in `held` for one cycle, because comparing and inserting in one is too long a path. The next one
        # is compared with it, too, because it is not in the list yet.
        higher = new.score > held.score
        valid = delay(m, self.candidate.valid, 1, name="valid")
        with m.If(self.candidate.valid):
            m.d.sync += held.eq(new)
        for place in range(len(self.ranking)):
            # The score before takes the first place that it beats; what stood there and below moves down.
            above = Mux(beaten[place - 1], ahead[place - 1], higher) | held.first if place else higher
            m.d.sync += beaten[place].eq(new.first | Mux(valid & beaten[place], above, ahead[place]))
        with m.If(valid):
            m.d.sync += filled.eq(Mux(held.first, 1, (filled << 1) | 1))
            for place, entry in enumerate(self.ranking):
                with m.If(beaten[place]):
                    m.d.sync += same_fields(entry, held)
                    if place:
                        with m.If(beaten[place - 1]):
                            m.d.sync += entry.eq(self.ranking[place - 1])
        return m
