"""Mixture-of-experts MLP of the float model: gate, top-k routing, experts, balance loss (M3ViT, NeurIPS 2022)."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as functional
from torch import Tensor, nn

from tessera.golden.config import ModelConfig


class RouterGate(nn.Module):
    """The matrix of one router; kept a module so that parameters are called ``gate.{t}.w_gate`` as in M3ViT."""

    def __init__(self, inputs: int, experts: int) -> None:
        super().__init__()
        self.w_gate = nn.Parameter(torch.randn(inputs, experts) / math.sqrt(inputs))

    def forward(self, x: Tensor) -> Tensor:
        """(..., inputs) to logits (..., experts)."""
        return x @ self.w_gate


class ExpertLinear(nn.Module):
    """One linear layer of every expert: weight (experts, outputs, inputs), bias (experts, outputs)."""

    def __init__(self, experts: int, inputs: int, outputs: int) -> None:
        super().__init__()
        bound = math.sqrt(6 / (inputs + outputs))
        self.weight = nn.Parameter(torch.empty(experts, outputs, inputs).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.zeros(experts, outputs))


class Experts(nn.Module):
    """The experts' two layers, ``htoh4`` (D to hidden) and ``h4toh`` (hidden to D)."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.htoh4 = ExpertLinear(config.experts, config.dim, config.expert_hidden)
        self.h4toh = ExpertLinear(config.experts, config.expert_hidden, config.dim)


def route(logits: Tensor, top_k: int) -> tuple[Tensor, Tensor, Tensor]:
    """Choose the experts of each token.

    The weights are the ``top_k`` largest probabilities of a softmax over all experts, not normalised again; equal
    logits go to the lower expert index.

    Returns
    -------
    tuple
        Expert indices (..., top_k), their weights (..., top_k), all probabilities (..., experts).
    """
    probabilities = torch.softmax(logits, dim=-1)
    indices = torch.sort(logits, dim=-1, descending=True, stable=True).indices[..., :top_k]
    return indices, probabilities.gather(-1, indices), probabilities


def balance_loss(indices: Tensor, probabilities: Tensor) -> Tensor:
    """Load-balancing loss of one routed batch: experts * sum(share of tokens * mean probability); 1 when even.

    The product form of the Switch Transformer (Fedus et al., 2022), which needs no estimate of the load's gradient.
    """
    experts = probabilities.shape[-1]
    load = torch.bincount(indices.flatten(), minlength=experts).to(probabilities.dtype) / indices.numel()
    return experts * (load * probabilities.reshape(-1, experts).mean(dim=0)).sum()


class ExpertMlp(nn.Module):
    """Mixture-of-experts MLP: y = sum over the chosen experts of g_e * (W2 gelu(W1 x + b1) + b2).

    In training mode Gaussian noise of deviation ``noise`` is added to the gate logits and the balance loss of the last
    call is left in ``balance``; neither exists at inference.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.noise = 1.0 / config.experts
        self.balance = torch.zeros(())
        self.experts = Experts(config)
        if config.router == "multi_gate":
            self.gate: nn.Module = nn.ModuleList(RouterGate(config.dim, config.experts) for _ in config.tasks)
        else:
            self.gate = RouterGate(config.dim + config.task_embedding, config.experts)

    def gate_logits(self, x: Tensor, task: int, embedding: Tensor | None) -> Tensor:
        """Logits (..., experts) of tokens ``x`` (..., D) under one task's route."""
        if isinstance(self.gate, nn.ModuleList):
            return self.gate[task](x)
        assert embedding is not None, "the task-conditioned router needs the model's task_embedding"
        return self.gate(torch.cat([x, embedding[task].expand(*x.shape[:-1], -1)], dim=-1))

    def forward(
        self,
        x: Tensor,
        tasks: Sequence[int],
        embedding: Tensor | None = None,
        capture: dict[str, Any] | None = None,
        prefix: str = "",
    ) -> Tensor:
        """(B, N, D) to (B, N, D); the batch is divided evenly among ``tasks``, in order."""
        parts = x.chunk(len(tasks))
        logits = torch.cat([self.gate_logits(part, t, embedding) for part, t in zip(parts, tasks, strict=True)])
        if self.training:
            logits = logits + self.noise * torch.randn_like(logits)
        indices, weights, probabilities = route(logits, self.config.top_k)
        if self.training:
            shares = zip(indices.chunk(len(tasks)), probabilities.chunk(len(tasks)), strict=True)
            self.balance = torch.stack([balance_loss(*share) for share in shares]).mean()
        found: dict[str, Any] = {
            "gate_logits": logits,
            "gate_probabilities": probabilities,
            "expert_indices": indices,
            "expert_weights": weights,
        }
        first, second = self.experts.htoh4, self.experts.h4toh
        layers = [first.weight, first.bias, second.weight, second.bias]
        total = mix(x, indices, weights, layers, functional.gelu, found)
        if capture is not None:
            capture |= {f"{prefix}.{name}": value for name, value in found.items()}
        return total


def mix(
    x: Tensor,
    indices: Tensor,
    weights: Tensor,
    layers: Sequence[Tensor],
    function: Callable[[Tensor], Tensor],
    found: dict[str, Any],
) -> Tensor:
    """The experts' outputs, weighted and summed: expert by expert over its whole queue, as the accelerator does.

    Parameters
    ----------
    x:
        (..., N, D) rows.
    indices, weights:
        (..., N, k) chosen experts and their weights.
    layers:
        Weight and bias of the experts' first and second layer, stacked by expert.
    function:
        Activation between the layers.
    found:
        Is filled, as dictionaries by expert, with ``expert_rows`` (flat row numbers), ``expert_pre_gelu``,
        ``expert_hidden`` and ``expert_output`` (before its weight).
    """
    flat = x.reshape(-1, x.shape[-1])
    choices, chosen = indices.flatten(), weights.flatten()
    order = torch.argsort(choices, stable=True)
    queues = order.split(torch.bincount(choices, minlength=len(layers[0])).tolist())
    total = torch.zeros_like(flat)
    for name in ("expert_rows", "expert_pre_gelu", "expert_hidden", "expert_output"):
        found[name] = {}
    for expert, queue in enumerate(queues):
        first_weight, first_bias, second_weight, second_bias = (layer[expert] for layer in layers)
        rows = torch.div(queue, indices.shape[-1], rounding_mode="floor")
        pre_gelu = functional.linear(flat.index_select(0, rows), first_weight, first_bias)
        hidden = function(pre_gelu)
        output = functional.linear(hidden, second_weight, second_bias)
        y = output * chosen.index_select(0, queue).unsqueeze(1)
        total = total.index_add(0, rows, y.to(total.dtype))  # narrower in mixed precision
        found["expert_rows"][expert] = rows
        found["expert_pre_gelu"][expert] = pre_gelu
        found["expert_hidden"][expert] = hidden
        found["expert_output"][expert] = output
    return total.view_as(x)
