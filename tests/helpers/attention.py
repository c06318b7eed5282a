"""Attention of any shape as a program, and what it must write."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tessera.golden.integer import functions
from tessera.hw.config import AcceleratorConfig
from tessera.hw.isa import Destination, Opcode
from tessera.program.layouts.rows import Rows, Transposed
from tessera.program.layouts.tiles import ExponentialTiles, QueryScaleTiles, ScoreTiles
from tessera.program.program import Program
from tessera.program.tensors import Space, Tensor
from tessera.sw.compiler.weights import parameter_bytes
from tessera.sw.cycles import bound
from tests.helpers.bare_program import BareProgram

HIGHEST = 127


@dataclass(frozen=True, kw_only=True)
class AttentionCase:
    """Sizes of an attention; queries and keys are those of a window, ``head_dim`` of Q and K, ``value_dim`` of V."""

    queries: int
    keys: int
    heads: int
    head_dim: int
    value_dim: int
    windows: int = 1
    bias_words: int = 0
    bias_shared: bool = False

    @property
    def bias_heads(self) -> int:
        """Heads that have a bias of their own."""
        return 1 if self.bias_shared else self.heads


def golden(case: AttentionCase, config: AcceleratorConfig, random: np.random.Generator) -> dict[str, np.ndarray]:
    """Random operands and every tensor that the command writes, in plain NumPy."""
    n = config.numerics
    lead = (case.windows, case.heads)
    q, k, v = (  # each (window, head, row, channel)
        random.integers(-HIGHEST - 1, HIGHEST + 1, (*lead, rows, channels))
        for rows, channels in (
            (case.queries, case.head_dim),
            (case.keys, case.head_dim),
            (case.keys, case.value_dim),
        )
    )
    parts = case.bias_words * config.lanes // config.elements
    factors = random.choice([0, 1, HIGHEST, -HIGHEST - 1, 10], parts)
    bias = random.integers(-HIGHEST - 1, HIGHEST + 1, (parts, 1, case.bias_heads, case.queries, case.keys))
    accumulators = functions.biased_scores(q @ k.swapaxes(-1, -2), bias, factors)
    scores = functions.requantise(accumulators, 0, SCORE["score_multiplier"], SCORE["score_shift"], n.score)
    exponentials = functions.attention_exponentials(scores, n)
    scale = functions.query_scale(exponentials, *OUTPUT.values(), n)
    multiplier, shift = scale.multiplier[..., None], scale.shift[..., None]
    result = functions.requantise(exponentials @ v, 0, multiplier, shift, n.activation)
    return {
        "q": q,
        "k": k,
        "v": v,
        "factors": factors,
        "bias": bias,
        "scores": scores,
        "exponentials": exponentials,
        "query_multiplier": scale.multiplier,
        "query_shift": scale.shift,
        "attention": result.swapaxes(1, 2).reshape(-1, case.heads * case.value_dim),
    }


SCORE = {"score_multiplier": 40001, "score_shift": 17}
OUTPUT = {"output_multiplier": 50003, "output_shift": 16}


def attention_program(case: AttentionCase, config: AcceleratorConfig, tensors: dict[str, np.ndarray]) -> Program:
    """Stage the operands of :func:`golden`, then attend."""
    bare, t = BareProgram(config), config.lanes
    words, values = -(-case.head_dim // t), -(-case.value_dim // t)
    fields, end = {}, 3
    for name, part in (("query", "q"), ("key", "k")):
        rows = _words(tensors[part], t).swapaxes(1, 2).reshape(-1, t)
        bare.stage(rows, end)
        fields |= {
            f"{name}_base": end,
            f"{name}_stride": case.heads * words,
            f"{name}_window": len(rows) // case.windows,
        }
        end += len(rows)
    # V transposed: a channel has the words of all windows side by side.
    columns = _words(_padded(tensors["v"], t).swapaxes(2, 3), t)
    window = columns.shape[3]
    columns = columns.transpose(1, 2, 0, 3, 4).reshape(-1, t)
    bare.stage(columns, end)
    fields |= {"value_base": end, "value_stride": case.windows * window, "value_window": window}
    end += len(columns)
    if case.bias_words:
        table = _bias_table(case, config, tensors)
        bare.stage(table, end)
        fields |= {"bias_base": end}
        end += len(table)
    stride = case.heads * values + 1
    result = Rows(shape=tensors["attention"].shape, lanes=t, stride=stride, base=end, block=case.value_dim)
    bare.emit(
        Opcode.ATTENTION,
        *_tiles(case, config),
        _tensor("attention", "scratchpad", result),
        work=bound.attention(config, **{name: size for name, size in vars(case).items() if name != "bias_shared"}),
        destination_base=result.base,
        destination_stride=stride,
        destination_window=case.queries * stride,
        windows=case.windows,
        queries=case.queries,
        keys=case.keys,
        heads=case.heads,
        head_words=words,
        value_words=values,
        bias_words=case.bias_words,
        bias_shared=int(case.bias_shared),
        **SCORE,
        **OUTPUT,
        **{"bias_base": 0, **fields},
    )
    return bare.program()


def _bias_table(case: AttentionCase, config: AcceleratorConfig, tensors: dict[str, np.ndarray]) -> np.ndarray:
    """Factors of each element, then words of bias. Part i of element e is lane i * P + e of the words of a key."""
    p, lanes = config.elements, case.bias_words * config.lanes
    factors, bias = tensors["factors"], tensors["bias"][:, 0]
    diagonal = np.zeros((p, lanes // p, p), np.int64)
    diagonal[np.arange(p), :, np.arange(p)] = factors
    bias = np.pad(bias, ((0, 0), (0, 0), (0, -case.queries % p), (0, 0)))
    tiles = bias.reshape(lanes // p, case.bias_heads, -1, p, case.keys).transpose(1, 2, 4, 0, 3)
    return np.concatenate([diagonal.reshape(-1, config.lanes), tiles.reshape(-1, config.lanes)])


def _tiles(case: AttentionCase, config: AcceleratorConfig) -> tuple[Tensor, ...]:
    """Scores, exponentials and query scales."""
    pairs, p = (case.windows, case.heads, case.queries, case.keys), config.elements
    halves = config.attention_buffer(0), config.attention_buffer(1)
    exponentials = ExponentialTiles(
        shape=pairs, lanes=config.lanes, base=halves[0] + config.query_words, room=halves[1] - halves[0], elements=p
    )
    return (
        _tensor("scores", "score", ScoreTiles(shape=pairs, room=config.max_tokens, elements=p)),
        _tensor("exponentials", "exponential", exponentials),
        _tensor("query_multiplier", "query", QueryScaleTiles(shape=pairs[:-1], base=0, elements=p)),
        _tensor("query_shift", "query", QueryScaleTiles(shape=pairs[:-1], base=2, elements=p)),
    )


def _tensor(part: str, space: Space, layout: Rows | ScoreTiles | ExponentialTiles | QueryScaleTiles) -> Tensor:
    return Tensor(name=part, space=space, layout=layout)


def _padded(values: np.ndarray, lanes: int) -> np.ndarray:
    """Zeros behind the last axis up to whole words."""
    return np.pad(values, [(0, 0)] * (values.ndim - 1) + [(0, -values.shape[-1] % lanes)])


def _words(values: np.ndarray, lanes: int) -> np.ndarray:
    """The last axis in words of ``lanes``: (..., words, lanes)."""
    values = _padded(values, lanes)
    return values.reshape(*values.shape[:-1], -1, lanes)


def value_program(case: AttentionCase, config: AcceleratorConfig, random: np.random.Generator) -> tuple[Program, dict]:
    """V of every window written transposed: a LINEAR of swapped roles, and the tensor that it must write."""
    bare, t, tokens = BareProgram(config), config.lanes, case.windows * case.keys
    words, channels = -(-case.head_dim // t), -(-case.value_dim // t) * t
    rows = random.integers(-HIGHEST - 1, HIGHEST + 1, (tokens, case.head_dim))
    weights = random.integers(-HIGHEST - 1, HIGHEST + 1, (case.value_dim, case.head_dim))
    multiplier, shift = random.integers(1, 1 << 16, case.value_dim), random.integers(18, 26, case.value_dim)
    result = functions.requantise(rows @ weights.T, 0, multiplier, shift, config.numerics.activation)
    padding = [(0, channels - case.value_dim)]
    bare.stage(_words(rows, t).reshape(-1, t), 1)
    staged = np.pad(_words(weights, t), [*padding, (0, 0), (0, 0)]).reshape(-1, t)
    bare.stage(staged, 1 + tokens * words)
    window = -(-case.keys // t)
    layout = Transposed(
        shape=result.shape,
        lanes=t,
        stride=case.windows * window + 1,
        block=case.value_dim,
        base=1 + (tokens + channels) * words,
        window=case.keys,
        window_stride=window,
    )
    sets = parameter_bytes(np.zeros(channels, np.int64), np.pad(multiplier, padding), np.pad(shift, padding))
    bare.emit(
        Opcode.LINEAR,
        Tensor(name="v", space="scratchpad", layout=layout),
        work=bound.linear(config, macs=0, steps=channels, stationary_rows=case.keys, words=words, windows=case.windows),
        **bare.block(sets),
        **dict.fromkeys(("function", "wide", "broadcast_unsigned", "function_multiplier", "function_shift"), 0),
        **dict.fromkeys(("gather", "scatter", "list"), 0),
        broadcast_base=1 + tokens * words,
        broadcast_stride=words,
        steps=channels,
        words=words,
        swapped=1,
        windows=case.windows,
        stationary_base=1,
        stationary_stride=words,
        stationary_rows=case.keys,
        stationary_window=case.keys * words,
        channels=channels,
        destination=Destination.ACTIVATION,
        destination_base=layout.base,
        destination_stride=layout.stride,
        destination_window=window,
    )
    return bare.program(), {"v": result}
