"""RowStatistics: from a row's sums to its mean and reciprocal deviation, with one multiplier for all of it."""

from __future__ import annotations

from dataclasses import dataclass

from amaranth.hdl import Cat, Module, Mux, Signal, Value, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from tessera.hw.blocks.arithmetic import round_shift
from tessera.hw.blocks.checks import check
from tessera.hw.blocks.multiplier import Multiplier
from tessera.hw.blocks.pipeline import delay
from tessera.hw.blocks.reciprocal import ReciprocalSquareRoot
from tessera.hw.blocks.rounding import ROUNDING_LATENCY, registered_round_shift
from tessera.hw.config import AcceleratorConfig
from tessera.hw.interfaces.layernorm import (
    channel_bits,
    row_constants_layout,
    row_scale_layout,
    row_square_sum_width,
    row_sum_width,
    row_sums_layout,
)
from tessera.hw.interfaces.strobe import Strobe
from tessera.hw.isa import NormMode

_LIMB = 17
"""Unsigned bits that a signed 18-bit multiplier input holds."""


@dataclass(frozen=True, kw_only=True)
class _Product:
    """One step: ``left * right * 2**shift``, added to (or subtracted from) the variance, or added to the mean."""

    left: Value
    right: Value
    shift: int
    negative: bool = False
    mean: bool = False


class RowStatistics(wiring.Component):
    """Mean and reciprocal deviation of a row from its sum and its sum of squares (integer golden model: ``layernorm``).

    Variance times D squared is ``D * squares - total**2 + epsilon``, exact, at least 1. The factors are cut into limbs
    of 17 bits and multiplied one pair per cycle; the reciprocal square root and its scaling run behind, in a pipeline.
    An RMS norm is the same with a total of 0. A copy uses no result.

    Parameters
    ----------
    config:
        Sizes of the machine.

    Members
    -------
    sums: In(Strobe(row_sums))
        A row's sums; at least ``interval`` (attribute) cycles after the previous row's.
    constants: In(row_constants)
        Stable from the first row's sums to the last row's result.
    result: Out(Strobe(row_scale))
        mean = round_shift(total * mean_multiplier, mean_shift), which must fit (it does if the multiplier is 1 / D);
        scale = round_shift(mantissa * scale_multiplier, 16); exponent.

    Timing: latency ``latency`` cycles (attribute). Resources: one multiplier of 18 x 18 bits, one for the scale, one
    small one in the square root.
    """

    def __init__(self, config: AcceleratorConfig) -> None:
        self._config = config
        self._root = ReciprocalSquareRoot(row_square_sum_width(config) + channel_bits(config) - 1)
        self._square_limbs = -(-row_square_sum_width(config) // _LIMB)
        self.interval = self._square_limbs + 5
        self.latency = self.interval + 5 + self._root.latency + 2
        super().__init__(
            {
                "sums": In(Strobe(row_sums_layout(config))),
                "constants": In(row_constants_layout(config)),
                "result": Out(Strobe(row_scale_layout(config))),
            }
        )

    def _products(self, sums: data.View) -> list[_Product]:
        """All partial products of a row, in order."""
        constants = self.constants
        squares, total = sums.squares, sums.total
        low, high = total[:_LIMB], total[_LIMB:].as_signed()
        limbs = [squares[_LIMB * i : _LIMB * (i + 1)] for i in range(self._square_limbs)]
        return [
            *(_Product(left=limb, right=constants.channels, shift=_LIMB * i) for i, limb in enumerate(limbs)),
            _Product(left=low, right=low, shift=0, negative=True),
            _Product(left=low, right=high, shift=_LIMB + 1, negative=True),
            _Product(left=high, right=high, shift=2 * _LIMB, negative=True),
            _Product(left=low, right=constants.mean_multiplier, shift=0, mean=True),
            _Product(left=high, right=constants.mean_multiplier, shift=_LIMB, mean=True),
        ]

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.root = root = self._root
        held = Signal(row_sums_layout(self._config))
        products = self._products(held)
        step, running = Signal(range(len(products))), Signal()
        last = step == len(products) - 1
        # The sums are kept, because the next row's are being added while this row's products are made.
        with m.If(self.sums.valid):
            m.d.sync += [held.eq(self.sums.payload), step.eq(0), running.eq(1)]
            with m.If(self.constants.mode != NormMode.LAYER):
                m.d.sync += held.total.eq(0)
        with m.Elif(running):
            m.d.sync += [step.eq(Mux(last, 0, step + 1)), running.eq(~last)]

        # All products share one multiplier: a row has far fewer of them than beats.
        m.submodules.multiplier = multiplier = Multiplier(_LIMB + 1, 1)
        with m.Switch(step):
            for index, factors in enumerate(products):
                with m.Case(index):
                    m.d.comb += [multiplier.broadcast.eq(factors.left), multiplier.stationary[0].eq(factors.right)]
        adding = delay(m, step, Multiplier.LATENCY, name="adding_step")
        enable = delay(m, running, Multiplier.LATENCY, name="adding")
        variance, weighted_total = self._add(m, products, multiplier.product[0], enable, adding)
        complete = delay(m, running & last, Multiplier.LATENCY + 2, name="complete")

        constants = self.constants
        # The product of the root's mantissa and the multiplier has a cycle for itself, and so has its rounding.
        scaled = Signal(len(root.result.payload.mantissa) + len(constants.scale_multiplier))
        size = len(self.result.payload.mean)
        exact_mean = registered_round_shift(m, weighted_total, constants.mean_shift, name="rounded_mean")
        mean = exact_mean[:size].as_signed()
        m.d.sync += [
            root.argument.valid.eq(complete),
            root.argument.payload.eq(Mux(variance == 0, 1, variance)),
            scaled.eq(root.result.payload.mantissa * constants.scale_multiplier),
            self.result.payload.scale.eq(round_shift(scaled, self._config.numerics.mantissa_fraction)),
        ]
        m.d.comb += [
            self.result.valid.eq(delay(m, root.result.valid, 2, name="valid")),
            self.result.payload.exponent.eq(delay(m, root.result.payload.exponent, 2, name="exponent")),
            # Three cycles of rounding beside the one of the argument's register.
            self.result.payload.mean.eq(delay(m, mean, root.latency + 2 + 1 - ROUNDING_LATENCY, name="mean")),
        ]
        check(m, self.sums.valid, ~running | last, "a row's sums came before step {} of the previous row", step)
        rounded = delay(m, complete, ROUNDING_LATENCY, name="rounded")
        check(m, rounded, exact_mean == mean, "a mean does not fit: the multiplier is wrong")
        return m

    def _add(
        self, m: Module, products: list[_Product], product: Value, enable: Value, step: Value
    ) -> tuple[Value, Value]:
        """Accumulate the products; returns variance and weighted total, complete two cycles after the last product."""
        # Modulo its own width: intermediate sums may overflow, the final variance does not.
        variance = Signal(len(self._root.argument.payload))
        weighted_total = Signal(signed(row_sum_width(self._config) + self._config.numerics.multiplier_width))
        totals = {False: variance, True: weighted_total}
        # Each product at its place, then each sum: a register each.
        addends = {mean: Signal(total.shape(), name=f"addend_{mean:d}") for mean, total in totals.items()}
        adds = {mean: Signal(name=f"adds_{mean:d}") for mean in totals}
        begins = {mean: Signal(name=f"begins_{mean:d}") for mean in totals}
        negative = Signal()
        seen: set[bool] = set()
        m.d.sync += [signal.eq(0) for signal in adds.values()]
        with m.Switch(step):
            for index, factors in enumerate(products):
                shifted, mean = product << factors.shift, factors.mean
                with m.Case(index):
                    m.d.sync += [
                        addends[mean].eq(~shifted if factors.negative else shifted),
                        negative.eq(factors.negative),
                        adds[mean].eq(enable),
                        begins[mean].eq(mean not in seen),
                    ]
                seen.add(mean)
        for mean, total in totals.items():
            start = 0 if mean else self.constants.epsilon
            # -x = ~x + 1; the 1 comes as a carry from below.
            with_carry = Cat(negative, Mux(begins[mean], start, total)) + Cat(negative, addends[mean])
            with m.If(adds[mean]):
                m.d.sync += total.eq(with_carry[1:])
        return variance, weighted_total
