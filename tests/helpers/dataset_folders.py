"""Tiny datasets on disk, in exactly the folders and file formats that the real ones have."""

from __future__ import annotations

import json
from pathlib import Path

import h5py
import numpy as np
from PIL import Image
from scipy.io import savemat

SIZE = (6, 8)
"""Height and width of every picture."""


def pattern(seed: int, top: int, shape: tuple[int, ...] = SIZE) -> np.ndarray:
    """Random integers 0 to ``top``."""
    return np.random.default_rng(seed).integers(0, top + 1, shape)


def save_png(path: Path, values: np.ndarray) -> None:
    """Write bytes or 16-bit values as a PNG."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values).save(path)


def save_jpeg(path: Path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pattern(seed, 255, (*SIZE, 3)).astype(np.uint8)).save(path)


def write_classes(root: Path, pictures: dict[str, int], shade: int = 0) -> None:
    """A folder for each class, with so many pictures; those of a class are alike, and ``shade`` brighter."""
    for number, (name, count) in enumerate(pictures.items()):
        for picture in range(count):
            values = pattern(100 * number + picture, 90, (*SIZE, 3)) + 40 * number + shade
            save_png(root / name / f"{picture}.png", np.minimum(values, 255).astype(np.uint8))


TOML = """name = "yard"
classes = ["ground", "wall", "tree"]

[labels]
ignore = [255]
values = { 7 = "ground", 8 = "wall", 20 = "tree" }
ignore_others = true

[depth]
metres = 0.01
invalid = [65535]
farthest = 50

[split.val]
pictures = "images/val/*/*.png"
labels = "labels/val/*/*.png"
depth = "depth/val/*/*_z.png"

[split.train]
pictures = "images/train/*.png"
"""


def write_described(root: Path) -> None:
    """``dataset.toml`` with three pictures to score and two to calibrate with."""
    for number, name in enumerate(("a/0", "b/1", "b/2")):
        save_png(root / f"images/val/{name}.png", pattern(number, 255, (*SIZE, 3)).astype(np.uint8))
        values = np.array([0, 7, 8, 20, 255], np.uint8)[np.arange(48).reshape(SIZE) % 5]
        save_png(root / f"labels/val/{name}.png", values)
        depth = (pattern(number, 4000) + 500).astype(np.uint16)
        depth[0, :3] = 0, 65535, 5001
        save_png(root / f"depth/val/{name}_z.png", depth)
    for number in range(2):
        save_png(root / f"images/train/{number}.png", pattern(9 + number, 255, (*SIZE, 3)).astype(np.uint8))
    (root / "dataset.toml").write_text(TOML)


def write_cityscapes(root: Path, split: str = "val") -> list[str]:
    """Three pictures of two cities; stems in order. Label of a pixel: (number * 7 + row * 8 + column) % 34."""
    stems = []
    for number, city in enumerate(("aachen", "aachen", "ulm")):
        stem = f"{city}_{number:06d}_000019"
        folder = f"{split}/{city}/{stem}"
        save_png(root / f"leftImg8bit/{folder}_leftImg8bit.png", pattern(number, 255, (*SIZE, 3)).astype(np.uint8))
        labels = (number * 7 + np.arange(48).reshape(SIZE)) % 34
        save_png(root / f"gtFine/{folder}_gtFine_labelIds.png", labels.astype(np.uint8))
        disparity = (pattern(number, 20000) + 1000).astype(np.uint16)
        disparity[0, :3] = 0, 1, 257  # no measurement, infinitely far, one pixel
        save_png(root / f"disparity/{folder}_disparity.png", disparity)
        camera = root / f"camera/{folder}_camera.json"
        camera.parent.mkdir(parents=True, exist_ok=True)
        camera.write_text(json.dumps({"extrinsic": {"baseline": 0.25}, "intrinsic": {"fx": 200.0, "fy": 201.0}}))
        stems.append(stem)
    return stems


def write_nyud_folder(root: Path, *, matlab: bool = False) -> list[str]:
    """``NYUD_MT`` with three pictures, labels 0 to 40, depths around the limit; ``matlab``: as ASTMT has them."""
    names = ["0001", "0002", "0003"]
    for folder in ("gt_sets", "segmentation", "depth"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    (root / "gt_sets/val.txt").write_text("\n".join(names) + "\n")
    for number, name in enumerate(names):
        save_jpeg(root / f"images/{name}.jpg", number)
        labels = (number + np.arange(48).reshape(SIZE)) % 41
        depth = np.linspace(0, 12, 48, dtype=np.float32).reshape(SIZE)
        if matlab:
            savemat(root / f"segmentation/{name}.mat", {"segmentation": labels.astype(np.uint8)})
            savemat(root / f"depth/{name}.mat", {"depth": depth})
        else:
            save_png(root / f"segmentation/{name}.png", labels.astype(np.uint8))
            np.save(root / f"depth/{name}.npy", depth)
    return names


def write_nyud_labeled(root: Path, labels: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """The labelled file with four pictures as MATLAB 7.3 stores them, and the split: test pictures 2 and 4.

    Returns images (4, H, W, 3) and labels (4, H, W).
    """
    root.mkdir(parents=True, exist_ok=True)
    images = pattern(0, 255, (4, *SIZE, 3)).astype(np.uint8)
    if labels is None:
        labels = pattern(1, 894, (4, *SIZE))
    depths = pattern(2, 900, (4, *SIZE)) / 100 + 0.5
    with h5py.File(root / "nyu_depth_v2_labeled.mat", "w") as file:
        file["images"] = images.transpose(0, 3, 2, 1)
        file["labels"] = labels.astype(np.uint16).transpose(0, 2, 1)
        file["depths"] = depths.astype(np.float32).transpose(0, 2, 1)
        file["rawDepths"] = (depths * (depths > 2)).astype(np.float32).transpose(0, 2, 1)
    savemat(root / "splits.mat", {"trainNdxs": np.array([[1], [3]]), "testNdxs": np.array([[2], [4]])})
    return images, labels


def write_pascal_mt(root: Path) -> list[str]:
    """``PASCAL_MT``: 459 labels as ``LabelMap``, 21 classes as PNG in one of two folders."""
    names = ["2008_000002", "2008_000003"]
    for folder in ("ImageSets/Context", "pascal-context/trainval"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    (root / "ImageSets/Context/val.txt").write_text("\n".join(names) + "\n")
    for number, name in enumerate(names):
        save_jpeg(root / f"JPEGImages/{name}.jpg", number)
        labels = 1 + (number + np.arange(48).reshape(SIZE) * 10) % 459
        savemat(root / f"pascal-context/trainval/{name}.mat", {"LabelMap": labels.astype(np.uint16)})
        classes = (number + np.arange(48).reshape(SIZE)) % 21
        classes[-1, -1] = 255
        save_png(root / "semseg" / ("VOC12", "pascal-context")[number] / f"{name}.png", classes.astype(np.uint8))
    return names


def write_pascal_voc(root: Path) -> list[str]:
    """VOC 2010 with converted labels: PNG of 0 to 59."""
    names = ["2010_000001"]
    (root / "ImageSets/SegmentationContext").mkdir(parents=True, exist_ok=True)
    (root / "ImageSets/SegmentationContext/val.txt").write_text(names[0] + "\n")
    save_jpeg(root / f"JPEGImages/{names[0]}.jpg", 5)
    labels = np.arange(48).reshape(SIZE) + 12
    save_png(root / f"SegmentationClassContext/{names[0]}.png", labels.astype(np.uint8))
    return names
