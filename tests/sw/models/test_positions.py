"""Positions: which patches a number of them is of, and what is said of the choice."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from tessera.sw.cli import app
from tessera.sw.models.importer import ImportProblems, Options, import_weights
from tests.helpers.timm_states import HEADS, half_normalised, imported_logits, some_pixels, timm_logits, timm_state


@pytest.mark.parametrize(
    ("grid", "special", "size", "taken", "said"),
    [
        ((4, 4), 1, None, (4, 4), "17 positions taken as 4 x 4 patches and the class token: --trained-size HxW"),
        ((2, 8), 1, None, (4, 4), "17 positions taken as 4 x 4 patches and the class token: --trained-size HxW"),
        ((2, 8), 1, (16, 64), (2, 8), ""),
        ((4, 4), 0, None, (4, 4), "16 positions taken as 4 x 4 patches: --trained-size HxW for another shape"),
        ((4, 4), 0, (32, 32), (4, 4), "the class token has no position of its own (no_embed_class): taken as 0"),
        ((5, 10), 0, None, (7, 7), "50 positions taken as 7 x 7 patches and the class token: --trained-size HxW"),
        ((5, 10), 0, (40, 80), (5, 10), "the class token has no position of its own (no_embed_class): taken as 0"),
        ((7, 7), 1, (56, 56), (7, 7), ""),
        ((1, 1), 1, None, (1, 1), "2 positions taken as 1 x 1 patches and the class token"),
    ],
)
def test_the_grid_is_counted_and_said(
    tmp_path: Path, grid: tuple, special: int, size: tuple | None, taken: tuple, said: str
) -> None:
    torch.save(timm_state(grid=grid, special=special), tmp_path / "m.pth")
    found = import_weights("timm-vit", tmp_path / "m.pth", options=Options(heads=HEADS, trained_size=size))
    assert found.config.grid == taken
    about = [line for line in found.notices if "position" in line]
    assert said in "\n".join(about) and bool(about) == bool(said)


@pytest.mark.parametrize("grid", [(4, 4), (5, 10)])
@pytest.mark.parametrize("special", [0, 1])
def test_logits_with_and_without_a_position_of_the_class_token(tmp_path: Path, grid: tuple, special: int) -> None:
    size = (8 * grid[0], 8 * grid[1])
    state, pixels = timm_state(grid=grid, special=special), some_pixels(*size)
    expected = timm_logits(state, half_normalised(pixels))
    assert (imported_logits(tmp_path / "m.pth", state, pixels, trained_size=size) - expected).abs().max() < 1e-5


@pytest.mark.parametrize(
    ("grid", "special", "size", "words"),
    [
        ((2, 6), 1, None, "12 without the class token, which is no square: say the size of the training images"),
        ((4, 4), 2, None, "18 positions, 17 without the class token, which is no square"),
        ((4, 4), 1, (16, 16), "images of 16x16 have 2 x 2 patches of 8, but pos_embed is of 16"),
        ((4, 4), 1, (30, 32), "image 30x32 is not a whole number of 8x8 patches"),
    ],
)
def test_grids_that_cannot_be(tmp_path: Path, grid: tuple, special: int, size: tuple | None, words: str) -> None:
    torch.save(timm_state(grid=grid, special=special), tmp_path / "m.pth")
    with pytest.raises(ImportProblems, match=re.escape(words)) as error:
        import_weights("timm-vit", tmp_path / "m.pth", options=Options(heads=HEADS, trained_size=size))
    assert len(error.value.problems) == 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--image-size", "100000x100000"], "--image-size is 100000x100000; choose sides of 1 to 16,384 pixels"),
        (["--image-size", "0x0"], "--image-size is 0x0; choose sides of 1"),
        (["--image-size", "16384x16384"], "--image-size 16384x16384 makes 4,194,305 tokens of 8 x 8 pixels"),
        (["--trained-size", "99999999999999x8"], "--trained-size is 99999999999999x8; choose sides"),
        (["--image-size", "33x32"], "image 33x32 is not a whole number of 8x8 patches"),
        (["--image-size", "-8x8"], "--image-size is '-8x8'; give height and width"),
        (["--heads", "5"], "dim 48 is not a multiple of heads 5"),
    ],
)
def test_sizes_that_no_picture_has(tmp_path: Path, arguments: list[str], words: str) -> None:
    torch.save(timm_state(), tmp_path / "m.pth")
    out = tmp_path / "out.safetensors"
    command = ["import", "--format", "timm-vit", "--heads", "3", str(tmp_path / "m.pth"), "-o", str(out), *arguments]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 2 and not out.exists() and words in " ".join(result.stderr.split()), result.stderr


@pytest.mark.parametrize("name", ["a.b", "", "keys", "train", "a/b", "all", "..", "ä", "a" * 41, " ", "-x", "a b"])
def test_names_that_no_task_can_have(tmp_path: Path, name: str) -> None:
    torch.save(timm_state(), tmp_path / "m.pth")
    out = tmp_path / "out.safetensors"
    command = ["import", "--format", "timm-vit", "--heads", "3", str(tmp_path / "m.pth"), "-o", str(out)]
    result = CliRunner().invoke(app, [*command, f"--tasks={name}"])
    assert result.exit_code == 2 and not out.exists()
    assert f"a task cannot be called '{name.strip()}'" in result.stderr
