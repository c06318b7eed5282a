"""What travels inside the gate: scores, ranked experts, and entries of token queues."""

from __future__ import annotations

from amaranth.hdl import (
    signed,
    unsigned,
)
from amaranth.lib import data

from hw.config import AcceleratorConfig


def queue_append_layout(config: AcceleratorConfig) -> data.StructLayout:
    """A token that chose an expert, and its gate weight (unsigned, 16 fraction bits)."""
    return data.StructLayout({"expert": range(config.max_experts), "token": range(config.max_tokens), "weight": 16})


def queue_write_layout(config: AcceleratorConfig) -> data.StructLayout:
    """The same with its place in the queue: what is written, for tracing."""
    return data.StructLayout(
        {
            "expert": range(config.max_experts),
            "position": range(config.max_tokens),
            "token": range(config.max_tokens),
            "weight": 16,
        }
    )


def candidate_layout(config: AcceleratorConfig) -> data.StructLayout:
    """A score of one expert; ``first`` starts a new sequence."""
    return data.StructLayout(
        {"score": signed(config.numerics.score.width), "expert": range(config.max_experts), "first": 1}
    )


def ranking_layout(config: AcceleratorConfig) -> data.ArrayLayout:
    """Scores and experts, best first."""
    entry = data.StructLayout({"score": signed(config.numerics.score.width), "expert": range(config.max_experts)})
    return data.ArrayLayout(entry, config.max_top_k)


def gate_score_layout(config: AcceleratorConfig) -> data.StructLayout:
    """A token's score of one expert; ``buffer`` alternates from token to token."""
    return data.StructLayout(
        {"buffer": 1, "expert": range(config.max_experts), "score": signed(config.numerics.score.width)}
    )


def ranked_token_layout(config: AcceleratorConfig) -> data.StructLayout:
    """A token's best experts; its scores are in ``buffer``."""
    return data.StructLayout({"buffer": 1, "ranking": ranking_layout(config)})


def queue_entry_layout(config: AcceleratorConfig) -> data.StructLayout:
    """One entry of an expert's token queue."""
    return data.StructLayout({"token": range(config.max_tokens), "weight": 16})


def queue_address_layout(config: AcceleratorConfig) -> data.StructLayout:
    """Where an entry is."""
    return data.StructLayout({"position": range(config.max_tokens), "expert": range(config.max_experts)})


def queue_counts_layout(config: AcceleratorConfig) -> data.ArrayLayout:
    """Tokens on each expert's queue."""
    return data.ArrayLayout(unsigned(config.max_tokens.bit_length()), config.max_experts)
