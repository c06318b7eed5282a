"""What the float model computed, as the steps make it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from tessera.golden.integer.plan import Plan
from tessera.golden.integer.steps import MatrixKind, NormStep, PatchStep, ProductStep, RowSelection, Step


class Capture:
    """Tensors of the float model by the steps that make them, each (B, rows, channels).

    Parameters
    ----------
    captured:
        What :meth:`tessera.golden.network.compute.FloatNetwork.run` captured.
    plan:
        The steps.
    """

    def __init__(self, captured: Mapping[str, Any], plan: Plan) -> None:
        self._captured, self._plan = captured, plan

    def __contains__(self, name: str) -> bool:
        return name in self._captured

    def tensor(self, name: str) -> Tensor:
        """A tensor as a matrix."""
        if name not in self._captured:
            return self.of(self._plan.by_name[name])
        return self._captured[name].flatten(1, -2)

    def of(self, step: Step) -> Tensor:
        """What a step makes; of one that no operator is called after, what its product makes alone."""
        if step.name in self._captured:
            return self.tensor(step.name)
        if isinstance(step, PatchStep):
            return step.cut(self._captured[step.picture])
        if isinstance(step, NormStep) and step.weight is None:  # a copy
            return self.rows(step.source).clamp(min=0) if step.rectified else self.rows(step.source)
        assert isinstance(step, ProductStep), f"the float model has no {step.name}"
        if step.matrix.kind is MatrixKind.DIAGONAL:  # of the picture in blocks
            made = self._plan.by_name[step.source.tensor]
            assert isinstance(made, PatchStep)
            return made.cut(self._captured[step.product])
        if step.matrix.kind is MatrixKind.ZERO:
            batch = len(next(iter(self._captured.values())))
            return torch.zeros(batch, step.rows, step.channels, dtype=torch.float64)
        return self.tensor(step.product)

    def product(self, step: ProductStep) -> Tensor:
        """What a product makes before anything is done with it."""
        return self.tensor(step.product)

    def rows(self, rows: RowSelection) -> Tensor:
        """Rows of a tensor."""
        values = self.tensor(rows.tensor)
        values = values if rows.listed is None else values[:, list(rows.listed)]
        return values[:, rows.start : rows.stop].reshape(len(values), len(rows), -1)

    def inside(self, step: Step, part: str) -> Any:
        """What an operator found on the way, such as the experts that a mixture chose."""
        return self._captured[step.inner(part)]
