"""What a folder of Hugging Face says beside its weights: what a state dict does not, such as the attention heads.

``config.json`` has the geometry, of transformers or of timm; ``preprocessor_config.json`` how pixels were normalised.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeGuard

from tessera.sw.models.options import Options
from tessera.sw.models.state_dict import WHOLE_FILES

_MODEL, _PIXELS = "config.json", "preprocessor_config.json"
_EXACT = ("gelu", None)
"""Activations of MLPs that the machine has, as transformers calls them; None: not said."""


def with_hints(path: Path, options: Options) -> tuple[Options, list[str]]:
    """``options`` with what the files beside the weights say where it says nothing, and a notice of it.

    Raises
    ------
    ValueError
        If they name an activation function that the machine has not.
    """
    folder = path if path.is_dir() else path.parent if path.name in WHOLE_FILES else None
    if folder is None:
        return options, []
    model, pixels = _read(folder / _MODEL), _read(folder / _PIXELS)
    if model.get("hidden_act") not in _EXACT:
        raise ValueError(
            f"{folder / _MODEL} says that the MLPs' activation is '{model['hidden_act']}'; the machine has the exact "
            "GELU alone: train the model with hidden_act 'gelu'"
        )
    timm = model.get("pretrained_cfg")
    found = _model(model) | _normalisation(pixels or (timm if isinstance(timm, dict) else {}), options)
    taken = {name: value for name, value in found.items() if getattr(options, name) is None}
    if not taken:
        return options, []
    names = {"trained_size": "size of the pictures", "std": "deviation", "mean": "mean"}
    said = ", ".join(names.get(name, name) for name in taken)
    filled = replace(options, **taken)
    filled.check()
    return filled, [f"{said}: as the files beside the weights say"]


def _read(path: Path) -> dict[str, Any]:
    """A JSON object; empty if there is none that can be read."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _model(config: dict[str, Any]) -> dict[str, Any]:
    """Heads, epsilon and size of pictures, as far as they are there and make sense."""
    found: dict[str, Any] = {}
    more = config.get("model_args")
    arguments = config | (more if isinstance(more, dict) else {})
    heads = arguments.get("num_attention_heads", arguments.get("num_heads"))
    if isinstance(heads, int) and heads > 0:
        found["heads"] = heads
    if isinstance(config.get("layer_norm_eps"), float):
        found["epsilon"] = config["layer_norm_eps"]
    size = arguments.get("image_size", arguments.get("img_size"))
    size = [size, size] if isinstance(size, int) else size
    if isinstance(size, list) and len(size) == 2 and all(isinstance(edge, int) and edge > 0 for edge in size):
        found["trained_size"] = (size[0], size[1])
    return found


def _normalisation(config: dict[str, Any], options: Options) -> dict[str, Any]:
    """Mean and deviation of pixels in [0, 1]; empty if they are not there, or ``options`` say them in another way."""
    if options.pixels is not None or options.mean is not None:
        return {}
    if config.get("do_normalize") is False:
        return {"mean": (0.0,), "std": (1.0,)}
    mean = config.get("image_mean", config.get("mean"))
    deviation = config.get("image_std", config.get("std"))
    if _are_numbers(mean) and _are_numbers(deviation):
        return {"mean": tuple(map(float, mean)), "std": tuple(map(float, deviation))}
    return {}


def _are_numbers(values: Any) -> TypeGuard[list[float]]:
    return isinstance(values, list) and len(values) in (1, 3) and all(isinstance(v, int | float) for v in values)
