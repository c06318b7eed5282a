"""Attention rollout (Abnar and Zuidema, ACL 2020) of what the machine's softmax computed.

The attention of a layer, averaged over its heads, is mixed half and half with the identity for the skip connection; the
product over the layers says how much of each input token an output token is made of. MLPs and experts keep tokens
apart, so they do not come into it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tessera.golden.integer.token_grid import TokenGrid, read_tokens, token_grid
from tessera.program.program import Program
from tessera.program.traces import Traces
from tessera.sw.verifier.readback import exponentials


def machine_attention(program: Program, traces: Traces, task: int) -> list[np.ndarray] | None:
    """The attention that the machine paid, one float64 (heads, query, key) a layer; rows sum to 1.

    It is computed from the traced exponentials, the integers that the array multiplied with V: each over the sum of its
    query's, as the machine's own scale does. None if any was not written: the machine halted, or was not traced.
    """
    if "exponential" not in traces.records:
        return None
    layers = []
    for _, values in exponentials(program, traces, task):
        sums = values.sum(axis=-1, keepdims=True)
        if not (sums > 0).all():  # NaN, too
            return None
        layers.append(values / sums)
    return layers if layers and token_grid(program.plan) is not None else None


def rollout(layers: Sequence[np.ndarray]) -> np.ndarray:
    """Rollout (token out, token in) of ``layers`` (heads, query, key), first to last; rows sum to 1."""
    result = np.eye(layers[0].shape[-1])
    for weights in layers:
        result = 0.5 * (weights.mean(axis=0) @ result + result)
    return result


def of_head(result: np.ndarray, program: Program, task: int) -> np.ndarray:
    """How much of each patch the tokens that a task's head reads are made of, on average: (rows, columns) of patches.

    The sum lacks the share of tokens that are no patch.
    """
    return _grid(program).arranged(result[read_tokens(program.plan, task)].mean(axis=0))


def of_patch(result: np.ndarray, program: Program, row: int, column: int) -> np.ndarray:
    """The same of the output token of one patch."""
    grid = _grid(program)
    return grid.arranged(result[grid.prefix + row * grid.columns + column])


def _grid(program: Program) -> TokenGrid:
    found = token_grid(program.plan)
    assert found is not None, "a rollout is of tokens that are patches"
    return found


def rollout_summary(result: np.ndarray, program: Program, task: int) -> dict[str, Any]:
    """Numbers for run.json.

    ``patches``: how many patches the head's tokens are effectively made of (the exponential of the entropy of
    :func:`of_head`; all of them at most); ``class_token``: the share in them of tokens that are no patch; ``own``:
    their own share; ``distance``: from an output patch to where it comes from, on average, in patches; None if the head
    reads none.
    """
    grid = _grid(program)
    tokens = np.arange(grid.tokens)[read_tokens(program.plan, task)]
    share = of_head(result, program, task).reshape(-1)
    share = share[share > 0] / share.sum()
    distance = None
    if tokens[-1] >= grid.prefix:
        place = np.stack(np.unravel_index(np.arange(grid.patches), grid.shape), axis=1)
        apart = np.linalg.norm(place[:, None] - place[None], axis=2)
        among = result[grid.prefix :, grid.prefix :]
        among = among / among.sum(axis=1, keepdims=True)
        distance = float((among * apart).sum(axis=1).mean())
    return {
        "patches": float(np.exp(-(share * np.log(share)).sum())),
        "class_token": float(result[tokens, : grid.prefix].sum(axis=1).mean()),
        "own": float(result[tokens, tokens].mean()),
        "distance": distance,
    }
