"""Edge-MoE's weight directory, written and computed straight from its description: no code of ours is used here.

``write_directory`` makes a synthetic one; ``forward`` is the original's network in NumPy at float64.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

TOKENS, DIM, LAYERS, HEADS, EXPERTS, HIDDEN, TOP_K = 129, 192, 12, 3, 16, 384, 2

SHAPES: dict[str, tuple[int, ...]] = {
    "patch_embed_weight": (192, 3, 16, 16),
    "patch_embed_bias": (192,),
    "pos_embed": (129, 192),
}
for _layer in range(12):
    SHAPES |= {
        f"l{_layer}_qkv_weight": (576, 192),
        f"l{_layer}_qkv_bias": (576,),
        f"l{_layer}_attn_proj_weight": (192, 192),
        f"l{_layer}_attn_proj_bias": (192,),
        f"l{_layer}_norm1_weight": (192,),
        f"l{_layer}_norm1_bias": (192,),
        f"l{_layer}_norm2_weight": (192,),
        f"l{_layer}_norm2_bias": (192,),
    }
    if _layer % 2 == 0:
        SHAPES |= {
            f"l{_layer}_fc1_weight": (768, 192),
            f"l{_layer}_fc1_bias": (768,),
            f"l{_layer}_fc2_weight": (192, 768),
            f"l{_layer}_fc2_bias": (192,),
        }
    else:
        SHAPES |= {
            f"l{_layer}_htoh4_weight": (16, 384, 192),
            f"l{_layer}_htoh4_bias": (16, 384),
            f"l{_layer}_h4toh_weight": (16, 192, 384),
            f"l{_layer}_h4toh_bias": (16, 192),
            f"l{_layer}_w_gate_T_task0": (16, 192),
            f"l{_layer}_w_gate_T_task1": (16, 192),
        }

_erf = np.vectorize(math.erf, otypes=[np.float64])


def path_of(folder: Path, name: str) -> Path:
    """The file of a tensor."""
    return folder / f"{name}.float32.bin"


def write_directory(folder: Path, seed: int = 1) -> Path:
    """Seeded weights of small deviations, no two tensors alike, and a picture."""
    generator = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    for name, shape in SHAPES.items():
        if "norm" in name and name.endswith("weight"):
            values = generator.normal(1.0, 0.2, shape)
        elif name.endswith("bias"):
            values = generator.normal(0.0, 0.1, shape)
        elif name == "pos_embed":
            values = generator.normal(0.0, 0.5, shape)
        elif "gate" in name:
            values = generator.normal(0.0, 2 / math.sqrt(DIM), shape)
        else:
            inputs = 768 if name.startswith("patch") else shape[-1]
            values = generator.normal(0.0, 1 / math.sqrt(inputs), shape)
        values.astype("<f4").tofile(path_of(folder, name))
    (generator.integers(0, 256, (3, 128, 256)) / 256).astype("<f4").tofile(path_of(folder, "image"))
    return folder


def forward(folder: Path, image: np.ndarray, task: int) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """The residual stream (129, 192) after every layer, and the chosen experts (129, 2) of every odd layer."""
    w = {name: np.fromfile(path_of(folder, name), "<f4").astype(np.float64).reshape(s) for name, s in SHAPES.items()}
    x = np.empty((TOKENS, DIM))
    x[0] = w["pos_embed"][0]
    for row in range(8):
        for column in range(16):
            patch = image[:, row * 16 : row * 16 + 16, column * 16 : column * 16 + 16]
            token = 1 + row * 16 + column
            x[token] = np.tensordot(w["patch_embed_weight"], patch, 3) + w["patch_embed_bias"] + w["pos_embed"][token]
    streams, choices = [], []
    for layer in range(LAYERS):
        part = {name.removeprefix(f"l{layer}_"): value for name, value in w.items() if name.startswith(f"l{layer}_")}
        x = x + _attention(_norm(x, part, "norm1"), part)
        normed = _norm(x, part, "norm2")
        if layer % 2 == 0:
            hidden = _gelu(normed @ part["fc1_weight"].T + part["fc1_bias"])
            x = x + hidden @ part["fc2_weight"].T + part["fc2_bias"]
        else:
            y, chosen = _mixture(normed, part, part[f"w_gate_T_task{task}"])
            x = x + y
            choices.append(chosen)
        streams.append(x)
    return streams, choices


def _norm(x: np.ndarray, part: dict[str, np.ndarray], name: str) -> np.ndarray:
    normed = (x - x.mean(axis=1, keepdims=True)) / np.sqrt(x.var(axis=1, keepdims=True) + 1e-6)
    return normed * part[f"{name}_weight"] + part[f"{name}_bias"]


def _softmax(x: np.ndarray) -> np.ndarray:
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def _gelu(x: np.ndarray) -> np.ndarray:
    return x * (1 + _erf(x / math.sqrt(2))) / 2


def _attention(x: np.ndarray, part: dict[str, np.ndarray]) -> np.ndarray:
    q, k, v = np.split(x @ part["qkv_weight"].T + part["qkv_bias"], [192, 384], axis=1)
    mixed = np.empty_like(q)
    for head in range(HEADS):
        channels = slice(64 * head, 64 * head + 64)
        mixed[:, channels] = _softmax(q[:, channels] @ k[:, channels].T / 8) @ v[:, channels]
    return mixed @ part["attn_proj_weight"].T + part["attn_proj_bias"]


def _mixture(x: np.ndarray, part: dict[str, np.ndarray], gate: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    probabilities = _softmax(x @ gate.T)
    y, chosen = np.zeros_like(x), np.empty((TOKENS, TOP_K), np.int64)
    for token in range(TOKENS):
        chosen[token] = sorted(range(EXPERTS), key=lambda e: (-probabilities[token, e], e))[:TOP_K]
        for e in chosen[token]:
            hidden = _gelu(part["htoh4_weight"][e] @ x[token] + part["htoh4_bias"][e])
            out = part["h4toh_weight"][e] @ hidden + part["h4toh_bias"][e]
            y[token] += probabilities[token, e] * out
    return y, chosen
