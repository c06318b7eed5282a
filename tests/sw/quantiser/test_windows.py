"""Convolutions in integers: as near to the float model as the widths allow, group by group, and zeros stay zeros."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from tessera.golden.integer.model import IntegerModel
from tessera.golden.integer.parameters import QuantisedModel, QuantisedProduct
from tessera.golden.integer.steps import ProductStep
from tessera.golden.integer.taps import taps_over
from tessera.golden.network.compute import FloatNetwork
from tessera.golden.network.operators import Convolution, Parameter
from tessera.hw.formats import Numerics
from tessera.sw.models.exported.from_torch import Pixels, network_of
from tessera.sw.quantiser.quantise import calibration_images, quantise
from tessera.sw.quantiser.rounding import Moments
from tessera.sw.quantiser.scales import FoldedLinear, LinearInput
from tessera.sw.quantiser.windows import FoldedGroups, by_group
from tests.helpers.models import NUMERICS
from tests.helpers.own_networks import own_network

ERRORS = {8: 0.03, 12: 0.003}
"""Relative error of a result: at most half of it measured."""
PLAIN = Pixels()
COLOURS = Pixels(mean=(0.485, 0.456, 0.406), deviation=(0.229, 0.224, 0.225))


@cache
def made(name: str, width: int, pixels: Pixels = PLAIN) -> tuple[FloatNetwork, QuantisedModel, NDArray[np.uint8]]:
    model = network_of(own_network(name), torch.zeros(1, 3, 32, 64), pixels=pixels)
    images = calibration_images(model.network, range(8))
    return model, quantise(model, images, NUMERICS[width]), images


@pytest.mark.parametrize("width", ERRORS)
@pytest.mark.parametrize(
    ("name", "pixels"),
    [("stem", PLAIN), ("stem", COLOURS), ("pyramid", PLAIN), ("odd_patches", COLOURS), ("inverted", PLAIN)],
)
def test_integers_are_near_to_the_float_model(name: str, pixels: Pixels, width: int) -> None:
    """12 bits tell it: what were wrong at the border would be as wrong as with 8."""
    model, quantised, images = made(name, width, pixels)
    integer = IntegerModel(quantised, NUMERICS[width])
    for image in images[:3]:
        expected = model.run(torch.from_numpy(image[None]), [0])[0][0].double().numpy()
        error = np.linalg.norm(integer.predict(image, 0) - expected) / np.linalg.norm(expected)
        assert error < ERRORS[width]


def test_pixels_that_no_filter_reads_have_weights_of_zero() -> None:
    """3 x 3 with stride 2 lies in 2 x 2 blocks of 2 x 2 pixels: the first line and column of these are not read."""
    _, quantised, _ = made("stem", 8)
    (first,) = [one for one in quantised.plan.of_kind(ProductStep) if one.source.tensor == "pixels"]
    weight = quantised.of(first.name, QuantisedProduct).linear.weight.reshape(-1, 2, 2, 3, 2, 2)
    assert not weight[:, 0, :, :, 0].any() and not weight[:, :, 0, :, :, 0].any()
    assert (weight[:, 1, 1] != 0).mean() > 0.8


def test_what_no_filter_reads_takes_up_no_rounding() -> None:
    """However much it varies with what they read."""
    random, numerics = np.random.default_rng(1), Numerics()
    share = np.where(np.arange(9) == 4, 0.3, 1.0)
    moments = Moments(np.zeros(9), np.outer(share, share) + 1e-4 * np.eye(9))
    weight = random.normal(0, 1, (200, 9))
    weight[:, 4] = 0
    taps = taps_over(Convolution(part="c", source="s", weight=Parameter(tensor="w")), (3, 3), (5, 5), (3, 3), 1)
    source = LinearInput(form=numerics.activation, scale=0.01)
    whole = FoldedLinear(weight=weight, bias=np.zeros(200), source=source, constant=True)
    made = by_group(taps, whole, [moments]).quantised(0.1, numerics)
    varied = replace(whole, source=replace(source, moments=moments)).quantised(0.1, numerics)
    assert not made.weight[:, 4].any() and varied.weight[:, 4].any()


def test_groups_are_layers_of_their_own() -> None:
    random, numerics = np.random.default_rng(3), Numerics()
    scale = random.uniform(0.01, 0.02, 9)

    def layer(seed: int) -> FoldedLinear:
        values = np.random.default_rng(seed)
        spread = values.normal(0, 1, (9, 9))
        moments = Moments(values.normal(0, 1, 9), spread @ spread.T)
        source = LinearInput(form=numerics.activation, scale=scale, moments=moments)
        return FoldedLinear(
            weight=values.normal(0, 1, (2, 9)), bias=values.normal(0, 1, 2), source=source, constant=True
        )

    parts, output = [layer(seed) for seed in range(3)], random.uniform(0.1, 0.2, 6)
    together = FoldedGroups(parts=tuple(parts))
    linear = together.quantised(output, numerics)
    alone = [part.quantised(output[2 * index : 2 * index + 2], numerics) for index, part in enumerate(parts)]
    for field in ("weight", "bias", "multiplier", "shift"):
        assert np.array_equal(getattr(linear, field), np.concatenate([getattr(one, field) for one in alone]))
    errors = [
        part.mean_error(one, output[2 * i : 2 * i + 2]) for i, (part, one) in enumerate(zip(parts, alone, strict=True))
    ]
    assert np.allclose(together.mean_error(linear, output), np.concatenate(errors))
    assert np.array_equal(together.finest(numerics), np.concatenate([part.finest(numerics) for part in parts]))
