"""Trains a small vision transformer of timm on Fashion-MNIST, and lays its pictures out as PNG files in folders.

The data are four files of Zalando Research (MIT licence) from https://github.com/zalandoresearch/fashion-mnist, or of
Debian's package ``dataset-fashion-mnist``. They stay as they are published:

    python examples/fashion_mnist/train.py --data /usr/share/datasets/fashion-mnist -o build/fashion_mnist

It needs timm and torchvision (``pip install timm torchvision``), and about 20 minutes on one core of a CPU; the same
seed on the same computer gives the same weights. It writes ``vit.safetensors`` (timm's state dict in half precision),
``calibration`` (pictures it was trained with), ``test/CLASS`` (all test pictures) and ``pictures/CLASS`` (the first of
them). What lies beside this file was made so.
"""

from __future__ import annotations

import argparse
import gzip
import math
import sys
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor
from torch.nn.functional import cross_entropy, pad

try:
    from timm.models.vision_transformer import VisionTransformer
except ImportError as error:
    sys.exit(f"timm is not whole here ({error}): pip install timm torchvision, in an environment of your own")

CLASSES = "t-shirt trouser pullover dress coat sandal shirt sneaker bag ankle-boot".split()
"""By label. Folders carry the label in front, so that their order is that of the model's outputs."""

FILES = {
    "train": ("train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz"),
    "test": ("t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz"),
}
BATCH, PEAK, WARM_UP, SMOOTHING = 128, 2e-3, 500, 0.05
SHOWN, CALIBRATION = 15, 32
"""Test pictures of each class, and training pictures, that go with the example."""


def read_idx(path: Path) -> Tensor:
    """Bytes of an idx file: two zeros, a type, the number of axes, their lengths in big-endian, then the values."""
    content = gzip.decompress(path.read_bytes())
    axes = content[3]
    shape = np.frombuffer(content, ">u4", axes, 4).astype(int)
    return torch.from_numpy(np.frombuffer(content, np.uint8, -1, 4 + 4 * axes).reshape(shape).copy())


def read_split(folder: Path, split: str) -> tuple[Tensor, Tensor]:
    """Pictures (N, 32, 32), of 28 x 28 with two black pixels on each side, and labels (N), both bytes."""
    missing = [name for name in FILES[split] if not (folder / name).is_file()]
    if missing:
        sys.exit(
            f"{folder} lacks {' and '.join(missing)}: get them from https://github.com/zalandoresearch/fashion-mnist, "
            "or install Debian's dataset-fashion-mnist and say --data /usr/share/datasets/fashion-mnist"
        )
    pictures, labels = (read_idx(folder / name) for name in FILES[split])
    return pad(pictures, (2, 2, 2, 2)), labels


def write_pictures(pictures: Tensor, labels: Tensor, out: Path) -> None:
    """All as ``test/LABEL-CLASS/NUMBER.png``, as ImageFolder reads them, and the first of each in ``pictures``."""
    written = [0] * len(CLASSES)
    for number, (picture, label) in enumerate(zip(pictures.numpy(), labels.tolist(), strict=True)):
        for part in ("test", "pictures") if written[label] < SHOWN else ("test",):
            folder = out / part / f"{label}-{CLASSES[label]}"
            folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray(picture).save(folder / f"{number:05}.png", optimize=True)
        written[label] += 1


def write_calibration(pictures: Tensor, out: Path) -> None:
    """Some pictures that it was trained with; they choose the ranges of activations, so no label is needed."""
    folder = out / "calibration"
    folder.mkdir(parents=True, exist_ok=True)
    for number, picture in enumerate(pictures[:CALIBRATION].numpy()):
        Image.fromarray(picture).save(folder / f"{number:05}.png", optimize=True)


def normalised(pictures: Tensor) -> Tensor:
    """Bytes (N, 32, 32) as the network takes them: one channel, -1 to 1, which importers of timm call ``half``."""
    return pictures[:, None].float() / 127.5 - 1


def varied(pictures: Tensor) -> Tensor:
    """Each moved by up to one pixel and mirrored at random, so that the network does not learn pictures by heart."""
    count, size = len(pictures), pictures.shape[-1]
    ahead = torch.arange(size)
    rows, columns = (torch.randint(0, 3, (count, 1)) + ahead for _ in range(2))
    columns = torch.where(torch.rand(count, 1) < 0.5, columns.flip(1), columns)
    return pad(pictures, (1, 1, 1, 1))[torch.arange(count)[:, None, None], rows[:, :, None], columns[:, None, :]]


def accuracy(model: VisionTransformer, pictures: Tensor, labels: Tensor) -> float:
    """Share of pictures whose class the model gets right."""
    model.eval()
    with torch.inference_mode():
        guesses = torch.cat([model(normalised(part)).argmax(1) for part in pictures.split(500)])
    return (guesses == labels).float().mean().item()


def train(model: VisionTransformer, pictures: Tensor, labels: Tensor, epochs: int) -> None:
    """AdamW, with a rate that rises for some hundred steps and falls as a cosine to zero."""
    steps = epochs * math.ceil(len(pictures) / BATCH)
    warm_up = min(WARM_UP, steps // 4)
    optimiser = torch.optim.AdamW(model.parameters(), lr=PEAK, weight_decay=0.05)
    began, step = time.monotonic(), 0
    for epoch in range(epochs):
        model.train()
        total = 0.0
        for chosen in torch.randperm(len(pictures)).split(BATCH):
            rise = (step + 1) / (warm_up + 1)
            fall = 0.5 + 0.5 * math.cos(math.pi * max(step - warm_up, 0) / (steps - warm_up))
            optimiser.param_groups[0]["lr"] = PEAK * min(rise, fall)
            scores = model(normalised(varied(pictures[chosen])))
            loss = cross_entropy(scores, labels[chosen].long(), label_smoothing=SMOOTHING)
            optimiser.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimiser.step()
            total += loss.item() * len(chosen)
            step += 1
        print(f"epoch {epoch + 1}: loss {total / len(pictures):.4f}, {time.monotonic() - began:.0f} s", flush=True)


def main() -> None:
    """Train, round to half precision, score, write."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--data", type=Path, required=True, help="folder with the four .gz files")
    parser.add_argument("-o", "--out", type=Path, default=Path("build/fashion_mnist"))
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    torch.set_num_threads(1)  # sums in the same order on every computer of a kind
    torch.manual_seed(given.seed)
    (pictures, labels), (test, truth) = (read_split(given.data, split) for split in FILES)
    write_pictures(test, truth, given.out)
    write_calibration(pictures, given.out)
    model = VisionTransformer(img_size=32, patch_size=4, in_chans=1, num_classes=10, embed_dim=48, depth=4, num_heads=3)
    train(model, pictures, labels, given.epochs)
    model.half().float()  # what is scored is what is written
    print(f"right: {accuracy(model, test, truth):.2%} of {len(test):,} test pictures")
    save_file({name: tensor.half() for name, tensor in model.state_dict().items()}, given.out / "vit.safetensors")


if __name__ == "__main__":
    main()
