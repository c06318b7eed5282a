"""Reciprocal and ReciprocalSquareRoot: normalise to a mantissa, look it up in a table, keep the exponent."""

from __future__ import annotations

from amaranth.hdl import Cat, Const, Module, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from tessera.hw.blocks.checks import check
from tessera.hw.blocks.piecewise import Piecewise
from tessera.hw.blocks.pipeline import delay
from tessera.hw.formats import Numerics
from tessera.hw.interfaces.arithmetic import scaled_mantissa_layout
from tessera.hw.interfaces.strobe import Strobe
from tessera.hw.tables import PiecewiseTable, reciprocal_square_root_table, reciprocal_table


class Normaliser(wiring.Component):
    """Shift a number left until one of its top ``digit`` bits is set, with one conditional shift per pipeline stage.

    Parameters
    ----------
    width:
        Bits of the number; a multiple of ``digit``, at least ``2 * digit``.
    digit:
        Shifts are multiples of this many bits.

    Members
    -------
    value: In(width)
        The number, not 0.
    normalised: Out(width)
        ``value << (digit * shift)``.
    shift: Out(unsigned)
        Number of digits by which it was shifted.

    Timing: latency ``latency`` cycles (attribute), initiation interval 1.
    """

    def __init__(self, width: int, digit: int) -> None:
        if width % digit or width < 2 * digit:
            raise ValueError(f"width is {width}; choose a multiple of the digit of {digit} bits, at least two digits")
        self._width, self._digit = width, digit
        self._count_width = (width // digit - 1).bit_length()
        self.latency = self._count_width
        super().__init__({"value": In(width), "normalised": Out(width), "shift": Out(self._count_width)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        value: Value = self.value
        taken: list[Value] = []
        # The largest shift comes first, so that each stage decides one bit of the shift.
        for level in reversed(range(self._count_width)):
            distance = self._digit << level
            empty, shifted = Signal(name=f"empty_{level}"), Signal(self._width, name=f"shifted_{level}")
            m.d.comb += [shifted.eq(value), empty.eq(value[-distance:] == 0)]
            with m.If(empty):
                m.d.comb += shifted.eq(value << distance)
            taken = [empty, *taken]
            stored = Signal((self._width + len(taken)), name=f"stored_{level}")
            m.d.sync += stored.eq(Cat(shifted, *taken))
            value, taken = stored[: self._width], list(stored[self._width :])
        m.d.comb += [self.normalised.eq(value), self.shift.eq(Cat(*taken))]
        return m


class _ScaledLookup(wiring.Component):
    """The part that both functions share: an exponent step of ``digit`` bits, and a mantissa of 16 fraction bits."""

    def __init__(self, table: PiecewiseTable, width: int, digit: int) -> None:
        if width < 2:
            raise ValueError(f"width is {width}; choose at least 2 bits")
        self._table, self._digit = table, digit
        self._normaliser = Normaliser(-(-width // digit) * digit, digit)
        self._exponents = -(-width // digit)
        self.latency = self._normaliser.latency + Piecewise.LATENCY
        super().__init__(
            {"argument": In(Strobe(width)), "result": Out(Strobe(scaled_mantissa_layout(self._exponents)))}
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.normaliser = normaliser = self._normaliser
        m.submodules.table = table = Piecewise(self._table)
        m.d.comb += normaliser.value.eq(self.argument.payload)
        check(m, self.argument.valid, self.argument.payload != 0, "no reciprocal of 0")

        # The leading digit of the mantissa is never 0, so the table starts at its smallest value.
        size = Numerics.mantissa_fraction + self._digit
        mantissa = Cat(Const(0, size), normaliser.normalised)[-size:]
        bits = self._table.fraction_bits
        first_segment = 1 << (Numerics.mantissa_fraction - bits)
        m.d.comb += [
            table.fraction.eq(mantissa[:bits]),
            table.index.eq(mantissa[bits:] - first_segment),
            self.result.payload.mantissa.eq(table.value),
        ]
        exponent = Signal(self.result.payload.exponent.shape())
        m.d.comb += [
            exponent.eq(self._exponents - 1 - normaliser.shift),
            self.result.payload.exponent.eq(delay(m, exponent, Piecewise.LATENCY, name="exponent")),
            self.result.valid.eq(delay(m, self.argument.valid, self.latency, name="valid")),
        ]
        return m


class Reciprocal(_ScaledLookup):
    """1 / S as mantissa and exponent: ``S**-1 ~ mantissa * 2**-16 * 2**-exponent``, ``exponent = floor(log2 S)``.

    Parameters
    ----------
    width:
        Bits of S.

    Members
    -------
    argument: In(Strobe(unsigned(width)))
        The number S, at least 1.
    result: Out(Strobe(scaled_mantissa(width)))
        Mantissa and exponent.

    Timing: latency ``latency`` cycles (attribute), initiation interval 1, no backpressure.
    Resources: one small multiplier.

    Raises
    ------
    ValueError
        For fewer than 2 bits.
    """

    def __init__(self, width: int) -> None:
        super().__init__(reciprocal_table(), width, 1)


class ReciprocalSquareRoot(_ScaledLookup):
    """V**-0.5 as mantissa and exponent: ``V**-0.5 ~ mantissa * 2**-16 * 2**-exponent``, ``exponent = floor(log4 V)``.

    Parameters
    ----------
    width:
        Bits of V.

    Members
    -------
    argument: In(Strobe(unsigned(width)))
        The number V, at least 1.
    result: Out(Strobe(scaled_mantissa(ceil(width / 2))))
        Mantissa and exponent.

    Timing: latency ``latency`` cycles (attribute), initiation interval 1, no backpressure.
    Resources: one small multiplier.

    Raises
    ------
    ValueError
        For fewer than 3 bits.
    """

    def __init__(self, width: int) -> None:
        if width < 3:
            raise ValueError(f"width is {width}; choose at least 3 bits")
        super().__init__(reciprocal_square_root_table(), width, 2)
