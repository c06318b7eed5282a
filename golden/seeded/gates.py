"""Gates made, not trained: matrices that give every picture a wanted load of experts, with a trained router's margins.

A gate is linear in the normalised token and has no bias. What a balance loss does to it in training is done here
directly, by turns: the logits of each picture are shifted, expert by expert, until its loads are as wanted, and chosen
experts are moved away from the others; then the matrix is fitted to these logits by ridge regression. Whatever tells
whole pictures apart is useless for that and dies out; what remains is where a token lies and how it differs from the
tokens around it. The part of tokens that is always the same serves as the bias.
"""

from __future__ import annotations

import math

import numpy as np

from tessera.common.arrays import Floats

ROUTINGS = ("balanced", "skewed", "captured")

_SKEWED_TOKENS, _SKEWED_IDLE = 100 / 129, 6 / 16
# Share of tokens that choose the busiest expert, and of experts that idle, as in one layer of a trained M3ViT.

_CAPTURED = (
    ((37, 2, 52, 55, 41, 13, 33, 25), (0, 37, 35, 45, 13, 60, 16, 52)),
    ((17, 56, 33, 34, 28, 54, 24, 12), (20, 25, 36, 44, 54, 26, 28, 25)),
    ((31, 17, 30, 31, 21, 35, 52, 41), (28, 42, 20, 34, 23, 43, 40, 28)),
)
# Tokens of each expert of the trained model ``nano`` in one frame (held-out scene 0): by expert layer, task, expert.

_ROUNDS, _STEPS = 8, 20  # of balancing and fitting; of balancing within a round
_DIRECTIONS, _FLATTENING = 24, 0.3  # where logits start: main directions of tokens, and how far they are made equal
_RIDGE = 0.02  # of the mean variance of tokens
_MARGIN, _IDLE_MARGIN = 0.8, 1.5  # from chosen experts to others, and to idle ones, in deviations of the logits
_TOP_PROBABILITY = 0.5  # mean probability of the best expert, as in trained routers


def loads(routing: str, *, experts: int, top_k: int, depth: float, task: int, generator: np.random.Generator) -> Floats:
    """Share of all choices that each expert is to get, in random order of experts.

    Parameters
    ----------
    routing:
        ``balanced``: equal shares. ``skewed``: one expert is chosen by 100 of 129 tokens and 6 of 16 experts by none.
        ``captured``: as recorded from the trained model ``nano``, each of its 8 experts dealt to experts / 8.
    depth:
        Place of the layer among the expert layers, in [0, 1).
    """
    if routing == "balanced":
        parts = np.ones(experts)
    elif routing == "skewed":
        idle, first = int(experts * _SKEWED_IDLE), _SKEWED_TOKENS / top_k
        parts = np.r_[first, np.full(experts - idle - 1, (1 - first) / (experts - idle - 1)), np.zeros(idle)]
    else:
        recorded = np.array(_CAPTURED[int(depth * len(_CAPTURED))][task % len(_CAPTURED[0])], float)
        parts = recorded[np.arange(experts) * len(recorded) // experts]
    return generator.permutation(parts / parts.sum())


def make_gate(tokens: Floats, shares: Floats, top_k: int, generator: np.random.Generator) -> tuple[Floats, Floats]:
    """Make a gate for normalised tokens (pictures, N, D), of each of which pictures ``shares`` go to the experts.

    Returns
    -------
    tuple
        The matrix (D, experts), and the chosen probabilities (pictures, N, top_k) that it gives.
    """
    pictures, count, dim = tokens.shape
    experts, rows = len(shares), tokens.reshape(-1, dim)
    gram, mean = rows.T @ rows / len(rows), rows.mean(axis=0)
    variance = float(np.trace(gram) - mean @ mean) / dim
    fit = np.linalg.solve(gram + _RIDGE * variance * np.eye(dim), rows.T / len(rows))
    inside = (tokens - tokens.mean(axis=1, keepdims=True)).reshape(-1, dim)
    sizes, directions = np.linalg.eigh(inside.T @ inside / len(inside))
    start = directions[:, -_DIRECTIONS:] * np.maximum(sizes[-_DIRECTIONS:], 1e-9) ** -_FLATTENING
    matrix = start @ generator.normal(size=(start.shape[1], experts))
    for _ in range(_ROUNDS):
        logits = (rows @ matrix).reshape(pictures, count, experts)
        logits /= logits.std(axis=1).mean()
        matrix = fit @ _balanced(logits, shares, top_k).reshape(-1, experts)
    return _sharpened(matrix, rows, top_k, (pictures, count))


def _balanced(logits: Floats, shares: Floats, top_k: int) -> Floats:
    """Logits (pictures, N, experts) shifted to the wanted loads, with chosen experts moved away from the others."""
    wanted = shares * logits.shape[1] * top_k
    idle = wanted < 0.5
    shifted = np.where(idle, -np.inf, logits)
    for _ in range(_STEPS):
        got = (shifted >= _last_chosen(shifted, top_k)).sum(axis=1, keepdims=True)
        shifted = shifted - 0.3 * np.log((got + 1.0) / (wanted + 1.0))
    last = _last_chosen(shifted, top_k)
    moved = shifted + np.where(shifted >= last, _MARGIN * logits.std(), 0.0)
    below = np.quantile(last, 0.02) - _IDLE_MARGIN * logits.std()
    return np.where(idle, below + 0.3 * (logits - logits.mean()), moved)


def _last_chosen(logits: Floats, top_k: int) -> Floats:
    place = logits.shape[-1] - top_k
    return np.partition(logits, place, axis=-1)[..., place, None]


def _sharpened(matrix: Floats, rows: Floats, top_k: int, shape: tuple[int, int]) -> tuple[Floats, Floats]:
    """Scale a gate until the best expert has the wanted probability on average."""
    logits = rows @ matrix
    logits -= logits.max(axis=1, keepdims=True)
    low, high = np.array([1e-2, 1e2]) / logits.std()
    for _ in range(20):
        scale = math.sqrt(low * high)
        probabilities = np.exp(scale * logits)
        probabilities /= probabilities.sum(axis=1, keepdims=True)
        low, high = (low, scale) if probabilities.max(axis=1).mean() > _TOP_PROBABILITY else (scale, high)
    chosen = -np.sort(-probabilities, axis=1)[:, :top_k]
    return matrix * scale, chosen.reshape(*shape, top_k)
