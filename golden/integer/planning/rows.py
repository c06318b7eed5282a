"""Operators that name rows and channels of tensors, join them or add them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from tessera.golden.integer.planning.forms import Forms
from tessera.golden.integer.planning.sums import NoStep, PendingProduct, Sum, shifted, taken, together
from tessera.golden.network.operators import (
    Add,
    Join,
    Normalise,
    Operator,
    Part,
    Reshape,
    Transpose,
)


class RowPlanner(Forms):
    """Plans them: most become no step."""

    def _reshape(self, operator: Reshape) -> None:
        """The same rows; several rows as one; or parts of rows as rows, for norms of them."""
        source = operator.source
        before, after = self._channels_of(source), self._channels_of(operator.name)
        if before == after:
            tables: tuple[dict[str, Any], ...] = (self._sums, self._norms, self._streams, self._activations)
            for known in tables:
                if source in known:
                    known[operator.name] = known[source]
            names = self._same.setdefault(source, [source])
            names.append(operator.name)
            self._same[operator.name] = names
            return
        if before % after == 0 and all(isinstance(one, Normalise) for one in self._readers(operator.name)):
            rows = self._stream(source)
            rows = rows if rows.plain else self._copied(self._operator(source))
            self._streams[operator.name] = replace(rows, split=before // after)
            return
        if after % before:
            raise NoStep("parts of rows as rows; the nearest are norms of such, or several rows as one")
        rows = self._activation(source)
        self._activations[operator.name] = replace(rows, fold=rows.fold * (after // before))

    def _some_rows(self, operator: Operator, source: str, rows: Sequence[int]) -> None:
        """Rows of what exists are named. Those of a norm, or of a product, are the rows of what that reads."""
        found = self._sums.get(source)
        whole = rows == range(self._rows_of(source))
        if source in self._norms and source not in self._activations and isinstance(rows, range) and not whole:
            norm = self._norms[source]
            self._norm_step(norm, operator, self._stream(norm.source).within(rows.start, rows.stop))
        elif found is not None and found.movable is not None:
            product = found.movable
            moved = replace(product, name=operator.name, source=taken(product.source, rows), rows=len(rows))
            self._sums[operator.name] = Sum(rows=len(rows), products=(moved,))
        elif source in self._norms or source in self._activations:
            self._activations[operator.name] = taken(self._activation(source), rows)
        else:
            self._streams[operator.name] = taken(self._stream(source), rows)

    def _some_channels(self, operator: Part) -> None:
        """Outputs of a product; channels of anything else go through a product that leaves them as they are."""
        found = self._sums.get(operator.source)
        product = None if found is None else found.lone
        grouped = product is not None and product.taps is not None and product.taps.groups > 1
        if product is None or product.matrix is None or product.swapped or grouped:
            product = self._unchanged(operator.source)
        assert product.matrix is not None
        first = product.matrix.start
        matrix = replace(product.matrix, start=first + operator.start, stop=first + operator.stop)
        self._sums[operator.name] = Sum(
            rows=product.rows, products=(replace(product, name=operator.name, matrix=matrix),)
        )

    def _transpose(self, operator: Transpose) -> None:
        """What a product makes, transposed; anything else goes through a product that leaves it as it is.

        A transposed product holds its source, which must be signed: what functions leave is not.
        """
        found = self._sums.get(operator.source)
        product = None if found is None else found.lone
        if product is None or not product.linear or self._positive(product.source):
            product = replace(self._unchanged(operator.source), source=self._signed(operator.source))
        assert product.matrix is not None
        rows = self._rows_of(operator.name)
        turned = replace(product, name=operator.name, swapped=not product.swapped, rows=rows)
        self._sums[operator.name] = Sum(rows=rows, products=(turned,))

    def _join(self, operator: Join) -> None:
        total = Sum(rows=0)
        for part in operator.parts:
            found = self._sum(part)
            if found.base is not None:
                found = Sum(rows=found.rows, products=(self._unchanged(part),))
            total = together(total, shifted(found, total.rows), total.rows + found.rows)
        self._sums[operator.name] = total

    def _join_channels(self, operator: Join) -> None:
        """Products, each at channels of its own."""
        products: list[PendingProduct] = []
        at = 0
        for part in operator.parts:
            product = self._factor(part)
            if product is None or not product.linear:
                product = self._unchanged(part)
            products.append(replace(product, at=at))
            at += self._channels_of(part)
        self._sums[operator.name] = Sum(rows=self._rows_of(operator.name), products=tuple(products))

    def _add(self, operator: Add) -> None:
        left, right = self._sum(operator.left), self._sum(operator.right)
        if left.base is not None and right.base is not None:
            right = Sum(rows=right.rows, products=(self._unchanged(operator.right),))
        if (left.base or right.base) is not None and left.constants + right.constants:
            # Constants only begin a stream, so that what exists is added to them.
            left, right = (self._again(one, name) for one, name in ((left, operator.left), (right, operator.right)))
        self._sums[operator.name] = together(left, right, left.rows)
        if left.base is not None or right.base is not None:
            self._stream(operator.name)

    def _again(self, found: Sum, name: str) -> Sum:
        """What exists as a product that leaves it as it is."""
        return found if found.base is None else Sum(rows=found.rows, products=(self._unchanged(name),))
