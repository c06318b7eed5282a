"""How far values go whose format has a fixed binary point, as far as it matters that they saturate."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tessera.common.arrays import Floats
from tessera.golden.config import ModelConfig


class Peaks:
    """The largest values of tensors over all calibration images.

    Parameters
    ----------
    offsets:
        What the quantiser moves out of keys, by tensor name: :func:`tessera.sw.quantiser.observation.bias_offsets`.
    config:
        Geometry of the model.

    Attributes
    ----------
    largest:
        By name, as :class:`tessera.golden.integer.parameters.QuantisedModel` has them.
    """

    def __init__(self, offsets: Mapping[str, Floats], config: ModelConfig) -> None:
        self._offsets, self._config = offsets, config
        self.largest: dict[str, NDArray[np.float64]] = {}

    def see(self, name: str, *values: Tensor) -> None:
        """Count the magnitudes of ``values``."""
        self._keep(name, max((float(value.abs().max()) for value in values if value.numel()), default=0.0))

    def see_layer(self, name: str, x: Tensor, capture: Mapping[str, Any]) -> None:
        """Count what a layer captured; ``x`` is the residual stream in front of it."""
        between, after = capture[f"{name}.residual_attention"], capture[f"{name}.residual"]
        self.see(f"{name}.residual_attention", between, between - x)
        self._scores(name, capture)
        if f"{name}.pre_gelu" in capture:
            # What is added saturates by itself before the sum does.
            self.see(f"{name}.residual", after, after - between)
            inputs = [capture[f"{name}.pre_gelu"]]
        else:
            self.see(f"{name}.residual", after, *capture[f"{name}.expert_output"].values())
            inputs = list(capture[f"{name}.expert_pre_gelu"].values())
            self._rows(f"{name}.gate_scores", capture[f"{name}.gate_logits"])
        # GELU of what lies below the format is 0 in any case.
        self._keep(f"{name}.gelu_input", max((float(part.max()) for part in inputs if part.numel()), default=0.0))

    def _scores(self, name: str, capture: Mapping[str, Any]) -> None:
        """Attention scores without what the keys' biases add: it is the same for all keys of a query."""
        config, query = self._config, capture[f"{name}.q"]
        heads = query.view(*query.shape[:2], config.heads, config.head_dim)
        offset = torch.from_numpy(self._offsets[f"{name}.k"]).view(config.heads, config.head_dim)
        common = torch.einsum("bnhd,hd->bhn", heads, offset) / math.sqrt(config.head_dim)
        self._rows(f"{name}.scores", capture[f"{name}.scores"] - common[..., None])

    def _rows(self, name: str, values: Tensor) -> None:
        """Count the largest of each row, in octaves: softmax makes nothing of what is far below it."""
        self._keep(name, float(values.max(dim=-1).values.abs().max()) * math.log2(math.e))

    def _keep(self, name: str, value: float) -> None:
        self.largest[name] = np.asarray(max(value, float(self.largest.get(name, 0.0))))
