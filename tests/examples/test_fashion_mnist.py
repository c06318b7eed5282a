"""The example on real data: what is kept of it is small and whole, and its recipe makes what the example takes."""

from __future__ import annotations

import gzip
import runpy
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

import tessera
from tessera.common.paths import PROJECT_ROOT
from tests.helpers import timm_models  # before the recipe: it lets timm be imported without torchvision

FOLDER = PROJECT_ROOT / "examples" / "fashion_mnist"
PICTURES = sorted((FOLDER / "pictures").glob("*/*.png"))
CALIBRATION = sorted((FOLDER / "calibration").glob("*.png"))
MOST_BYTES = 1 << 20
IMAGE_TYPE, LABEL_TYPE = b"\0\0\x08\x03", b"\0\0\x08\x01"


def idx(values: np.ndarray, begin: bytes) -> bytes:
    return gzip.compress(begin + np.array(values.shape, ">u4").tobytes() + values.astype(np.uint8).tobytes())


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Files in the form of the published ones: 40 pictures to train with, 30 to test, of noise."""
    generator = np.random.default_rng(0)
    folder = tmp_path / "data"
    folder.mkdir()
    for name, count in (("train", 40), ("t10k", 30)):
        images, labels = generator.integers(0, 256, (count, 28, 28)), np.arange(count) % 10
        (folder / f"{name}-images-idx3-ubyte.gz").write_bytes(idx(images, IMAGE_TYPE))
        (folder / f"{name}-labels-idx1-ubyte.gz").write_bytes(idx(labels, LABEL_TYPE))
    return folder


def pixels(path: Path) -> np.ndarray:
    """Bytes (rows, columns), or (rows, columns, 3) in colour."""
    with Image.open(path) as picture:
        return np.array(picture)


def recipe(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> None:
    monkeypatch.setattr("sys.argv", ["train.py", *map(str, arguments)])
    threads, state = torch.get_num_threads(), torch.get_rng_state()
    try:
        runpy.run_path(str(FOLDER / "train.py"), run_name="__main__")
    finally:
        torch.set_num_threads(threads)
        torch.set_rng_state(state)


def test_what_is_kept_is_small_and_whole():
    assert sum(path.stat().st_size for path in FOLDER.rglob("*") if path.is_file()) < MOST_BYTES
    folders = [path.name for path in sorted((FOLDER / "pictures").iterdir())]
    assert [int(name.split("-")[0]) for name in folders] == list(range(10))
    assert len(PICTURES) == 150 and len(CALIBRATION) == 32
    assert {(pixels(path).shape, str(pixels(path).dtype)) for path in PICTURES + CALIBRATION} == {((32, 32), "uint8")}
    assert {tensor.dtype for tensor in load_file(FOLDER / "vit.safetensors").values()} == {torch.float16}


def test_imported_logits_are_timm_s(tmp_path):
    theirs = timm_models.VisionTransformer(
        img_size=32, patch_size=4, in_chans=1, num_classes=10, embed_dim=48, depth=4, num_heads=3
    ).eval()
    theirs.load_state_dict({name: tensor.float() for name, tensor in load_file(FOLDER / "vit.safetensors").items()})
    ours = tessera.import_weights(
        FOLDER / "vit.safetensors", tmp_path / "ours.safetensors", format="timm-vit", heads=3
    ).model
    pictures = torch.stack([torch.from_numpy(pixels(path)) for path in PICTURES])
    with torch.no_grad():
        expected = theirs(pictures[:, None].float() / 127.5 - 1)
        got = ours.predict(pictures[:, None].expand(-1, 3, -1, -1), 0).flatten(1)
    # float32 on both sides, the normalisation folded into the weights on one: 2.5e-6 apart where logits reach 5.
    assert torch.allclose(got, expected, rtol=0, atol=1e-5)


def test_the_recipe_makes_what_the_example_takes(data, tmp_path, monkeypatch, capsys):
    out = tmp_path / "out"
    recipe(monkeypatch, "--data", data, "-o", out, "--epochs", 1)
    assert "of 30 test pictures" in capsys.readouterr().out
    kept, made = load_file(FOLDER / "vit.safetensors"), load_file(out / "vit.safetensors")
    assert {name: (t.shape, t.dtype) for name, t in made.items()} == {n: (t.shape, t.dtype) for n, t in kept.items()}
    names = [path.name for path in sorted((FOLDER / "pictures").iterdir())]
    for part in ("test", "pictures"):
        assert [path.name for path in sorted((out / part).iterdir())] == names
        assert len(list((out / part).glob("*/*.png"))) == 30
    assert len(list((out / "calibration").glob("*.png"))) == 32
    first = pixels(out / "test" / names[0] / "00000.png")
    raw = gzip.decompress((data / "t10k-images-idx3-ubyte.gz").read_bytes())[16:]
    assert first[2:30, 2:30].tobytes() == raw[: 28 * 28] and not first[:2].any() and not first[:, 30:].any()


def test_the_same_seed_gives_the_same_weights(data, tmp_path, monkeypatch):
    for name in ("one", "two"):
        recipe(monkeypatch, "--data", data, "-o", tmp_path / name, "--epochs", 1, "--seed", 3)
    assert (tmp_path / "one" / "vit.safetensors").read_bytes() == (tmp_path / "two" / "vit.safetensors").read_bytes()


def test_a_file_that_is_missing_is_named_with_where_to_get_it(data, tmp_path, monkeypatch):
    (data / "t10k-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(SystemExit, match=r"lacks t10k-labels-idx1-ubyte.gz: get them from https://.*Debian's"):
        recipe(monkeypatch, "--data", data, "-o", tmp_path / "out")
    assert not (tmp_path / "out").exists()
