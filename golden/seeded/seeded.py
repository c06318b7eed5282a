"""Models with seeded weights whose statistics are those of trained vision transformers: made in seconds, not trained.

Layer by layer, weights are drawn and then scaled on the tokens of a few procedural scenes, so that what matters to
number formats comes out as in trained ViTs: some channels of the residual stream are heavy and grow with it, norms have
outliers among their gains, attention has rows with structure, weights have tails, biases are not zero, and gates route
as :mod:`tessera.golden.seeded.gates` makes them. Nothing about such a model's predictions means anything.

Equal seeds must give equal weights, although a matrix product may round differently from call to call: everything is
computed in float64, and what is measured on tokens is rounded (:func:`_settled`) before it goes into a weight.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as functional
from torch import Tensor

from tessera.common.arrays import Floats
from tessera.common.progress import Progress, silent
from tessera.golden.config import ModelConfig
from tessera.golden.model import VisionTransformer
from tessera.golden.moe import ExpertMlp
from tessera.golden.scenes.scenes import generate_batch
from tessera.golden.seeded import gates

SCENES = range(3_000_000, 3_000_020)
"""Scenes that weights are scaled on; neither calibrated with nor shown."""


@dataclass(frozen=True, kw_only=True)
class Statistics:
    """What the weights are to look like.

    Parameters
    ----------
    heavy_channels, heavy_energy:
        Channels of the residual stream that hold this share of its energy, at the end.
    stream, growth:
        Deviation of the other channels over tokens after the embedding; what each half of a block adds, relative to it.
    gain_outliers:
        Share of a norm's gains that are 3 to 8 times the rest; one of them is a heavy channel's.
    tail:
        Degrees of freedom of Student's t distribution that weights are drawn from; small is heavy.
    rows, columns:
        Deviation of the logarithm of the size of a matrix's rows and columns.
    scores:
        Typical deviation of a head's scores (natural logarithms) over keys.
    expert_share:
        What a mixture of experts adds to the stream, relative to a dense MLP.
    """

    heavy_channels: int = 3
    heavy_energy: float = 0.5
    stream: float = 0.6
    growth: float = 0.2
    gain_outliers: float = 0.02
    tail: float = 6.0
    rows: float = 0.3
    columns: float = 0.2
    scores: float = 1.4
    expert_share: float = 0.55


def seeded_model(
    config: ModelConfig,
    seed: int = 0,
    routing: str = "balanced",
    *,
    statistics: Statistics | None = None,
    on_progress: Progress = silent,
) -> VisionTransformer:
    """Make a model of a geometry; equal arguments give equal weights on equal software.

    Parameters
    ----------
    config:
        Geometry, with a multi-gate router if it has experts.
    seed:
        Of all random numbers.
    routing:
        Loads that the gates give, one of :data:`tessera.golden.seeded.gates.ROUTINGS`.
    statistics:
        Of the weights; by default like a trained model's.
    on_progress:
        Callback for the stage ``layers``.
    """
    if config.expert_layers and config.router != "multi_gate":
        raise ValueError(f"model '{config.name}' has one gate for all tasks; seeded gates need router 'multi_gate'")
    with torch.no_grad():
        maker = _Maker(config, seed, routing, statistics or Statistics())
        maker.embed()
        for layer in range(config.layers):
            maker.block(layer)
            on_progress("layers", (layer + 1) / config.layers, "")
        maker.heads()
    return maker.model.float()


def _settled(measured: Any) -> Floats:
    """``measured``, rounded to 12 binary digits, so that differences in the last digits of float64 leave no trace."""
    mantissa, exponent = np.frexp(np.asarray(measured, np.float64))
    return np.ldexp(np.rint(mantissa * 4096) / 4096, exponent)


class _Maker:
    """Sets the parameters of one model in the order of computation, and carries the streams of all tasks along."""

    def __init__(self, config: ModelConfig, seed: int, routing: str, statistics: Statistics) -> None:
        self.config, self.routing, self.statistics = config, routing, statistics
        self.generator = np.random.default_rng(seed)
        self.model = VisionTransformer(config).double().eval()  # training would add noise to gates
        self.heavy = self.generator.choice(config.dim, statistics.heavy_channels, replace=False)
        self.sign = self.generator.choice([-1.0, 1.0], statistics.heavy_channels)
        self.light = np.setdiff1d(np.arange(config.dim), self.heavy)
        self.streams: list[Tensor] = []  # one, or one a task from the first gate on: (pictures, N, D)

    def embed(self) -> None:
        """Filters that answer to smooth contrasts, positions on a smooth map, and the heavy channels' offsets."""
        config, generator, model = self.config, self.generator, self.model
        images = generate_batch(SCENES, height=config.image_height, width=config.image_width).image
        pixels = torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2)))
        frequency = np.add.outer(np.abs(np.fft.fftfreq(config.patch)), np.fft.rfftfreq(config.patch)) * config.patch
        noise = self.draw(config.dim, config.patch_inputs).reshape(config.dim, 3, config.patch, config.patch)
        filters = np.fft.irfft2(np.fft.rfft2(noise) / (1.0 + frequency), s=(config.patch,) * 2)
        filters -= 0.9 * filters.mean(axis=(1, 2, 3), keepdims=True)  # trained filters answer to contrast first
        filters[self.heavy] *= 0.1
        rows, columns = np.meshgrid(*(np.arange(n) / n for n in config.grid), indexing="ij")
        waves = [
            np.cos(math.pi * (rows * down + columns * across) + generator.uniform(0, 2 * math.pi)).ravel()
            / (1.0 + 0.5 * (down + abs(across)))
            for down in range(5)
            for across in range(-4, 5)
        ]
        positions = np.stack(waves, axis=1) @ generator.normal(size=(len(waves), config.dim))
        half, most = self.statistics.stream * math.sqrt(0.35), self.statistics.stream * math.sqrt(0.65)
        positions *= most / positions.std()
        positions = np.concatenate([generator.normal(0, self.statistics.stream, (1, config.dim)), positions])
        positions += generator.normal(0, 0.2 * half, config.dim)
        positions[:, self.heavy] = self.sign * self._level(self.statistics.stream) + 0.2 * positions[:, self.heavy]
        self.put(model.pos_embed, positions)
        self.put(model.cls_token, generator.normal(0, 0.02, config.dim))
        self.put(model.patch_embed.proj.weight, filters)
        self.put(model.patch_embed.proj.bias, generator.normal(0, 0.05, config.dim))
        patches = model.embed(pixels)[:, 1:] - model.pos_embed[:, 1:]
        filters *= half / _settled(patches[..., self.light].std(dim=(0, 1)).mean())
        self.put(model.patch_embed.proj.weight, filters)
        self.streams = [model.embed(pixels)]

    def _level(self, deviation: float) -> float:
        """What a heavy channel must measure for all of them to hold their share of the energy."""
        share, few = self.statistics.heavy_energy, max(1, self.statistics.heavy_channels)
        return deviation * math.sqrt(share / (1 - share) * len(self.light) / few)

    def block(self, layer: int) -> None:
        """One block: the parameters of each half, and the streams after it."""
        block: Any = self.model.blocks[layer]
        self.norm(block.norm1)
        self.attention(block)
        self.streams = [block.attend(x) for x in self.streams]
        self.norm(block.norm2)
        if isinstance(block.mlp, ExpertMlp):
            self.experts(block, layer)
        else:
            tokens = block.norm2(self.streams[0]).flatten(0, 1)[::3]
            self.first(block.mlp.fc1.weight, block.mlp.fc1.bias, tokens)
            hidden = functional.gelu(block.mlp.fc1(tokens))
            self.second(block.mlp.fc2.weight, block.mlp.fc2.bias, hidden)
            self.streams = [block.transform(x, [0], None) for x in self.streams]

    def norm(self, norm: Any) -> None:
        """Gains around 1 with outliers, small offsets with some larger ones."""
        dim, generator = self.config.dim, self.generator
        gain = np.exp(generator.normal(-0.1, 0.2, dim))
        chosen = generator.choice(dim, max(1, round(self.statistics.gain_outliers * dim)), replace=False)
        chosen[:1] = generator.choice(self.heavy)  # so that the norm's outputs reach far beyond its deviation
        gain[chosen] *= generator.uniform(3.0, 8.0, len(chosen))
        offset = generator.normal(0, 0.1, dim)
        offset[generator.choice(dim, max(1, dim // 48), replace=False)] *= 8.0
        self.put(norm.weight, gain)
        self.put(norm.bias, offset)

    def attention(self, block: Any) -> None:
        """Queries and keys that share directions, so that similar tokens attend to each other; values; projection."""
        config, generator, x = self.config, self.generator, self.streams[0]
        tokens = block.norm1(x)
        common = self.draw(config.dim, config.dim)
        weight = np.concatenate([common, common, self.draw(config.dim, config.dim)])
        weight[: 2 * config.dim] += 0.7 * self.draw(2 * config.dim, config.dim)
        weight *= 0.6 / _settled((tokens @ torch.from_numpy(weight).T).std())
        bias = generator.normal(0, 0.3, 3 * config.dim)
        self.put(block.attn.qkv.weight, weight)
        self.put(block.attn.qkv.bias, bias)
        q, k, _ = (
            part.unflatten(-1, (config.heads, -1)).transpose(1, 2) for part in block.attn.qkv(tokens).chunk(3, -1)
        )
        got = (q @ k.transpose(-2, -1) / math.sqrt(config.head_dim)).std(dim=-1).mean(dim=(0, 2)).numpy()
        wanted = self.statistics.scores * np.exp(generator.normal(0, 0.3, config.heads))
        factor = np.repeat(np.sqrt(wanted / _settled(got)), config.head_dim)
        factors = np.concatenate([factor, factor, np.ones(config.dim)])
        # Key biases cancel in softmax, so nothing holds them back in training: some are huge.
        huge = config.dim + generator.choice(config.dim, max(1, config.dim // 64), replace=False)
        bias *= factors
        bias[huge] = generator.normal(0, 20, len(huge))
        self.put(block.attn.qkv.weight, weight * factors[:, None])
        self.put(block.attn.qkv.bias, bias)
        capture: dict[str, Any] = {}
        block.attn(tokens, capture, "layer")
        self.second(block.attn.proj.weight, block.attn.proj.bias, capture["layer.attention"].flatten(0, 1))

    def first(self, weight: Tensor, bias: Tensor, tokens: Tensor) -> None:
        """The first matrix of an MLP: most hidden values lie below zero, some units reach far."""
        drawn, deviation = self.draw(*weight.shape), np.exp(self.generator.normal(0, 0.35, len(weight)))
        y = tokens @ torch.from_numpy(drawn).T
        drawn *= (deviation / _settled(y.std(dim=0)))[:, None]
        self.put(weight, drawn)
        level = self.generator.normal(-0.6, 0.5, len(weight)) * deviation
        self.put(bias, level - _settled((tokens @ weight.T).mean(dim=0)))

    def second(self, weight: Tensor, bias: Tensor, inputs: Tensor, share: float = 1.0) -> None:
        """A matrix that adds to the stream what the wanted growth takes; its bias keeps the heavy channels heavy.

        ``share`` is how much of the wanted deviation these inputs are to give.
        """
        x, drawn = torch.cat(self.streams), self.draw(*weight.shape)
        deviation = float(_settled(x[..., self.light].std(dim=(0, 1)).square().mean().sqrt()))
        size = float(_settled(x[..., self.light].square().mean().sqrt()))
        added = self.statistics.growth * deviation
        y = inputs @ torch.from_numpy(drawn).T
        self.put(weight, drawn * added * share / _settled(y[..., self.light].std(dim=0).square().mean().sqrt()))
        offset = self.generator.normal(0, 0.2 * added, self.config.dim)
        goal = self.sign * self._level(math.hypot(size, added))
        offset[self.heavy] = goal - _settled(x.mean(dim=(0, 1)))[self.heavy]
        self.put(bias, offset * share - _settled((inputs @ weight.T).mean(dim=0)))

    def experts(self, block: Any, layer: int) -> None:
        """Gates with the wanted loads, and experts whose weighted sum adds what a dense MLP would."""
        config, generator, mlp = self.config, self.generator, block.mlp
        if len(self.streams) < len(config.tasks):
            self.streams = self.streams * len(config.tasks)
        streams = [block.norm2(x) for x in self.streams]
        position, kept = config.expert_layers.index(layer), []
        for task, x in enumerate(streams):
            shares = gates.loads(
                self.routing, experts=config.experts, top_k=config.top_k,
                depth=position / len(config.expert_layers), task=task, generator=generator,
            )  # fmt: skip
            matrix, chosen = gates.make_gate(x.numpy(), shares, config.top_k, generator)
            self.put(mlp.gate[task].w_gate, _settled(matrix))
            kept.append(_settled(np.square(chosen).sum(axis=-1).mean()))
        # A weighted sum of independent outputs deviates by the root of the sum of squared weights.
        share = self.statistics.expert_share / math.sqrt(float(np.mean(kept)))
        tokens = torch.cat([x.flatten(0, 1) for x in streams])[::17]
        first, second = mlp.experts.htoh4, mlp.experts.h4toh
        for expert in range(config.experts):
            self.first(first.weight[expert], first.bias[expert], tokens)
            hidden = functional.gelu(functional.linear(tokens, first.weight[expert], first.bias[expert]))
            self.second(second.weight[expert], second.bias[expert], hidden, share)
        self.streams = [block.transform(x, [task], None) for task, x in enumerate(self.streams)]

    def heads(self) -> None:
        """Final norm and heads, where there are any."""
        if self.config.final_norm:
            self.norm(self.model.norm)
        for head in self.model.heads.values():
            weight: Any = head.weight
            self.put(weight, self.draw(*weight.shape) / math.sqrt(self.config.dim))

    def draw(self, outputs: int, inputs: int) -> Floats:
        """Weights with tails, unequal rows and unequal columns, of deviation about 1."""
        statistics, generator = self.statistics, self.generator
        values = generator.standard_t(statistics.tail, (outputs, inputs)) / math.sqrt(
            statistics.tail / (statistics.tail - 2)
        )
        values *= np.exp(generator.normal(0, statistics.rows, (outputs, 1)))
        return values * np.exp(generator.normal(0, statistics.columns, inputs))

    @staticmethod
    def put(parameter: Any, values: Floats) -> None:
        """Set a parameter."""
        parameter.copy_(torch.from_numpy(np.asarray(values, np.float64)).reshape(parameter.shape))
