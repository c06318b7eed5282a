"""Rounding, saturation and reduction of signals, as ``tessera.hw.formats`` spells them out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from amaranth.hdl import Array, Cat, Const, Module, Mux, Signal, Value, ValueLike, signed, unsigned

from tessera.hw.formats import Format


def round_shift(value: Value, amount: Value | int) -> Value:
    """``floor((value + 2**(amount - 1)) / 2**amount)``; ``value`` for amount 0. Ties go towards plus infinity.

    Implemented as an arithmetic shift plus the last bit shifted out, which needs no wide addend.

    Parameters
    ----------
    value:
        Signed or unsigned value; the result has the same signedness.
    amount:
        Constant or unsigned signal.
    """
    is_signed = value.shape().signed
    doubled = Cat(Const(0, 1), value)
    doubled = doubled.as_signed() if is_signed else doubled
    shifted = doubled >> amount
    truncated = shifted[1:].as_signed() if is_signed else shifted[1:]
    return truncated + shifted[0]


def saturate(value: Value, target: Format) -> Value:
    """Clip a value to the bounds of ``target``; the result has its width and signedness."""
    shape = signed(target.width) if target.signed else unsigned(target.width)
    low, high = Const(target.minimum, shape), Const(target.maximum, shape)
    clipped = Mux(value > target.maximum, high, Mux(value < target.minimum, low, value[: target.width]))
    bits = clipped[: target.width]
    return bits.as_signed() if target.signed else bits


def pick(values: Iterable[ValueLike], index: ValueLike) -> Value:
    """The value at ``index``, as one multiplexer; an index beyond the last value is undefined.

    Beside a variable part select (``Value.word_select``) it needs no product for the place of a word whose width is no
    power of two.
    """
    return Array(values)[index]


def exceeds(value: Value, target: Format) -> Value:
    """1 where :func:`saturate` would clip."""
    return (value > target.maximum) | (value < target.minimum)


def registered_tree(
    m: Module, values: Sequence[ValueLike], *, enable: ValueLike = 1, name: str = "sum", suffix: str = ""
) -> tuple[Value, int]:
    """Balanced adder tree with a register after each level. Registers are called ``NAME_LEVEL_INDEX`` and the suffix.

    The registers are not reset, because other signals say whether a sum is valid.

    Returns
    -------
    tuple
        The sum and its latency in cycles, ``ceil(log2(len(values)))``.
    """
    level = [Value.cast(value) for value in values]
    depth = 0
    while len(level) > 1:
        pairs = [level[i] + level[i + 1] for i in range(0, len(level) - 1, 2)] + ([level[-1]] if len(level) % 2 else [])
        level = []
        for index, pair in enumerate(pairs):
            register = Signal(pair.shape(), name=f"{name}_{depth}_{index}{suffix}", reset_less=True)
            with m.If(enable):
                m.d.sync += register.eq(pair)
            level.append(register)
        depth += 1
    return level[0], depth
