"""How far values go whose format has a fixed binary point, as far as it matters that they saturate."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor

from tessera.golden.integer.parameters import Peak, PeakKind
from tessera.golden.integer.plan import Plan
from tessera.golden.integer.steps import AttentionStep, ExpertsStep, ProductStep, RowSelection, Step, StreamStep
from tessera.golden.network.compute import attention_scores
from tessera.sw.quantiser.capture import Capture
from tessera.sw.quantiser.folding import Folding


class Peaks:
    """The largest values of tensors over all calibration images.

    Parameters
    ----------
    folding:
        What the quantiser moves out of keys.
    plan:
        The network's steps.
    """

    def __init__(self, folding: Folding, plan: Plan) -> None:
        self._folding, self._plan = folding, plan
        self._largest: dict[tuple[PeakKind, str, str], float] = {}
        self._reach: dict[str, float] = {}

    @property
    def found(self) -> tuple[Peak, ...]:
        """What was seen, in the order of computation."""
        return tuple(
            Peak(kind=kind, place=place, tensor=tensor, largest=largest)
            for (kind, place, tensor), largest in self._largest.items()
        )

    def reach(self, step: AttentionStep) -> float:
        """Largest magnitude of an attention's scores without their bias, in natural logarithms."""
        return self._reach[step.name]

    def see_step(self, step: Step, capture: Capture) -> None:
        """Count what a step made."""
        match step:
            case ProductStep(factor=True):
                self._stream(step, capture, [])
                made = capture.product(step)
                self._function_input(step, [made if step.function is not None else made.abs()])
            case ProductStep(onto=onto) if onto is not None:
                self._stream(step, capture, [] if self._begins(onto) else [capture.product(step)])
            case ProductStep(function=function) if function is not None:
                self._function_input(step, [capture.product(step)])
            case AttentionStep():
                self._scores(step, capture)
            case ExpertsStep():
                self._stream(step, capture, capture.inside(step, "expert_output").values())
                self._rows("gate_scores", step, capture.inside(step, "gate_logits"))
                self._function_input(step, capture.inside(step, "expert_pre_gelu").values())

    def _begins(self, rows: RowSelection) -> bool:
        """Whether these are the constants that a stream begins with, which take over the product's bias."""
        return isinstance(self._plan.by_name[rows.tensor], StreamStep)

    def _stream(self, step: Step, capture: Capture, added: Iterable[Tensor]) -> None:
        """What is added saturates by itself before the sum does; sums on the way have no float tensor."""
        values = [*added, *([capture.tensor(step.name)] if step.name in capture else [])]
        self._keep("stream", step, max((float(one.abs().max()) for one in values if one.numel()), default=0.0))

    def _function_input(self, step: Step, values: Iterable[Tensor]) -> None:
        # An activation function of what lies below the format is 0 in any case.
        self._keep("function_input", step, max((float(one.max()) for one in values if one.numel()), default=0.0))

    def _scores(self, step: AttentionStep, capture: Capture) -> None:
        """Attention scores without what the keys' biases add: it is the same for all keys of a query."""
        query, key = (self._rows_of(rows, capture) for rows in (step.query, step.key))
        key = key - torch.from_numpy(np.zeros(key.shape[-1]) + self._folding.offset(step.key.tensor))
        batch = len(query) * step.windows
        query, key = (one.reshape(batch, -1, one.shape[-1]) for one in (query, key))
        scores = attention_scores(query, key, step.heads, step.scale)
        self._reach[step.name] = max(float(scores.abs().max()), self._reach.get(step.name, 0.0))
        if step.bias is not None:
            bias = torch.from_numpy(self._folding.value(step.bias))
            scores = scores + (bias if bias.ndim == 3 else bias.repeat(batch // step.windows, 1, 1, 1))
        self._rows("scores", step, scores)

    def _rows_of(self, rows: RowSelection, capture: Capture) -> Tensor:
        """Queries or keys."""
        return capture.of(self._plan.by_name[rows.tensor])[:, rows.rows]

    def _rows(self, kind: PeakKind, step: Step, values: Tensor) -> None:
        """Count the largest of each row, in octaves: softmax makes nothing of what is far below it."""
        self._keep(kind, step, float(values.max(dim=-1).values.abs().max()) * math.log2(math.e))

    def _keep(self, kind: PeakKind, step: Step, value: float) -> None:
        key = (kind, step.place, step.name)
        self._largest[key] = max(value, self._largest.get(key, 0.0))
