"""Numbers that no format holds: zeros, for which any scale will do, and large ones, which are refused in words."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch

from tessera.golden.integer.model import IntegerModel
from tessera.sw.quantiser.calibration import Calibration
from tessera.sw.quantiser.errors import layer_errors
from tessera.sw.quantiser.quantise import quantise
from tessera.sw.quantiser.rounding import round_with_feedback
from tests.helpers.models import NUMERICS
from tests.helpers.quantised_models import MIXED, float_model, images

D = MIXED.dim
HEAD = D // MIXED.heads
Change = Callable[[Any], None]


def attention(*rows: slice, bias: bool = True) -> Change:
    """Queries, keys or values that are zero in every layer."""

    def change(model: Any) -> None:
        for block in model.blocks:
            for row in rows:
                block.attn.qkv.weight[row].zero_()
                if bias:
                    block.attn.qkv.bias[row].zero_()

    return change


def each_block(*names: str) -> Change:
    """Parameters that are zero in every block that has them."""

    def change(model: Any) -> None:
        for name, parameter in model.named_parameters():
            if name.startswith("blocks.") and name.endswith(names):
                parameter.zero_()

    return change


def constant_tokens(model: Any) -> None:
    model.patch_embed.proj.weight.zero_()
    model.pos_embed.zero_()
    model.patch_embed.proj.bias.fill_(0.5)
    model.cls_token.fill_(0.5)


def everything(model: Any) -> None:
    for parameter in model.parameters():
        parameter.zero_()


def final_gain(model: Any) -> None:
    model.norm.weight.zero_()


Q, K, V = (slice(part * D, (part + 1) * D) for part in range(3))
ZEROS: dict[str, Change] = {
    "a query's channel": attention(slice(3, 4)),
    "a key's channel": attention(slice(D + 3, D + 4)),
    "a value's channel": attention(slice(2 * D + 3, 2 * D + 4)),
    "a head": attention(*(slice(start, start + HEAD) for start in (0, D, 2 * D))),
    "queries": attention(Q),
    "keys": attention(K),
    "values": attention(V),
    "queries but their bias": attention(Q, bias=False),
    "keys but their bias": attention(K, bias=False),
    "values but their bias": attention(V, bias=False),
    "attention": attention(Q, K, V),
    "projections": each_block("attn.proj.weight", "attn.proj.bias"),
    "gains of the first norms": each_block("norm1.weight"),
    "gains and offsets of the first norms": each_block("norm1.weight", "norm1.bias"),
    "gains of the second norms": each_block("norm2.weight"),
    "gain of the last norm": final_gain,
    "first layers of MLPs": each_block("fc1.weight", "fc1.bias", "htoh4.weight", "htoh4.bias"),
    "second layers of MLPs": each_block("fc2.weight", "fc2.bias", "h4toh.weight", "h4toh.bias"),
    "gates": each_block("w_gate"),
    "variation of tokens": constant_tokens,
    "everything": everything,
}


def changed(change: Change, name: str = "mixed") -> Any:
    model = copy.deepcopy(float_model(name))
    with torch.no_grad():
        change(model)
    return model.as_network()


def worst(change: Change, width: int) -> float:
    """Largest error of a layer or head of any task."""
    model = changed(change)
    errors = layer_errors(model, quantise(model, images(4), NUMERICS[width]), images(2, first=50)).values()
    return max(max(task["head_relative_l2"], *(layer["relative_l2"] for layer in task["layers"])) for task in errors)


@cache
def usual(width: int) -> float:
    return worst(lambda _: None, width)


@pytest.mark.parametrize("width", [8, 12, 16])
@pytest.mark.parametrize("change", ZEROS.values(), ids=ZEROS)
def test_zeros_are_quantised_as_well_as_anything_else(change: Change, width: int) -> None:
    # Fewer parts may add up to more or less than all; twice the usual error is far below that of a lost part.
    assert worst(change, width) <= 2 * usual(width)


@pytest.mark.parametrize("rule", Calibration)
def test_zeros_suit_every_rule_of_calibration(rule: Calibration) -> None:
    for change in (ZEROS["attention"], ZEROS["a head"], constant_tokens, everything):
        quantise(changed(change), images(2), NUMERICS[8], calibration=rule)


def test_values_of_zero_stay_zero() -> None:
    quantised = quantise(changed(ZEROS["values"]), images(2), NUMERICS[12])
    tensors = IntegerModel(quantised, NUMERICS[12]).run(images(1, first=9)[0], 0)
    for layer in range(MIXED.layers):
        assert not tensors[f"layer{layer:02d}.v"].any() and not tensors[f"layer{layer:02d}.attention"].any()


def scaled(name: str, factor: float) -> Change:
    def change(model: Any) -> None:
        model.get_parameter(name).mul_(factor)

    return change


@pytest.mark.parametrize(
    ("name", "factor", "words"),
    [
        (
            "patch_embed.proj.weight",
            1e9,
            "patch_map cannot be quantised.* the residual stream, which hold less than 64",
        ),
        ("pos_embed", 1e6, "cls_token, pos_embed reach .* the residual stream holds less than 64.*Scale"),
        ("pos_embed", 1e30, "cls_token, pos_embed reach .* the residual stream holds less than 64.*Scale"),
        ("blocks.1.attn.qkv.weight", 1e6, "layer01.attention.scores cannot be quantised.* octaves"),
        ("blocks.2.attn.proj.weight", 1e9, "layer02.projection cannot be quantised.* the residual stream"),
        ("blocks.0.mlp.fc1.weight", 1e9, "layer00.hidden cannot be quantised.* an activation function's input.* 16"),
        ("blocks.0.mlp.fc2.bias", 1e15, "layer00.mlp cannot be quantised.* the residual stream"),
        ("blocks.1.mlp.experts.h4toh.weight", 1e9, "layer01.experts, its second layer cannot be quantised"),
        (
            "blocks.1.mlp.gate.0.w_gate",
            1e12,
            "layer01.experts, its gate of task 0 cannot be.* gate logits.* octaves",
        ),
    ],
)
def test_what_is_too_large_is_refused_with_the_layer_and_the_way_out(name: str, factor: float, words: str) -> None:
    with pytest.raises(ValueError, match=words) as refusal:
        quantise(changed(scaled(name, factor)), images(2), NUMERICS[8])
    assert "where the network allows it" in str(refusal.value) and "ratio" not in str(refusal.value)


@pytest.mark.parametrize(
    "covariance",
    [
        np.array([[1.0, 5.0], [5.0, 1.0]]),  # of no real inputs
        np.array([[1e300, 0.0], [0.0, 1e-300]]),
        np.array([[1e-320, 0.0], [0.0, 1e-320]]),
        np.array([[1.0, np.nan], [np.nan, 1.0]]),
    ],
    ids=["indefinite", "huge", "tiny", "unknown"],
)
def test_moments_that_tell_nothing_give_the_nearest_integers(covariance: np.ndarray) -> None:
    values = np.array([[0.4, 2.6], [-1.2, 200.0]])
    assert round_with_feedback(values, covariance, 127).tolist() == [[0, 3], [-1, 127]]
