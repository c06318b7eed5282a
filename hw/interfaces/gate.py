"""What travels inside the gate: scores, ranked experts, and entries of token queues."""

from __future__ import annotations

from amaranth.hdl import signed, unsigned
from amaranth.lib import data

from tessera.hw.config import AcceleratorConfig
from tessera.hw.interfaces.memory import TableRead
from tessera.hw.isa import ADDRESS_WIDTH


def candidate_layout(config: AcceleratorConfig) -> data.StructLayout:
    """A token's score of one expert, on its way to the ranking."""
    return data.StructLayout(
        {
            "score": signed(config.numerics.score.width),  # logit in octaves, 10 fraction bits
            "expert": range(config.max_experts),  # number of the expert
            "first": 1,  # the token's first score: a new ranking begins
        }
    )


def ranking_layout(config: AcceleratorConfig) -> data.ArrayLayout:
    """A token's best experts, best first."""
    entry = data.StructLayout(
        {
            "score": signed(config.numerics.score.width),  # logit in octaves, 10 fraction bits
            "expert": range(config.max_experts),  # number of the expert
        }
    )
    return data.ArrayLayout(entry, config.max_top_k)


def gate_score_layout(config: AcceleratorConfig) -> data.StructLayout:
    """A token's score of one expert, to be kept until the token is weighed."""
    return data.StructLayout(
        {
            "buffer": 1,  # half of the memory of scores; alternates from token to token
            "expert": range(config.max_experts),  # number of the expert
            "score": signed(config.numerics.score.width),  # logit in octaves, 10 fraction bits
        }
    )


def ranked_token_layout(config: AcceleratorConfig) -> data.StructLayout:
    """A token all of whose scores are known."""
    return data.StructLayout(
        {
            "buffer": 1,  # half of the memory with its scores
            "ranking": ranking_layout(config),  # its best experts
        }
    )


def list_write_layout(config: AcceleratorConfig) -> data.StructLayout:
    """An entry of a list of rows, which lies where token queues do."""
    return data.StructLayout(
        {
            "address": range(config.list_entries),  # number of the entry
            "row": ADDRESS_WIDTH,  # the row that it names
        }
    )


def queue_address_layout(config: AcceleratorConfig) -> data.StructLayout:
    """Place of an entry in the token queues; as a number, that of the entry in all queues."""
    return data.StructLayout(
        {
            "position": range(config.max_tokens),  # number of the entry in its queue
            "expert": range(config.max_experts),  # expert whose queue it is
        }
    )


def queue_entry_layout(config: AcceleratorConfig) -> data.StructLayout:
    """One entry of an expert's token queue; of a list, the row lies in the low ``ADDRESS_WIDTH`` bits."""
    return data.StructLayout(
        {
            "token": range(config.max_tokens),  # number of a token that chose the expert
            "weight": config.numerics.gate_weight.width,  # its gate weight, unsigned, all bits fraction bits
        }
    )


def queue_read(config: AcceleratorConfig) -> TableRead:
    """Read port of the token queues."""
    return TableRead(queue_address_layout(config), queue_entry_layout(config))


def queue_append_layout(config: AcceleratorConfig) -> data.StructLayout:
    """An entry to append to a queue."""
    return data.StructLayout(
        {
            "expert": range(config.max_experts),  # expert whose queue it is
            "entry": queue_entry_layout(config),  # token and gate weight
        }
    )


def queue_write_layout(config: AcceleratorConfig) -> data.StructLayout:
    """An entry and its place, as it is written. Traces have these fields."""
    return data.StructLayout(
        {
            "expert": range(config.max_experts),  # expert whose queue it is
            "position": range(config.max_tokens),  # number of the entry in its queue
            "token": range(config.max_tokens),  # number of the token
            "weight": config.numerics.gate_weight.width,  # its gate weight, unsigned, all bits fraction bits
        }
    )


def queue_counts_layout(config: AcceleratorConfig) -> data.ArrayLayout:
    """Number of tokens in each expert's queue."""
    return data.ArrayLayout(unsigned(config.max_tokens.bit_length()), config.max_experts)
