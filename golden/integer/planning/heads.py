"""Operators that attend, and means over rows, which are attention of one query."""

from __future__ import annotations

from dataclasses import replace

from tessera.golden.integer.planning.forms import Forms
from tessera.golden.integer.planning.sums import PendingProduct
from tessera.golden.integer.steps import (
    AttentionStep,
    Matrix,
    MatrixKind,
    ProductStep,
    RowSelection,
)
from tessera.golden.network.operators import (
    Attend,
    Mean,
)

_HEAD = 64
"""Channels of a head at most where heads mean nothing."""


class HeadPlanner(Forms):
    """Plans them."""

    def _attend(self, operator: Attend) -> None:
        query, key, value = (self._head_rows(operator, role) for role in ("query", "key", "value"))
        step = AttentionStep(
            place=operator.place,
            part=operator.part,
            rows=len(query),
            channels=self._channels_of(operator.name),
            query=query,
            key=key,
            value=value,
            heads=operator.heads,
            scale=operator.scale,
            windows=operator.windows,
            bias=operator.bias,
        )
        self._emit(step, self._activations)

    def _mean(self, operator: Mean) -> None:
        """Attention of one query whose scores are all 0: every row has the same weight."""
        source, channels = self._signed(operator.source), self._channels_of(operator.name)
        heads = channels // max(size for size in range(1, _HEAD + 1) if channels % size == 0)
        parts = {
            "query": (source.within(0, 1), Matrix(kind=MatrixKind.ZERO, stop=heads)),
            "key": (source, Matrix(kind=MatrixKind.ZERO, stop=heads)),
            "value": (source, Matrix(kind=MatrixKind.UNCHANGED, stop=channels)),
        }
        made = {
            part: self._product_step(
                replace(operator, part=f"{operator.part}.{part}"),
                PendingProduct(name=operator.source, matrix=matrix, source=rows, rows=len(rows)),
            )
            for part, (rows, matrix) in parts.items()
        }
        step = AttentionStep(
            place=operator.place,
            part=operator.part,
            rows=1,
            channels=channels,
            query=made["query"],
            key=made["key"],
            value=made["value"],
            heads=heads,
            scale=1.0,
        )
        self._emit(step, self._activations)

    def _head_rows(self, operator: Attend, role: str) -> RowSelection:
        """Queries, keys or values: what a product of their own makes, in their own order.

        Their scales are what this attention needs, so that nothing else may read them. The product that makes values
        holds its source, which must be signed.
        """
        name: str = getattr(operator, role)
        held = role == "value"
        own = self._own_rows(operator, name, held=held)
        if own is not None:
            return own
        found = self._sums.get(name)
        product = None if found is None else found.lone
        if product is None or not product.linear or product.swapped or (held and self._positive(product.source)):
            product = replace(self._unchanged(name), source=self._signed(name))
        return self._product_step(replace(operator, part=f"{operator.part}.{role}"), product)

    def _own_rows(self, operator: Attend, name: str, *, held: bool) -> RowSelection | None:
        """Rows of a product that only one role of an attention reads, of signed rows if they are ``held``; None for
        others.
        """
        rows = self._activation(name)
        made = self._made(rows)
        whole = rows.plain and rows.start == 0 and rows.stop == made.rows
        if not whole or not isinstance(made, ProductStep) or made.positive or made.swapped or made.taps is not None:
            return None
        if held and self._positive(made.source):
            return None
        names = {one for one, known in self._activations.items() if known.tensor == rows.tensor}
        readers = {reader.name for one in names for reader in self.network.readers.get(one, ())} - names
        results = {task.result for task in self.network.tasks}
        roles = [one for one in operator.sources if one in names]
        return rows if readers == {operator.name} and len(roles) == 1 and not names & results else None
