"""Where the tokens of a network lie in the picture, for those networks whose tokens are its patches."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tessera.golden.integer.plan import Plan
from tessera.golden.integer.steps import AttentionStep, NormStep, PatchStep, ProductStep


@dataclass(frozen=True, kw_only=True)
class TokenGrid:
    """Tokens as patches of the picture.

    Parameters
    ----------
    rows, columns:
        Patches down and across.
    prefix:
        Tokens before those of the patches, such as a class token.
    patch:
        Edge of a patch in pixels.
    """

    rows: int
    columns: int
    prefix: int
    patch: int

    @property
    def shape(self) -> tuple[int, int]:
        """Patches down and across."""
        return self.rows, self.columns

    @property
    def patches(self) -> int:
        """All patches."""
        return self.rows * self.columns

    @property
    def tokens(self) -> int:
        """All tokens."""
        return self.prefix + self.patches

    def arranged(self, values: np.ndarray) -> np.ndarray:
        """Values by token (tokens, ...) as (rows, columns, ...) of patches."""
        return values[self.prefix :].reshape(*self.shape, *values.shape[1:])


def token_grid(plan: Plan) -> TokenGrid | None:
    """The grid of all tokens; None where attention is not from every patch to every patch in all layers."""
    patches, attentions = plan.of_kind(PatchStep), plan.of_kind(AttentionStep)
    counts = {len(rows) for step in attentions for rows in step.reads}
    if len(patches) != 1 or len(counts) != 1:
        return None
    (rows, columns), patch = patches[0].grid, patches[0].patch
    for step in plan.of_kind(ProductStep):
        if step.source.tensor == patches[0].name and step.taps is not None:  # patches of several blocks of pixels
            (rows, columns), patch = step.taps.made, patch * step.taps.stride[0]
    prefix = counts.pop() - rows * columns
    if prefix < 0:
        return None
    return TokenGrid(rows=rows, columns=columns, prefix=prefix, patch=patch)


def read_tokens(plan: Plan, task: int) -> slice:
    """Rows of the residual stream that a task's result is made of: those that the norm before its head reads."""
    result = plan.results[task]
    step = plan.by_name[result.tensor]
    while isinstance(step, (ProductStep, NormStep)):
        if isinstance(step, ProductStep) and step.onto is not None:
            break
        result, step = step.source, plan.by_name[step.source.tensor]
    return result.rows
