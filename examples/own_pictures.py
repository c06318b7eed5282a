"""Pictures of your own: one runs on the machine, all of them choose the ranges of the activations."""

from pathlib import Path

import numpy as np
from PIL import Image

import tessera

FOLDER = Path("build/examples/pictures")
FOLDER.mkdir(parents=True, exist_ok=True)
generator = np.random.default_rng(0)
for number in range(4):  # these stand for photographs of yours, of any size
    Image.fromarray(generator.integers(0, 256, (48, 80, 3), np.uint8)).save(FOLDER / f"{number}.png")

target = tessera.Target(model="pico", preset="tiny")
files = sorted(FOLDER.glob("*.png"))

# One picture through the machine. It is resized to what the model takes, and a notice says so.
result = tessera.run(target, files[0], out="build/examples/picture", progress=False)
print(result)
print("notices:", "; ".join(result.pictures[0].notices))
assert result.bit_exact

# All pictures as bytes at the model's size: from them the quantiser takes the ranges of activations.
geometry = tessera.load("pico").config
pictures = np.stack([tessera.PictureChoice(image=file).load(geometry)[0].image for file in files])
usual = tessera.quantise(target, progress=False)
own = tessera.quantise(target, images=pictures, progress=False)
for name in list(own.scales)[:4]:
    street, yours = usual.scales[name].max(), own.scales[name].max()
    print(f"{name}: largest step {street:.4g} from street scenes, {yours:.4g} from yours")
