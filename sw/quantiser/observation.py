"""Observation: what values the float model's tensors take on sample images, over all tasks."""

from __future__ import annotations

import copy
from collections import defaultdict
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tessera.common.arrays import Floats
from tessera.common.progress import Progress, silent
from tessera.golden.config import ModelConfig, layer_name
from tessera.golden.model import VisionTransformer
from tessera.golden.moe import ExpertMlp
from tessera.sw.quantiser.calibration import Magnitudes
from tessera.sw.quantiser.peaks import Peaks
from tessera.sw.quantiser.rounding import Moments

_BATCH = 8
_SAMPLES = 64  # normalised tokens kept a batch and norm, to choose channel shifts with
_DISBELIEF = 0.125  # tokens an input that say as much as the assumption that inputs are independent


class Observation:
    """Magnitudes, moments and samples by tensor name.

    A copy of the model computes in float64. Instruction sets differ in the last digits of a result, and in float32
    these digits decide some of the rounded weights.

    Parameters
    ----------
    model:
        The float model.
    images:
        (B, 3, H, W) bytes.
    on_progress:
        Called with the fraction done.
    histograms:
        Whether to count magnitudes, for rules that the largest does not suffice.

    Attributes
    ----------
    magnitudes:
        Of each channel: ``layerNN.norm1``, ``layerNN.norm2`` and ``norm`` before gain and offset;
        ``layerNN.q``; ``layerNN.k``, ``layerNN.v`` and ``layerNN.attention`` without what their biases contribute;
        of the whole tensor: ``layerNN.hidden`` and ``head.{task}``.
    samples:
        Some normalised tokens (n, D) for each norm.
    peaks:
        Largest values of what has a fixed binary point.

    Tensors with moments: the norms, ``layerNN.attention``, ``layerNN.hidden`` and ``layerNN.expert_hidden.E``.
    """

    def __init__(
        self,
        model: VisionTransformer,
        images: NDArray[np.uint8],
        on_progress: Progress = silent,
        *,
        histograms: bool = False,
    ) -> None:
        self.model = copy.deepcopy(model).double()
        self.magnitudes: dict[str, Magnitudes] = {}
        self._histograms = histograms
        self._sums: dict[str, tuple[Any, ...]] = {}  # number of rows, their sum, the sum of their products
        self._samples: defaultdict[str, list[Floats]] = defaultdict(list)
        self._offsets = bias_offsets(model)
        self.peaks = Peaks(self._offsets, model.config)
        generator = np.random.default_rng(len(images))
        for start in range(0, len(images), _BATCH):
            self._observe(torch.from_numpy(images[start : start + _BATCH]), generator)
            on_progress("observe", min(start + _BATCH, len(images)) / len(images), "")

    @property
    def samples(self) -> Mapping[str, Floats]:
        """Normalised tokens of each norm."""
        return {name: np.concatenate(parts) for name, parts in self._samples.items()}

    def moments(self, name: str) -> Moments | None:
        """Mean and covariance of a tensor with moments (see the class); None if no token ever came there."""
        if name not in self._sums:
            return None
        count, total, products = self._sums[name]
        mean = total.numpy() / count
        squares = products.numpy() / count
        covariance = squares - np.outer(mean, mean)
        # A difference that rounding alone explains, as with a single token, is none.
        size = np.sqrt(np.diag(squares))
        covariance[np.abs(covariance) <= 1e-12 * np.outer(size, size)] = 0.0
        # What few tokens say of how inputs vary together is not to be believed entirely.
        belief = count / (count + _DISBELIEF * len(mean))
        covariance = belief * covariance + (1 - belief) * np.diag(np.diag(covariance))
        return Moments(mean - self._offsets.get(name, 0.0), covariance)

    def _observe(self, images: Tensor, generator: np.random.Generator) -> None:
        config, capture = self.model.config, dict[str, Any]()
        with torch.no_grad():
            results = self.model.forward_tasks(images, range(len(config.tasks)), capture=capture)
        x = capture["residual.embed"]
        self.peaks.see("residual.embed", x)
        for layer in range(config.layers):
            name = layer_name(layer)
            self._norm(f"{name}.norm1", x, generator)
            self._norm(f"{name}.norm2", capture[f"{name}.residual_attention"], generator)
            for part in ("q", "k", "v", "attention"):
                values = capture[f"{name}.{part}"].double().numpy() - self._offsets.get(f"{name}.{part}", 0.0)
                self._magnitudes(f"{name}.{part}", values)
            self._moments(f"{name}.attention", capture[f"{name}.attention"])
            if f"{name}.hidden" in capture:
                self._hidden(f"{name}.hidden", f"{name}.hidden", capture[f"{name}.hidden"])
            else:
                for expert, values in capture[f"{name}.expert_hidden"].items():
                    self._hidden(f"{name}.hidden", f"{name}.expert_hidden.{expert}", values)
            self.peaks.see_layer(name, x, capture)
            x = capture[f"{name}.residual"]
        if config.final_norm:
            self._norm("norm", x[:, _read_by_heads(config)], generator)
        for task, result in zip(config.tasks, results, strict=True):
            if task.kind != "features":
                self._magnitudes(f"head.{task.name}", result.double().numpy().reshape(-1, 1))

    def _norm(self, name: str, x: Tensor, generator: np.random.Generator) -> None:
        rows = x.double().numpy().reshape(-1, x.shape[-1])
        centred = rows - rows.mean(axis=-1, keepdims=True)
        normal = centred / np.sqrt((centred * centred).mean(axis=-1, keepdims=True) + self.model.config.norm_epsilon)
        self._magnitudes(name, normal)
        self._moments(name, torch.from_numpy(normal))
        self._samples[name].append(normal[generator.choice(len(normal), min(_SAMPLES, len(normal)), replace=False)])

    def _hidden(self, name: str, source: str, values: Tensor) -> None:
        if values.numel():
            self._magnitudes(name, values.double().numpy().reshape(-1, 1))
            self._moments(source, values)

    def _moments(self, name: str, values: Tensor) -> None:
        rows = values.flatten(0, -2).double()
        sums = (len(rows), rows.sum(dim=0, dtype=torch.float64), rows.T @ rows)
        before = self._sums.get(name)
        self._sums[name] = sums if before is None else tuple(a + b for a, b in zip(before, sums, strict=True))

    def _magnitudes(self, name: str, values: Floats) -> None:
        if name not in self.magnitudes:
            self.magnitudes[name] = Magnitudes(values.shape[-1], histogram=self._histograms)
        self.magnitudes[name].add(values)


def bias_offsets(model: VisionTransformer) -> dict[str, Floats]:
    """What biases and the norm's offset add to keys, values and attention outputs of each layer: (D,) each.

    On keys it is the same for every key of a query, so softmax cancels it; on values, weights that sum to 1 pass it
    through unchanged, so that it can be moved behind attention.
    """
    offsets: dict[str, Floats] = {}
    block: Any
    for layer, block in enumerate(model.blocks):
        weight, bias = array(block.attn.qkv.weight), array(block.attn.qkv.bias)
        _, k, v = np.split(weight @ array(block.norm1.bias) + bias, 3)
        name = layer_name(layer)
        offsets |= {f"{name}.k": k, f"{name}.v": v, f"{name}.attention": v}
    return offsets


def array(tensor: Any) -> Floats:
    """A tensor as float64 (a module's attributes have no narrower static type)."""
    return tensor.detach().double().numpy()


def is_routed(mlp: torch.nn.Module) -> bool:
    """Whether a block's MLP is a mixture of experts."""
    return isinstance(mlp, ExpertMlp)


def _read_by_heads(config: ModelConfig) -> slice:
    """Tokens that any head reads, patches if there is none."""
    reads = [config.head_tokens(index) for index, task in enumerate(config.tasks) if task.kind != "features"]
    return slice(min((r.start for r in reads), default=1), max((r.stop for r in reads), default=config.tokens))
