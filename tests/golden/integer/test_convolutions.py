"""Convolutions: windows and matrices against PyTorch's, the integer model against a reading of it tap by tap."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch
import torch.nn.functional as functional

from tessera.golden.integer.model import IntegerModel, Tensors
from tessera.golden.integer.parameters import QuantisedProduct
from tessera.golden.integer.steps import PatchStep, ProductStep
from tessera.golden.integer.taps import Taps, taps_around, taps_over, taps_over_blocks
from tessera.golden.network.operators import Convolution, Parameter
from tessera.sw.models.exported.from_torch import Pixels, network_of
from tessera.sw.quantiser.quantise import calibration_images, quantise
from tests.helpers.models import NUMERICS
from tests.helpers.own_networks import own_network
from tests.helpers.reference_frames import frame

Pair = tuple[int, int]


def operator(stride: Pair, padding: tuple[int, int, int, int], groups: int = 1) -> Convolution:
    weight = Parameter(tensor="w")
    return Convolution(part="c", source="s", weight=weight, stride=stride, padding=padding, groups=groups)


def convolved(x: torch.Tensor, filters: torch.Tensor, one: Convolution) -> torch.Tensor:
    """PyTorch's convolution of (channels, rows, columns): (rows, columns, outputs)."""
    top, left, bottom, right = one.padding
    padded = functional.pad(x[None], (left, right, top, bottom))
    return functional.conv2d(padded, filters, stride=one.stride, groups=one.groups)[0].permute(1, 2, 0)


def through(taps: Taps, positions: np.ndarray, filters: torch.Tensor) -> np.ndarray:
    """The same as a product of windows: (windows, outputs)."""
    matrix = taps.matrix(filters.numpy())
    split = matrix.reshape(taps.groups, -1, matrix.shape[1])
    made = np.einsum("pgi,goi->pgo", taps.windows(positions), split)
    return made.reshape(len(made), -1)


@pytest.mark.parametrize(
    ("kernel", "stride", "padding", "groups"),
    [
        ((3, 3), (1, 1), (1, 1, 1, 1), 1),
        ((3, 3), (2, 2), (1, 1, 1, 1), 1),
        ((2, 3), (2, 1), (0, 2, 1, 0), 2),
        ((5, 1), (1, 3), (2, 0, 2, 0), 6),
        ((1, 1), (2, 2), (0, 0, 0, 0), 1),
        ((4, 4), (4, 4), (0, 0, 0, 0), 3),
    ],
)
def test_windows_times_a_matrix_are_a_convolution(kernel: Pair, stride: Pair, padding, groups: int) -> None:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn((6, 7, 9), dtype=torch.float64, generator=generator)
    filters = torch.randn((12, 6 // groups, *kernel), dtype=torch.float64, generator=generator)
    one = operator(stride, padding, groups)
    expected = convolved(x, filters, one)
    taps = taps_over(one, kernel, (7, 9), (expected.shape[0], expected.shape[1]), 6)
    got = through(taps, x.permute(1, 2, 0).reshape(63, 6).numpy(), filters)
    # Both are float64 sums of the same products, in another order.
    assert np.allclose(got, expected.reshape(len(got), 12).numpy())
    assert taps.padded == any(padding)


@pytest.mark.parametrize(
    ("kernel", "stride", "padding", "block", "taps"),
    [
        (3, 2, 1, 2, 2),
        (7, 4, 3, 4, 2),
        (7, 2, 3, 2, 4),
        (14, 14, 0, 2, 7),
        (6, 6, 0, 2, 3),
        (16, 16, 0, 16, 1),
        (16, 10, 3, 2, 9),
        (3, 1, 1, 1, 3),
        (5, 4, 0, 2, 3),
    ],
)
def test_a_picture_is_convolved_in_blocks(kernel: int, stride: int, padding: int, block: int, taps: int) -> None:
    """Blocks divide the stride, and windows of them give what the convolution of pixels gives."""
    generator = torch.Generator().manual_seed(2)
    picture = torch.rand((3, 32, 64), dtype=torch.float64, generator=generator)
    filters = torch.randn((4, 3, kernel, kernel), dtype=torch.float64, generator=generator)
    one = operator((stride, stride), (padding,) * 4)
    expected = convolved(picture, filters, one)
    found = taps_over_blocks(one, (kernel, kernel), (32, 64), (expected.shape[0], expected.shape[1]))
    assert found is not None and (found.block, found.kernel) == (block, (taps, taps))
    grid = (32 // block, 64 // block)
    cut = PatchStep(
        part="p", rows=grid[0] * grid[1], channels=3 * block**2, picture="picture", patch=block, grid=grid
    ).cut(picture.permute(1, 2, 0).numpy())
    got = through(found, cut, filters)
    # Both are float64 sums of the same products, in another order.
    assert np.allclose(got, expected.reshape(len(got), 4).numpy())


def test_pixels_behind_the_last_whole_block_are_read_in_smaller_ones() -> None:
    """Of 33 rows blocks of 2 hold 32; a window that reads the last needs blocks of 1."""
    one = operator((2, 2), (0, 0, 0, 0))
    whole = taps_over_blocks(one, (3, 3), (32, 64), (15, 31))
    odd = taps_over_blocks(one, (3, 3), (33, 65), (16, 32))
    assert whole is not None and whole.block == 2
    assert odd is not None and odd.block == 1


def test_a_kernel_that_no_command_can_say_has_no_taps() -> None:
    assert taps_over_blocks(operator((1, 1), (0, 0, 0, 0)), (16, 16), (32, 64), (17, 49)) is None


# The integer model ----------------------------------------------------------------------------------------------------


@cache
def computed(name: str) -> tuple[IntegerModel, Tensors]:
    """A small network's integers, and one frame of it."""
    model = network_of(own_network(name), torch.zeros(1, 3, 32, 64), pixels=Pixels())
    images = calibration_images(model.network, range(4))
    integer = IntegerModel(quantise(model, images, NUMERICS[8]), NUMERICS[8])
    return integer, integer.run(images[0], 0)


@pytest.mark.parametrize("name", ["stem", "pyramid", "odd_patches", "inverted", "decoder"])
def test_convolutions_tap_by_tap(name: str) -> None:
    """Every tensor of a frame, one element at a time."""
    model = network_of(own_network(name), torch.zeros(1, 3, 16, 32), pixels=Pixels())
    images = calibration_images(model.network, range(4))
    quantised = quantise(model, images, NUMERICS[8])
    got = IntegerModel(quantised, NUMERICS[8]).run(images[0], 0)
    assert any(step.taps is not None for step in quantised.plan.of_kind(ProductStep))
    for tensor, expected in frame(quantised, NUMERICS[8], images[0], 0).items():
        assert np.array_equal(got[tensor], np.array(expected)), tensor


@pytest.mark.parametrize("size", [(1, 1), (1, 5), (4, 3), (8, 16)])
def test_a_map_is_enlarged_as_pytorch_does(size: Pair) -> None:
    generator = torch.Generator().manual_seed(3)
    x = torch.randn((6, *size), dtype=torch.float64, generator=generator)
    expected = functional.interpolate(x[None], scale_factor=2, mode="bilinear", align_corners=False)[0]
    taps = taps_around(size, 6)
    windows = taps.windows(x.permute(1, 2, 0).reshape(-1, 6).numpy())
    assert windows.shape == (4 * size[0] * size[1], 6, 4) and not taps.padded
    made = windows @ np.array([9, 3, 3, 1]) / 16
    # Both are float64 sums of the same four products, in another order.
    assert np.allclose(made, expected.permute(1, 2, 0).reshape(-1, 6).numpy(), rtol=0, atol=1e-14)


@pytest.mark.parametrize("lines", [range(0, 2), range(2, 4), range(2, 6), range(6, 8)])
def test_lines_of_an_enlarged_map_need_a_line_above_and_below(lines: range) -> None:
    """Some of its lines from some of the map's: with the line above, unless they begin with the first."""
    x = np.random.default_rng(4).integers(-99, 99, (4 * 3, 2))
    whole = taps_around((4, 3), 2).windows(x).reshape(8, 6, 2, 4)
    first, last = max(lines.start // 2 - 1, 0), min(lines.stop // 2 + 1, 4)
    some = replace(taps_around((last - first, 3), 2), made=(len(lines), 6), padding=(first - lines.start // 2, 0))
    assert np.array_equal(
        some.windows(x[first * 3 : last * 3]).reshape(len(lines), 6, 2, 4), whole[lines.start : lines.stop]
    )


@pytest.mark.parametrize("name", ["stem", "pyramid", "odd_patches", "inverted"])
def test_what_lies_beyond_a_map_stands_for_zero(name: str) -> None:
    """To half a step; and nothing that the integers leave out is added there."""
    integer, _ = computed(name)
    for step in integer.plan.of_kind(ProductStep):
        if step.taps is not None and step.taps.padded:
            padding = np.array(integer.model.of(step.name, QuantisedProduct).padding)
            scale = integer.model.scales[step.source.tensor]
            assert (np.abs(integer.dequantise(step.source.tensor, padding)) <= scale / 2 * 1.0001).all(), step.name
