"""A mixture of experts for networks of one's own: a module that torch.export keeps as one operator.

Routing depends on the picture, so that torch.export cannot see through it. What it needs of the operator is its name
and the shape of its result.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from tessera.golden.moe import mix, route


@torch.library.custom_op("tessera::mix_experts", mutates_args=())
def mix_experts(
    x: Tensor,
    gate: Tensor,
    embedding: Tensor | None,
    first_weight: Tensor,
    first_bias: Tensor,
    second_weight: Tensor,
    second_bias: Tensor,
    top_k: int,
) -> Tensor:
    """Rows (..., N, D) through the experts that the gate (D + embedding, experts) chooses, with exact GELU between."""
    told = x
    if embedding is not None:
        told = torch.cat([x, embedding.expand(*x.shape[:-1], -1)], dim=-1)
    indices, weights, _ = route(told @ gate, top_k)
    layers = [first_weight, first_bias, second_weight, second_bias]
    return mix(x, indices, weights, layers, nn.functional.gelu, {})


@mix_experts.register_fake
def _shape(x: Tensor, *arguments: object) -> Tensor:
    return torch.empty_like(x)


MIX_EXPERTS = torch.ops.tessera.mix_experts.default
"""The operator, as the graph of an exported module holds it."""


class MixtureOfExperts(nn.Module):
    """Mixture-of-experts MLP with a gate for each task (M3ViT, NeurIPS 2022), for networks of one's own.

    Parameters
    ----------
    dim:
        Channels of a token.
    hidden:
        Hidden channels of an expert.
    experts, top_k:
        Experts, and how many of them a token goes through.
    tasks:
        Number of tasks.
    task_embedding:
        Length of what is appended to every token before one gate for all tasks; 0 for a gate of each task.
    """

    def __init__(
        self, dim: int, hidden: int, experts: int, top_k: int = 2, *, tasks: int = 1, task_embedding: int = 0
    ) -> None:
        super().__init__()
        self.top_k = top_k
        gates = 1 if task_embedding else tasks
        self.gates = nn.Parameter(torch.randn(gates, dim + task_embedding, experts) / math.sqrt(dim))
        self.embeddings = nn.Parameter(torch.randn(tasks, task_embedding)) if task_embedding else None
        self.first_weight = nn.Parameter(torch.randn(experts, hidden, dim) / math.sqrt(dim))
        self.first_bias = nn.Parameter(torch.zeros(experts, hidden))
        self.second_weight = nn.Parameter(torch.randn(experts, dim, hidden) / math.sqrt(hidden))
        self.second_bias = nn.Parameter(torch.zeros(experts, dim))

    def forward(self, x: Tensor, task: int = 0) -> Tensor:
        """(B, N, D) to (B, N, D) under a task."""
        conditioned = self.embeddings is not None
        return mix_experts(
            x,
            self.gates[0 if conditioned else task],
            self.embeddings[task] if self.embeddings is not None else None,
            self.first_weight,
            self.first_bias,
            self.second_weight,
            self.second_bias,
            self.top_k,
        )
