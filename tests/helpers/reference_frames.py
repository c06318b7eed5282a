"""A whole frame of any network, one element at a time in Python's integers, as docs/numerics.md reads.

Nothing of the golden arithmetic is called; formats, tables and the integers of a quantised model are what they share.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tessera.golden.integer.parameters import (
    QuantisedAttention,
    QuantisedExperts,
    QuantisedLayerNorm,
    QuantisedModel,
    QuantisedProduct,
    QuantisedStream,
)
from tessera.golden.integer.steps import (
    AttentionStep,
    ExpertsStep,
    NormStep,
    PatchStep,
    ProductStep,
    RowSelection,
    StreamStep,
)
from tessera.golden.network.operators import ActivationFunction
from tessera.hw import tables
from tessera.hw.formats import Numerics
from tests.golden.integer import reference
from tests.golden.integer.reference import clip, rs

Matrix = list[list[int]]


def frame(model: QuantisedModel, numerics: Numerics, image: NDArray[np.uint8], task: int) -> dict[str, Matrix]:
    """The tensors of all steps that a task needs, by name."""
    made: dict[str, Matrix] = {}
    walker = _Frame(model, numerics, made)
    for step in model.plan.steps:
        if step.tasks is None or task in step.tasks:
            made[step.name] = walker.step(step, image, task)
    return made


class _Frame:
    """One step after another."""

    def __init__(self, model: QuantisedModel, numerics: Numerics, made: dict[str, Matrix]) -> None:
        self.model, self.numerics, self.made = model, numerics, made
        self.wide: dict[str, Matrix] = {}

    def step(self, step: Any, image: NDArray[np.uint8], task: int) -> Matrix:
        """What a step makes."""
        match step:
            case PatchStep():
                return self.patches(step, image)
            case StreamStep():
                return self.model.of(step.name, QuantisedStream).values.tolist()
            case ProductStep():
                return self.product(step)
            case NormStep():
                norm = self.model.of(step.name, QuantisedLayerNorm)
                pairs = [reference.layernorm(row, norm, self.numerics) for row in self.rows(step.source)]
                self.wide[step.name] = [wide for _, wide in pairs]
                return [narrow for narrow, _ in pairs]
            case AttentionStep():
                return self.attention(step)
            case ExpertsStep():
                return self.experts(step, task)
        raise AssertionError(step)

    def rows(self, rows: RowSelection, made: dict[str, Matrix] | None = None) -> Matrix:
        """Rows that a step reads."""
        values = (made or self.made)[rows.tensor]
        picked = [values[index] for index in (range(len(values)) if rows.listed is None else rows.listed)]
        picked = picked[rows.start : rows.stop]
        if rows.split > 1:
            return [_head(row, part, rows.split) for row in picked for part in range(rows.split)]
        groups = range(0, len(picked), rows.fold)
        return [[value for row in picked[first : first + rows.fold] for value in row] for first in groups]

    @staticmethod
    def patches(step: PatchStep, image: NDArray[np.uint8]) -> Matrix:
        """Pixels of each patch, colour by colour, line by line."""
        size, (down, across) = step.patch, step.grid
        return [
            [
                int(image[colour, row * size + y, column * size + x])
                for colour in range(3)
                for y in range(size)
                for x in range(size)
            ]
            for row in range(down)
            for column in range(across)
        ]

    def product(self, step: ProductStep) -> Matrix:
        """A product, and where it goes."""
        numerics, quantised = self.numerics, self.model.of(step.name, QuantisedProduct)
        source = self.rows(step.operand)
        if step.inputs is not None:
            source = [row[step.inputs[0] : step.inputs[1]] for row in source]
        if step.taps is None:
            sums = [reference.linear(row, quantised.linear) for row in source]
        else:
            found = reference.windows(source, step.taps, quantised.padding)
            sums = [reference.grouped(rows, quantised.linear) for rows in found]
        if step.swapped:
            sums = [list(column) for column in zip(*sums, strict=True)]
        if step.apart:
            firsts = range(0, len(sums), step.source.fold)
            sums = [[y for part in sums[first : first + step.source.fold] for y in part] for first in firsts]
        if step.factor:
            table, form = (None if step.function is None else _table(step.function)), numerics.gelu_input

            def multiplied(old: int, y: int) -> int:
                z = clip(y, form)
                factor = rs(8 * z if table is None else _curve(z, table), 1)
                return clip(rs(factor * old, quantised.function_shift), numerics.residual)

            return self.onto(step, sums, multiplied)
        if step.function is not None:
            table, multiplier, shift = _table(step.function), quantised.function_multiplier, quantised.function_shift
            return [[_activated(y, table, multiplier, shift, numerics) for y in row] for row in sums]
        if step.onto is not None:
            residual = numerics.residual
            return self.onto(step, sums, lambda old, y: clip(old + clip(y, residual), residual))
        form = numerics.residual if step.residual else numerics.activation
        return [[clip(y, form) for y in row] for row in sums]

    def onto(self, step: ProductStep | ExpertsStep, sums: Matrix, change: Any) -> Matrix:
        """Rows of a stream, changed value by value."""
        assert step.onto is not None
        at = step.at if isinstance(step, ProductStep) else 0
        stream = [list(row) for row in self.made[step.onto.tensor]]
        for index, row in enumerate(sums):
            old = stream[step.onto.start + index]
            for channel, y in enumerate(row, at):
                old[channel] = change(old[channel], y)
        return stream

    def attention(self, step: AttentionStep) -> Matrix:
        """Every window, query and head on its own."""
        attention = self.model.of(step.name, QuantisedAttention)
        queries, keys, values = (self.rows(rows) for rows in step.reads)
        made = []
        for number, query in enumerate(queries):
            each = len(queries) // step.windows
            window, place, most = number // each, number % each, len(keys) // step.windows
            some = slice(window * most, (window + 1) * most)
            row: list[int] = []
            for head in range(step.heads):
                parts = [_head(one, head, step.heads) for one in (query, *keys[some])]
                bias = _bias(attention, window, head, place, most)
                row += self.head(
                    parts[0], parts[1:], [_head(v, head, step.heads) for v in values[some]], bias, attention
                )
            made.append(row)
        return made

    def head(self, query: list[int], keys: Matrix, values: Matrix, bias: list[int], attention: Any) -> list[int]:
        """One query of one head."""
        numerics = self.numerics
        products = [sum(a * b for a, b in zip(query, key, strict=True)) + c for key, c in zip(keys, bias, strict=True)]
        scores = [clip(rs(p * attention.score_multiplier, attention.score_shift), numerics.score) for p in products]
        weights = [reference.exp2(max(scores) - score, numerics.activation_width, numerics) for score in scores]
        r, e = reference.reciprocal(sum(weights))
        multiplier, shift = rs(r * attention.output_multiplier, 16), min(attention.output_shift + e, 63)
        sums = [sum(w * v for w, v in zip(weights, column, strict=True)) for column in zip(*values, strict=True)]
        return [clip(rs(one * multiplier, shift), numerics.activation) for one in sums]

    def experts(self, step: ExpertsStep, task: int) -> Matrix:
        """Every token through the experts that its gate chooses."""
        numerics, mlp = self.numerics, self.model.of(step.name, QuantisedExperts)
        stream, table = [list(row) for row in self.made[step.onto.tensor]], _table(step.function)
        wide = self.rows(step.source, self.wide)
        for token, row in enumerate(self.rows(step.source)):
            logits = [clip(y, numerics.score) for y in reference.linear(wide[token], mlp.gates[task])]
            for expert, weight in reference.gate(logits, step.top_k, numerics):
                chosen = mlp.experts[expert]
                hidden = [
                    _activated(y, table, mlp.function_multiplier, mlp.function_shift, numerics)
                    for y in reference.linear(row, chosen.first)
                ]
                made = reference.linear(hidden, chosen.second)
                old = stream[step.onto.start + token]
                added = [rs(clip(y, numerics.residual) * weight, 16) for y in made]
                stream[step.onto.start + token] = [
                    clip(a + y, numerics.residual) for a, y in zip(old, added, strict=True)
                ]
        return stream


def _head(row: list[int], head: int, heads: int) -> list[int]:
    size = len(row) // heads
    return row[head * size : (head + 1) * size]


def _bias(attention: QuantisedAttention, window: int, head: int, query: int, keys: int) -> list[int]:
    """What is added to the products of a query, for each key."""
    if attention.bias is None or attention.bias_factors is None:
        return [0] * keys
    parts = [part if part.ndim == 3 else part[window] for part in attention.bias]
    pairs = list(zip(attention.bias_factors.tolist(), parts, strict=True))
    return [sum(factor * int(part[head, query, key]) for factor, part in pairs) for key in range(keys)]


def _table(function: ActivationFunction) -> tuple[list[int], int]:
    """A function's table as it lies in memory, and its zero point."""
    table = getattr(tables, f"{function}_table")()
    return table.entries(), table.zero_point


def _curve(z: int, table: tuple[list[int], int]) -> int:
    return reference.curve(z, table[0])


def _activated(y: int, table: tuple[list[int], int], multiplier: int, shift: int, numerics: Numerics) -> int:
    """A value through a function."""
    value = clip(_curve(clip(y, numerics.gelu_input), table) + table[1], numerics.gelu_output)
    return clip(rs(value * multiplier, shift), numerics.unsigned_activation)
