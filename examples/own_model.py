"""A model of your own geometry: five classes and eight experts, saved as a checkpoint and run on the machine.

Random weights stand for yours: load a state dict with the same names into ``model`` instead.
"""

from pathlib import Path

import tessera
from tessera.golden import checkpoint
from tessera.golden.config import ModelConfig, TaskConfig
from tessera.golden.model import seeded

CONFIG = ModelConfig(
    name="mine",
    image_height=32,
    image_width=32,
    patch=8,
    dim=32,
    heads=2,
    layers=2,
    mlp_hidden=64,
    expert_layers=(1,),
    experts=8,
    expert_hidden=32,
    top_k=2,
    tasks=(TaskConfig(name="parts", kind="segmentation", channels=5, cells=2),),
)
PATH = Path("build/examples/mine.safetensors")

model = seeded(CONFIG, seed=0)
checkpoint.save(PATH, tessera.Checkpoint.of(model, weights="imported", source="examples/own_model.py"))

print(tessera.load(PATH))
result = tessera.run(tessera.Target(model=PATH, preset="tiny"), out="build/examples/mine", progress=False)
print(result)
assert result.bit_exact
