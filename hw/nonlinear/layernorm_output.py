"""LayerNormOutput: gathers normalised channels into scratchpad words."""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Mux, Signal, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from hw.config import AcceleratorConfig
from hw.interfaces import Strobe, scratch_write
from hw.nonlinear.layernorm_lanes import layernorm_beat, wide_channels


class LayerNormOutput(wiring.Component):
    """Shifts channels into a word and writes it when it is complete; rows go to ``base``, ``base + stride``, ...

    Parameters
    ----------
    config:
        Sizes of the machine.

    Members
    -------
    start: In(1)
        Pulse: the next word is the first of a pass.
    base, stride: In(16)
        First word of row 0, and from row to row; stable during a pass.
    result: In(Strobe(layernorm_beat)), values: In(lanes x signed(16))
        Normalised channels. A wide value becomes two lanes: its low bits, then its high bits (sign-extended).
    scratch_write: Out(Strobe(scratch_write))
        Whole words.
    row_written: Out(1)
        Pulse with a row's last word.

    Timing: latency 1 cycle.
    """

    def __init__(self, config: AcceleratorConfig) -> None:
        self._config = config
        values = data.ArrayLayout(signed(config.numerics.wide.width), config.layernorm_lanes)
        super().__init__(
            {
                "start": In(1),
                "base": In(16),
                "stride": In(16),
                "result": In(Strobe(layernorm_beat(config))),
                "values": In(values),
                "scratch_write": Out(Strobe(scratch_write(config))),
                "row_written": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config, beat, out = self._config, self.result.payload, self.scratch_write.payload
        width = config.numerics.activation_width
        narrow = Cat(value[:width] for value in self.values)
        pairs = []
        for index in range(wide_channels(config)):
            pair = Signal(signed(2 * width), name=f"pair_{index}")
            m.d.comb += pair.eq(self.values[index])
            pairs.append(pair)
        wide = Cat(*pairs)

        row_base, word = Signal(16), Signal(16)
        complete, word_bits = self.result.valid & beat.emit, out.data.as_value()
        m.d.comb += out.columns.eq(~0)
        m.d.sync += [
            self.scratch_write.valid.eq(complete),
            self.row_written.eq(complete & beat.last),
        ]
        with m.If(self.result.valid):
            m.d.sync += [
                word_bits.eq(Mux(beat.wide, Cat(word_bits, wide)[len(wide) :], Cat(word_bits, narrow)[len(narrow) :])),
                out.address.eq(row_base + word),
            ]
        with m.If(self.start):
            m.d.sync += [row_base.eq(self.base), word.eq(0)]
        with m.Elif(complete):
            m.d.sync += word.eq(Mux(beat.last, 0, word + 1))
            with m.If(beat.last):
                m.d.sync += row_base.eq(row_base + self.stride)
        return m
