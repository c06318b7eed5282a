"""Requantiser: accumulators to the format of their destination."""

from __future__ import annotations

from amaranth.hdl import Module, Signal, Value, signed
from amaranth.lib import data, enum, wiring
from amaranth.lib.wiring import In, Out

from tessera.hw import formats
from tessera.hw.blocks.arithmetic import exceeds, pick, saturate
from tessera.hw.blocks.checks import check
from tessera.hw.blocks.multiplier import Multiplier
from tessera.hw.blocks.pipeline import delay, occupancy
from tessera.hw.blocks.rounding import ROUNDING_LATENCY, registered_round_shift
from tessera.hw.config import AcceleratorConfig

PIECE_BITS = 17
"""Bits of the pieces in which accumulators are multiplied: they suit 18 x 18 multipliers, signed or unsigned."""


class ResultFormat(enum.Enum, shape=2):
    """The format to which a value is saturated."""

    ACTIVATION = 0
    RESIDUAL = 1
    SCORE = 2
    GELU_INPUT = 3

    def number_format(self, numerics: formats.Numerics) -> formats.Format:
        """The format that values of this target have."""
        formats_of = {
            ResultFormat.ACTIVATION: numerics.activation,
            ResultFormat.RESIDUAL: numerics.residual,
            ResultFormat.SCORE: numerics.score,
            ResultFormat.GELU_INPUT: numerics.gelu_input,
        }
        return formats_of[self]


class Requantiser(wiring.Component):
    """R lanes of ``saturate(round_shift((accumulator + bias) * multiplier, shift))``, one group of R per cycle.

    ::

        accumulator + bias ─► x multiplier, in pieces of 17 bits ─► sum ─► coarse shift ─► fine shift ─► + ─► saturate

    Parameters
    ----------
    config:
        Number formats and R = ``requantise_lanes``.

    Members
    -------
    valid: In(1)
        A group enters. Only the registers of stages with a group move.
    accumulator: In(ArrayLayout(signed(accumulator_width), R))
        Accumulators; with the bias added they must still fit (asserted).
    bias, multiplier, shift: In(ArrayLayout(signed 32 / unsigned 17 / unsigned 6 bits, R))
        Constants of each lane; multipliers are at most 65536.
    target: In(ResultFormat)
        Format of the group's results.
    value: Out(ArrayLayout(signed(residual_width), R))
        Results, sign-extended to the residual's width, LATENCY cycles later.
    clipped: Out(R)
        1 where the target's bounds were exceeded.

    Timing: LATENCY cycles, initiation interval 1, no backpressure.
    Resources: two 17 x 17 multipliers per lane up to 12-bit activations, three beyond.
    """

    LATENCY = Multiplier.LATENCY + 4 + ROUNDING_LATENCY

    def __init__(self, config: AcceleratorConfig) -> None:
        self._config = config
        numerics, group = config.numerics, config.requantise_lanes
        super().__init__(
            {
                "valid": In(1),
                "accumulator": In(data.ArrayLayout(signed(numerics.accumulator_width), group)),
                "bias": In(data.ArrayLayout(signed(numerics.bias.width), group)),
                "multiplier": In(data.ArrayLayout(numerics.multiplier_width, group)),
                "shift": In(data.ArrayLayout(numerics.shift_width, group)),
                "target": In(ResultFormat),
                "value": Out(data.ArrayLayout(signed(numerics.residual_width), group)),
                "clipped": Out(group),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        numerics = self._config.numerics
        targets = [target.number_format(numerics) for target in ResultFormat]
        moves = occupancy(m, self.valid, self.LATENCY - 1)
        target = delay(m, self.target.as_value(), self.LATENCY - 1, name="target", enables=moves)
        for lane in range(self._config.requantise_lanes):
            rounded = self._lane(m, lane, moves)
            # Values are clipped to the widest format first, so that only narrow comparisons depend on the target.
            widest, clipped = (
                Signal(signed(numerics.residual.width), name=f"widest_{lane}"),
                Signal(name=f"clip_{lane}"),
            )
            with m.If(moves[-2]):
                m.d.sync += [
                    widest.eq(saturate(rounded, numerics.residual)),
                    clipped.eq(exceeds(rounded, numerics.residual)),
                ]
            narrowed = pick([saturate(widest, candidate) for candidate in targets], target)
            clips = pick([exceeds(widest, candidate) for candidate in targets], target)
            # Last stage: the target's format.
            with m.If(moves[-1]):
                m.d.sync += [
                    self.value[lane].eq(narrowed),
                    self.clipped[lane].eq(clipped | clips),
                ]
        return m

    def _lane(self, m: Module, lane: int, moves: list[Value]) -> Value:
        """One lane up to the rounded product."""
        width = self._config.numerics.accumulator_width
        full = self.accumulator[lane] + self.bias[lane]
        largest = 1 << self._config.numerics.mantissa_fraction
        check(m, self.valid, full == full[:width].as_signed(), "accumulator {} overflows with its bias", full)
        check(m, self.valid, self.multiplier[lane] <= largest, "multiplier {}", self.multiplier[lane])

        # The sum has a cycle before the multiplication, because its carry is long and the multipliers may be far away.
        summed = Signal(signed(width), name=f"summed_{lane}", reset_less=True)
        multiplied = Signal.like(self.multiplier[lane], name=f"multiplied_{lane}", reset_less=True)
        with m.If(moves[0]):
            m.d.sync += [summed.eq(full), multiplied.eq(self.multiplier[lane])]
        lows = range(0, width, PIECE_BITS)
        m.submodules[f"multiplier_{lane}"] = multiplier = Multiplier(PIECE_BITS + 1, len(lows))
        m.d.comb += multiplier.broadcast.eq(multiplied)
        for factor, low in zip(multiplier.stationary, lows, strict=True):
            piece = summed[low : low + PIECE_BITS]
            m.d.comb += factor.eq(piece.as_signed() if low + PIECE_BITS >= width else piece)
        products = [partial << low for partial, low in zip(multiplier.product, lows, strict=True)]
        product = Signal(signed(width + self._config.numerics.multiplier_width), name=f"product_{lane}")
        combined = products[0]
        for partial in products[1:]:
            combined = combined + partial
        # The sum of the pieces' products has a stage for itself, before the three of the rounding shift.
        added = Multiplier.LATENCY + 1
        with m.If(moves[added]):
            m.d.sync += product.eq(combined)
        shift = delay(m, self.shift[lane], added + 1, name=f"shift_{lane}", enables=moves)
        steps = moves[added + 1 :][:ROUNDING_LATENCY]
        return registered_round_shift(m, product, shift, name=f"rounded_{lane}", enables=steps)
