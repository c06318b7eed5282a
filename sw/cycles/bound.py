"""Bounds that measured cycles are compared with: beats of the array, tails padded, and bytes of the weight stream."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from tessera.hw.config import AcceleratorConfig
from tessera.program.program import Program


class Workload(NamedTuple):
    """Useful multiply-accumulates of a command, and beats of the array that it takes at least."""

    macs: int = 0
    ideal_cycles: int = 0


def _ceil(value: int, unit: int) -> int:
    return -(-value // unit)


def linear(
    config: AcceleratorConfig, *, macs: int, steps: int, stationary_rows: int, words: int, windows: int = 1
) -> Workload:
    """A matrix product: every tile of P stationary rows meets every broadcast row, a word a cycle.

    For a convolution ``steps`` are output positions, and ``words`` those of all taps of a group. With swapped roles
    the ``stationary_rows`` are those of each window.
    """
    return Workload(macs, windows * _ceil(stationary_rows, config.elements) * steps * words)


def attention(
    config: AcceleratorConfig,
    *,
    queries: int,
    keys: int,
    heads: int,
    head_dim: int,
    value_dim: int,
    windows: int = 1,
    bias_words: int = 0,
) -> Workload:
    """Scores and their use: for each head and tile of P queries all keys, then all channels of V transposed.

    ``head_dim`` is the number of channels that a head has of Q and K, ``value_dim`` that of V. Queries and keys are
    those of each window. Words of bias take beats, but do no useful work.
    """
    heads *= windows
    head_words, value_words = _ceil(head_dim, config.lanes), _ceil(value_dim, config.lanes)
    beats = keys * (head_words + bias_words) + value_words * config.lanes * _ceil(keys, config.lanes)
    macs = heads * queries * keys * (head_dim + value_dim)
    return Workload(macs, heads * _ceil(queries, config.elements) * beats)


def experts(config: AcceleratorConfig, *, routed: int, dim: int, hidden: int) -> Workload:
    """Both matrices for ``routed`` = tokens x top_k rows, whichever experts they go to."""
    dim_words, hidden_words = _ceil(dim, config.lanes), _ceil(hidden, config.lanes)
    tiles = config.lanes // config.elements
    beats = routed * 2 * tiles * dim_words * hidden_words
    return Workload(2 * routed * dim * hidden, beats)


def total(program: Program, task: int) -> Workload:
    """Sum over the commands that run for ``task``."""
    ran = [command for command in program.commands if command.runs(task)]
    return Workload(sum(command.macs for command in ran), sum(command.ideal_cycles for command in ran))


def bound(program: Program, task: int, loads: Mapping[str, Sequence[int]]) -> int:
    """Cycles that a frame takes at least when phases follow one another: the larger of beats and weight bytes of each.

    A phase is a matrix product, an attention, or one expert with its tokens (``loads``: tokens of each expert by
    mixture); what else a product needs of the weight stream (staged rows, LayerNorm's shifts) is counted with it.
    A frame that ended early has layers without tokens, which count nothing.
    Prefetching across phases may beat the bound where bytes and beats alternate in being the larger.
    """
    cycles = pending = 0
    width = program.config.memory_bytes
    for command in program.commands:
        if not command.runs(task):
            continue
        if command.op == "EXPERTS":
            load = loads.get(command.mixture, ())
            if not any(load):
                continue
            each, beats = command.stream_bytes // len(load), command.ideal_cycles // sum(load)
            cycles += sum(max(tokens * beats, _ceil(each, width)) for tokens in load if tokens)
            continue
        pending += command.stream_bytes
        if command.ideal_cycles:
            cycles += max(command.ideal_cycles, _ceil(pending, width))
            pending = 0
    return cycles
