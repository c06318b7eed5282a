"""Pictures and labels of your own: they choose the ranges of activations, run on the machine, and score the model."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image

import tessera
from tessera.golden import checkpoint
from tessera.golden.config import PICO, TaskConfig
from tessera.golden.model import VisionTransformer

# A folder for each class, as torchvision's ImageFolder has them. These stand for photographs of yours, of any size.
FOLDER = Path("build/examples/pictures")
generator = np.random.default_rng(0)
for number, name in enumerate(("cat", "dog", "owl")):
    for split in ("train", "test"):
        (FOLDER / split / name).mkdir(parents=True, exist_ok=True)
        for picture in range(3):
            pixels = generator.integers(0, 150, (48, 80, 3)) + 50 * number
            Image.fromarray(pixels.astype(np.uint8)).save(FOLDER / split / name / f"{picture}.png")

# A classifier of three classes, which stands for one of yours. Its weights are random.
config = PICO
task = TaskConfig(name="animal", kind="classification", channels=3, cells=1)
torch.manual_seed(0)
model = VisionTransformer(replace(config, name="animals", tasks=(task,), final_norm=True))
PATH = FOLDER.parent / "animals.safetensors"
checkpoint.save(PATH, checkpoint.Checkpoint.of(model, weights="imported"))

# One picture through the machine, which is calibrated on the training pictures. It is resized, and a notice says so.
own = tessera.Target(model=PATH, preset="tiny", calibration_images=FOLDER / "train")
result = tessera.run(own, FOLDER / "test" / "owl" / "0.png", out="build/examples/picture", progress=False)
print(result)
print("notices:", "; ".join([*result.pictures[0].notices, *result.notices]))
assert result.bit_exact

# What calibration sees matters: these are the largest steps of some activations.
streets = tessera.quantise(replace(own, calibration_images=None), progress=False)
yours = tessera.quantise(own, progress=False)
for name in list(yours.scales)[:4]:
    print(f"{name}: {streets.scales[name].max():.4g} from street scenes, {yours.scales[name].max():.4g} from yours")

# Top-1 in float and in integers. Without calibration_images the split "train" is calibrated with.
print(tessera.evaluate(PATH, data=f"folder:{FOLDER}", split="test", progress=False))
