"""ScoreBuffer: scores of two query tiles, or the gate's logits, and the running maximum of each held query."""

from __future__ import annotations

from amaranth.hdl import Module, Mux
from amaranth.lib import data, memory, wiring
from amaranth.lib.wiring import In, Out

from tessera.hw.blocks.checks import check
from tessera.hw.blocks.pipeline import delay
from tessera.hw.config import AcceleratorConfig
from tessera.hw.interfaces.memory import (
    BLOCK_LATENCY,
    MEMORY_LATENCY,
    score_read,
    score_word_layout,
    score_write_layout,
)
from tessera.hw.interfaces.strobe import Strobe


class ScoreBuffer(wiring.Component):
    """Holds scores as write-back delivers them, one word of P scores per key or token, and keeps their maxima.

    Parameters
    ----------
    config:
        Sizes of the machine.

    Members
    -------
    write: In(Strobe(score_write))
        One word of scores. Attention scores also raise the maxima of their buffer; ``first`` starts them anew.
    read: In(MemoryRead)
        Reads a word. Data comes MEMORY_LATENCY cycles later.
    maxima: Out(2 x score_word)
        Largest score of each query in the tile of each attention buffer, from the cycle after its last score on.

    Resources: score_words x P x 18 bits of block RAM with one write and one read port.
    """

    def __init__(self, config: AcceleratorConfig) -> None:
        self._config = config
        super().__init__(
            {
                "write": In(Strobe(score_write_layout(config))),
                "read": In(score_read(config)),
                "maxima": Out(data.ArrayLayout(score_word_layout(config), 2)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config, scores = self._config, self.write.payload
        m.submodules.words = words = memory.Memory(shape=score_word_layout(config), depth=config.score_words, init=[])
        write, read = words.write_port(), words.read_port()
        # One block RAM answers sooner than the machine's memories do: what time is left, the address gets on its way.
        early = MEMORY_LATENCY - BLOCK_LATENCY
        m.d.comb += [
            write.en.eq(self.write.valid),
            write.addr.eq(scores.address),
            write.data.eq(scores.data),
            read.en.eq(delay(m, self.read.enable, early, name="enable")),
            read.addr.eq(delay(m, self.read.address, early, name="address")),
        ]
        m.d.sync += self.read.data.eq(read.data)

        # Maxima are kept while scores arrive, so that softmax passes over them only once.
        for buffer in range(2):
            taken = self.write.valid & scores.attention & (scores.buffer == buffer)
            for score, largest in zip(scores.data, self.maxima[buffer], strict=True):
                with m.If(taken & (scores.first | (score > largest))):
                    m.d.sync += largest.eq(score)
        words_there = Mux(scores.attention & ~scores.buffer, config.max_tokens, config.score_words)
        check(m, self.write.valid, scores.address < words_there, "score word {} is beyond its buffer", scores.address)
        return m
