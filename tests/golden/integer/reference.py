"""The numerics once more, one element at a time in Python integers and exact fractions, from docs/numerics.md."""

from __future__ import annotations

import math
from fractions import Fraction

from tessera.hw import tables
from tessera.hw.formats import Format, Numerics
from tessera.hw.isa import NormMode


def rs(x: int, s: int) -> int:
    return math.floor(Fraction(x, 2**s) + Fraction(1, 2)) if s else x


def clip(x: int, form: Format) -> int:
    return min(max(x, form.minimum), form.maximum)


def gelu(z: int, numerics: Numerics) -> int:
    table = tables.gelu_delta_table()
    segment, fraction = divmod(abs(z), 64)
    delta = 0 if segment >= 177 else table.base[segment] + rs(table.slope[segment] * fraction, 6)
    return clip(max(z, 0) * 8 - rs(delta, 4) + 2786, numerics.gelu_output)


def curve(z: int, entries: list[int]) -> int:
    """An activation function of one argument, without its zero point, from its table as it lies in memory."""
    segment, fraction = divmod(abs(z), 64)
    entry = entries[min(segment, 511)]
    slope = entry >> 18 if entry < 1 << 30 else (entry >> 18) - 2**13
    delta = rs((entry & (2**18 - 1)) + rs(slope * fraction, 6), 4)
    if entries[512] >> 18:
        return delta if z < 0 else 2**14 - delta
    return max(z, 0) * 8 - delta


def exp2(distance: int, width: int, numerics: Numerics) -> int:
    octaves, fraction = divmod(distance, 1024)
    segment, rest = divmod(fraction, 32)
    table = tables.exp2_table()
    mantissa = table.base[segment] + rs(table.slope[segment] * rest, 5)
    shift = 16 - width + octaves
    return 0 if shift > 17 else min(2**width - 1, rs(mantissa, shift))


def reciprocal(total: int) -> tuple[int, int]:
    e = 0
    while 2 ** (e + 1) <= total:
        e += 1
    segment, rest = divmod(math.floor(Fraction(total, 2**e) * 65536), 512)
    table = tables.reciprocal_table()
    return table.base[segment - 128] + rs(table.slope[segment - 128] * rest, 9), e


def reciprocal_square_root(variance: int) -> tuple[int, int]:
    e = 0
    while 4 ** (e + 1) <= variance:
        e += 1
    segment, rest = divmod(math.floor(Fraction(variance, 4**e) * 65536), 1024)
    table = tables.reciprocal_square_root_table()
    return table.base[segment - 64] + rs(table.slope[segment - 64] * rest, 10), e


def layernorm(row: list[int], norm, numerics: Numerics) -> tuple[list[int], list[int]]:
    total = sum(row) if norm.mode == NormMode.LAYER else 0
    variance = sum(len(row) * x * x for x in row) - total**2 + norm.epsilon
    r, e = reciprocal_square_root(variance or 1)
    scale = rs(r * norm.scale_multiplier, 16)
    mean = rs(total * norm.mean_multiplier, norm.mean_shift)
    if norm.mode in (NormMode.COPY, NormMode.RECTIFIED_COPY):
        scale, e = norm.scale_multiplier, 0
    activation = numerics.activation
    if norm.mode == NormMode.RECTIFIED_COPY:
        activation = numerics.unsigned_activation
    narrow, wide = [], []
    for x, extra in zip(row, norm.channel_shift.tolist(), strict=True):
        d = clip(x - mean, numerics.residual)
        narrow.append(clip(rs(d * scale, min(max(norm.shift + e - extra, 0), 63)), activation))
        wide.append(clip(rs(d * scale, min(max(norm.wide_shift + e, 0), 63)), numerics.wide))
    return narrow, wide


def gate(logits: list[int], top_k: int, numerics: Numerics) -> list[tuple[int, int]]:
    """(expert, weight) of one token, best first."""
    exponentials = [exp2(max(logits) - logit, 16, numerics) for logit in logits]
    r, e = reciprocal(sum(exponentials))
    ranked = sorted(range(len(logits)), key=lambda expert: (-logits[expert], expert))
    return [(expert, min(65535, rs(exponentials[expert] * r, e))) for expert in ranked[:top_k]]


def attend(query: list[int], keys: list[list[int]], values: list[list[int]], attention, numerics) -> list[int]:
    """One query of one head over all keys: the head's output channels."""
    products = [sum(a * b for a, b in zip(query, key, strict=True)) for key in keys]
    scores = [clip(rs(p * attention.score_multiplier, attention.score_shift), numerics.score) for p in products]
    exponentials = [exp2(max(scores) - score, numerics.activation_width, numerics) for score in scores]
    r, e = reciprocal(sum(exponentials))
    multiplier, shift = rs(r * attention.output_multiplier, 16), min(attention.output_shift + e, 63)
    outputs = []
    for channel in range(len(values[0])):
        acc = sum(p * value[channel] for p, value in zip(exponentials, values, strict=True))
        outputs.append(clip(rs(acc * multiplier, shift), numerics.activation))
    return outputs


def linear(row: list[int], layer) -> list[int]:
    weight, bias = layer.weight.tolist(), layer.bias.tolist()
    multiplier, shift = layer.multiplier.tolist(), layer.shift.tolist()
    sums = [sum(w * x for w, x in zip(weights, row, strict=True)) for weights in weight]
    return [rs((acc + b) * m, s) for acc, b, m, s in zip(sums, bias, multiplier, shift, strict=True)]


def window(
    positions: list[list[int]], size: tuple[int, int], at: tuple[int, int], kernel: tuple[int, int], outside: int
):
    """What a kernel reads whose first tap lies ``at`` (row, column), maybe outside: channels of each tap, as a row."""
    found: list[int] = []
    for y in range(at[0], at[0] + kernel[0]):
        for x in range(at[1], at[1] + kernel[1]):
            inside = 0 <= y < size[0] and 0 <= x < size[1]
            found += positions[y * size[1] + x] if inside else [outside] * len(positions[0])
    return found


def neighbours(positions: list[list[int]], size: tuple[int, int], at: tuple[int, int]) -> list[int]:
    """What a result ``at`` (row, column) of an enlarged map is made of: its position, those beside it on the result's
    side (in the line, in the column), and the one beyond both; channels of each, as a row.
    """
    near, other = [], []
    for axis in range(2):
        position = at[axis] // 2
        beside = position + (1 if at[axis] % 2 else -1)
        near.append(position)
        other.append(min(max(beside, 0), size[axis] - 1))
    places = [(near[0], near[1]), (near[0], other[1]), (other[0], near[1]), (other[0], other[1])]
    return [value for y, x in places for value in positions[y * size[1] + x]]


def windows(positions: list[list[int]], taps, outside: int) -> list[list[list[int]]]:
    """Of every result of a product of windows, line by line, the row of each group of channels."""
    found = []
    own = len(positions[0]) // taps.groups
    groups = [[row[first : first + own] for row in positions] for first in range(0, len(positions[0]), own)]
    for at in ((y, x) for y in range(taps.made[0]) for x in range(taps.made[1])):
        if taps.enlarges:
            found.append([neighbours(some, taps.size, at) for some in groups])
            continue
        first = (at[0] * taps.stride[0] - taps.padding[0], at[1] * taps.stride[1] - taps.padding[1])
        found.append([window(some, taps.size, first, taps.kernel, outside) for some in groups])
    return found


def grouped(rows: list[list[int]], layer) -> list[int]:
    """Requantised sums of groups, each a row with outputs of its own."""
    outputs = len(layer.weight) // len(rows)
    made: list[int] = []
    for group, row in enumerate(rows):
        some = slice(group * outputs, (group + 1) * outputs)
        made += linear(row, type(layer)(**{name: values[some] for name, values in vars(layer).items()}))
    return made


def mlp(row: list[int], first, second, requantised, numerics: Numerics) -> list[int]:
    """One token through two layers around GELU, to requantised but not yet saturated residual steps."""
    hidden = []
    for y in linear(row, first):
        g = gelu(clip(y, numerics.gelu_input), numerics)
        hidden.append(
            clip(rs(g * requantised.function_multiplier, requantised.function_shift), numerics.unsigned_activation)
        )
    return linear(hidden, second)


def expert(row: list[int], experts, index: int, numerics: Numerics) -> list[int]:
    """One token through one of the experts."""
    chosen = experts.experts[index]
    return mlp(row, chosen.first, chosen.second, experts, numerics)
