"""Float models with random weights, made in a moment. For tests; what runs without a checkpoint is ``seeded_model``."""

from __future__ import annotations

import math

import numpy as np
import torch

from tessera.golden.config import ModelConfig
from tessera.golden.model import VisionTransformer


def random_weights(config: ModelConfig, seed: int) -> VisionTransformer:
    """Build a model with random weights whose statistics resemble a trained one's.

    A few channels of each norm are outliers (3 to 8 times the rest), projection rows differ in scale, biases are not
    zero and gate logits spread enough to route tokens to different experts. Reproducible for a seed.
    """
    model = VisionTransformer(config)
    generator = np.random.default_rng(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            shape = tuple(parameter.shape)
            if "norm" in name and name.endswith("weight"):
                values = generator.normal(1.0, 0.15, shape)
                outliers = generator.choice(shape[0], max(1, shape[0] // 48), replace=False)
                values[outliers] *= generator.uniform(3.0, 8.0, len(outliers))
            elif name.endswith("bias"):
                values = generator.normal(0.0, 0.05, shape)
            elif name.endswith("w_gate"):
                values = generator.normal(0.0, 2.0 / math.sqrt(shape[0]), shape)
            elif "embed" in name and "proj" not in name or name == "cls_token":
                values = generator.normal(0.0, 1.0, shape)
            else:
                fan_in = math.prod(shape[1:]) if "experts" not in name else shape[2]
                rows = np.exp(generator.normal(0.0, 0.25, shape[: 2 if "experts" in name else 1]))
                values = generator.normal(0.0, 1.0 / math.sqrt(fan_in), shape)
                values *= rows.reshape(rows.shape + (1,) * (len(shape) - rows.ndim))
                if name == "patch_embed.proj.weight":
                    # Trained filters answer to contrast; without this, brightness alone would route all tokens alike.
                    values -= values.mean(axis=(1, 2, 3), keepdims=True)
            parameter.copy_(torch.from_numpy(np.asarray(values, dtype=np.float32)))
    return model.eval()
