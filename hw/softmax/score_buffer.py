"""ScoreBuffer: scores of two query tiles, or the gate's logits, and the running maximum of each held query."""

from __future__ import annotations

from amaranth.hdl import Assert, Format, Module, Mux, ResetSignal
from amaranth.lib import data, memory, wiring
from amaranth.lib.wiring import In, Out

from hw.blocks.pipeline import delay
from hw.config import AcceleratorConfig
from hw.interfaces.memory import BLOCK_LATENCY, MEMORY_LATENCY, score_word_layout, score_write_layout
from hw.interfaces.strobe import Strobe


class ScoreBuffer(wiring.Component):
    """Holds scores as write-back delivers them, one word of P scores a key (or token), and compares them on the way in.

    Parameters
    ----------
    config:
        Sizes of the machine.

    Members
    -------
    write: In(Strobe(score_write))
        One word of scores. Attention scores also raise the maxima of their buffer; ``first`` starts them anew.
    read_enable, read_address: In
        Word to read.
    read_data: Out(score_word)
        Its scores, MEMORY_LATENCY cycles later.
    maxima: Out(2 x score_word)
        Largest score of each query in the tile of each attention buffer, from the cycle after its last score on.

    Resources: score_words x P x 18 bits of block RAM with one write and one read port.
    """

    def __init__(self, config: AcceleratorConfig) -> None:
        self._config = config
        super().__init__(
            {
                "write": In(Strobe(score_write_layout(config))),
                "read_enable": In(1),
                "read_address": In(range(config.score_words)),
                "read_data": Out(score_word_layout(config)),
                "maxima": Out(data.ArrayLayout(score_word_layout(config), 2)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config, scores = self._config, self.write.payload
        m.submodules.words = words = memory.Memory(shape=score_word_layout(config), depth=config.score_words, init=[])
        write, read = words.write_port(), words.read_port()
        m.d.comb += [
            write.en.eq(self.write.valid),
            write.addr.eq(scores.address),
            write.data.eq(scores.data),
            read.en.eq(delay(m, self.read_enable, MEMORY_LATENCY - BLOCK_LATENCY, name="enable")),
            read.addr.eq(delay(m, self.read_address, MEMORY_LATENCY - BLOCK_LATENCY, name="address")),
        ]
        m.d.sync += self.read_data.eq(read.data)

        for buffer in range(2):
            taken = self.write.valid & scores.attention & (scores.buffer == buffer)
            for score, largest in zip(scores.data, self.maxima[buffer], strict=True):
                with m.If(taken & (scores.first | (score > largest))):
                    m.d.sync += largest.eq(score)
        with m.If(self.write.valid & ~ResetSignal()):
            m.d.sync += Assert(
                scores.address < Mux(scores.attention & ~scores.buffer, config.max_tokens, config.score_words),
                Format("score word {} is beyond its buffer", scores.address),
            )
        return m
