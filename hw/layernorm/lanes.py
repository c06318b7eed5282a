"""LayerNormLanes: the arithmetic of LayerNorm on some channels per cycle, for its statistics and its outputs."""

from __future__ import annotations

from amaranth.hdl import Module, Mux, Signal, Value, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from tessera.hw.blocks.arithmetic import pick, registered_tree, saturate
from tessera.hw.blocks.multiplier import Multiplier
from tessera.hw.blocks.pipeline import delay
from tessera.hw.blocks.rounding import ROUNDING_LATENCY, registered_round_shift
from tessera.hw.config import AcceleratorConfig
from tessera.hw.interfaces.layernorm import (
    lane_constants_layout,
    layernorm_beat_layout,
    normalised_layout,
    row_scale_layout,
    row_sums_layout,
    wide_channels,
)
from tessera.hw.interfaces.memory import residual_lanes_layout
from tessera.hw.interfaces.strobe import Strobe
from tessera.hw.isa import NormMode


class LayerNormLanes(wiring.Component):
    """One beat of channels per cycle: squares for the statistics, or normalised values. A lane has one multiplier.

    ::

        word ─► select ─► x ─┬───────────────► x * x     ─► trees ─► row sums
                             └─ x - mean ─► d ─► d * scale ─► round_shift ─► clip ─► values

    Parameters
    ----------
    config:
        Sizes of the machine.

    Members
    -------
    beat: In(Strobe(layernorm_beat))
        What to do with the word.
    word: In(residual_lanes), row: In(row_scale), channel_shifts: In(lanes x unsigned(3))
        These come with their beat: the residual word, what normalises its row, and the channels' extra precision.
    constants: In(lane_constants)
        Stable during a job. Channels from ``channels`` on count as 0 and are normalised to 0.
    sums: Out(Strobe(row_sums))
        Sums of a row, after its last beat.
    result: Out(Strobe(normalised))
        Normalised channels with their beat, ``LATENCY`` cycles after it came. Those of a rectified copy are unsigned.

    Resources: one multiplier and one shifter per lane.
    """

    LATENCY = 1 + Multiplier.LATENCY + ROUNDING_LATENCY + 1

    def __init__(self, config: AcceleratorConfig) -> None:
        self._config = config
        lanes = config.layernorm_lanes
        super().__init__(
            {
                "beat": In(Strobe(layernorm_beat_layout(config))),
                "word": In(residual_lanes_layout(config)),
                "row": In(row_scale_layout(config)),
                "channel_shifts": In(data.ArrayLayout(config.numerics.channel_shift_width, lanes)),
                "constants": In(lane_constants_layout(config)),
                "sums": Out(Strobe(row_sums_layout(config))),
                "result": Out(Strobe(normalised_layout(config))),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        beats, valids = [self.beat.payload], [self.beat.valid]
        for stage in range(1, self.LATENCY + 1):
            beats.append(delay(m, beats[-1], 1, name=f"beat_{stage}"))
            valids.append(delay(m, valids[-1], 1, name=f"valid_{stage}"))

        row = delay(m, self.row, 1, name="row")
        inputs, products = [], []
        for lane, channel in enumerate(self._select()):
            left, product = self._multiply(m, lane, channel, row, beats[1])
            inputs.append(delay(m, left, 1, name=f"input_{lane}"))
            products.append(product)
            amount = self._shift_amount(m, lane)
            value = self._quantise(m, lane, product, amount, beats[-2].wide)
            m.d.comb += self.result.payload.values[lane].eq(value)
        self._sum(m, inputs, products, valids[3] & beats[3].statistics, beats[3])
        m.d.comb += [
            self.result.valid.eq(valids[-1] & ~beats[-1].statistics),
            self.result.payload.beat.eq(beats[-1]),
        ]
        return m

    def _select(self) -> list[Value]:
        """The beat's channels from its word."""
        config, beat = self._config, self.beat.payload
        lanes, half = config.layernorm_lanes, wide_channels(config)
        if lanes == half:
            return [
                pick([self.word[first + lane] for first in range(0, config.lanes, lanes)], beat.part)
                for lane in range(lanes)
            ]
        # One word per beat: only the wide output, which makes two words of one, has to choose a half.
        return [
            Mux(beat.wide & beat.part[0], self.word[lane + half], self.word[lane]) if lane < half else self.word[lane]
            for lane in range(lanes)
        ]

    def _multiply(self, m: Module, lane: int, channel: Value, row: data.View, beat: data.View) -> tuple[Signal, Signal]:
        """Stages 1 to 3: mask, subtract the mean, multiply; returns the multiplier's left operand and the product."""
        residual = self._config.numerics.residual
        x, inside = Signal(signed(residual.width), name=f"x_{lane}"), Signal(name=f"inside_{lane}")
        left, kept = (
            Signal(signed(residual.width), name=f"left_{lane}"),
            Signal(signed(residual.width), name=f"kept_{lane}"),
        )
        m.submodules[f"multiplier_{lane}"] = multiplier = Multiplier(max(residual.width, len(row.scale) + 1), 1)
        # Channels beyond the row's last one count as 0, in the statistics and in the output.
        with m.If(inside):
            m.d.comb += left.eq(Mux(beat.statistics, x, saturate(x - row.mean, residual)))
        m.d.comb += [
            multiplier.broadcast.eq(left),
            multiplier.stationary[0].eq(Mux(beat.statistics, x, row.scale)),
        ]
        m.d.sync += [
            x.eq(channel),
            inside.eq(self.beat.payload.channel + lane < self.constants.channels),
            kept.eq(left),
        ]
        return kept, multiplier.product[0]

    def _shift_amount(self, m: Module, lane: int) -> Signal:
        """Stages 1 to 3: the right shift of a lane's product, 0 to 63."""
        constants, wide, numerics = self.constants, self.beat.payload.wide, self._config.numerics
        largest = numerics.maximum_shift
        amount = Signal(numerics.shift_width, name=f"shift_{lane}")
        most = Signal(numerics.shift_width + 1, name=f"shift_most_{lane}")
        kept = Signal(self.channel_shifts[lane].shape(), name=f"shift_kept_{lane}")
        total = Signal(signed(numerics.shift_width + 2), name=f"shift_total_{lane}")
        m.d.sync += [
            most.eq(Mux(wide, constants.wide_shift, constants.shift) + self.row.exponent),
            kept.eq(Mux(wide, 0, self.channel_shifts[lane])),
            total.eq(most - kept),
            amount.eq(Mux(total < 0, 0, Mux(total > largest, largest, total))),
        ]
        return amount

    def _quantise(self, m: Module, lane: int, product: Signal, amount: Value, wide: Value) -> Signal:
        """Stages 4 to 7: shift and clip; returns the normalised value."""
        numerics = self._config.numerics
        shifted = registered_round_shift(m, product, amount, name=f"shifted_{lane}")
        rectified = self.constants.mode == NormMode.RECTIFIED_COPY
        narrow = Mux(rectified, saturate(shifted, numerics.unsigned_activation), saturate(shifted, numerics.activation))
        clipped = Mux(wide, saturate(shifted, numerics.wide), narrow)
        value = Signal(signed(numerics.wide.width), name=f"value_{lane}")
        m.d.sync += value.eq(clipped)
        return value

    def _sum(self, m: Module, inputs: list[Value], squares: list[Value], valid: Value, beat: data.View) -> None:
        """Add a beat's channels, then a row's beats."""
        total, depth = registered_tree(m, inputs, name="total")
        square_total, _ = registered_tree(m, [s.as_unsigned()[:-1] for s in squares], name="squares")
        valid = delay(m, valid, depth, name="summed_valid")
        beat = delay(m, beat, depth, name="summed_beat")
        sums = self.sums.payload
        # A row's first beat replaces the old sums, so that nothing clears them.
        with m.If(valid):
            m.d.sync += [
                sums.total.eq(Mux(beat.first, 0, sums.total) + total),
                sums.squares.eq(Mux(beat.first, 0, sums.squares) + square_total),
            ]
        m.d.sync += self.sums.valid.eq(valid & beat.last)
