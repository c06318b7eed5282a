"""A model of timm on real data: imported, calibrated on pictures of its own, scored, and run on the machine.

``examples/fashion_mnist/train.py`` trained it on Fashion-MNIST (Zalando Research, MIT licence). Beside that file lie
its weights, 32 pictures that it was trained with, and 150 test pictures in a folder for each class.
"""

from pathlib import Path

import tessera

HERE = Path(__file__).parent / "fashion_mnist"
MODEL = Path("build/examples/fashion_mnist.safetensors")

# A state dict does not say how many heads a model has. What else the import assumes, it says.
model = tessera.import_weights(HERE / "vit.safetensors", MODEL, format="timm-vit", heads=3)
print(model)
print("assumed:", *model.assumed, sep="\n  ")

# The quantiser takes the ranges of activations from pictures of the kind that the model knows.
calibration, test = HERE / "calibration", f"folder:{HERE / 'pictures'}"
eight_bits = tessera.Sweep(widths=(8,))
scores = tessera.evaluate(MODEL, data=test, sweep=eight_bits, calibration_images=calibration, progress=False)
usual = tessera.evaluate(MODEL, data=test, sweep=eight_bits, progress=False)
print(scores)
exact, integer = scores.to_dict()["results"]
streets = usual.to_dict()["results"][1]
error, worse = (found["outputs"]["classes"]["relative_l2"] for found in (integer, streets))
print(f"outputs against float: {error:.1%} off, {worse:.1%} if calibrated on generated street scenes")
assert exact["scenes"] == 150 and exact["top1"] > 0.85 and abs(integer["top1"] - exact["top1"]) < 0.02
assert error < worse

# One picture on the simulated machine. Every tensor that it writes is compared with the golden model's.
target = tessera.Target(model=MODEL, preset="tiny", calibration_images=calibration)
boot = HERE / "pictures" / "9-ankle-boot" / "00000.png"
result = tessera.run(target, boot, out="build/examples/fashion_mnist", progress=False)
print(result)
assert result.bit_exact
