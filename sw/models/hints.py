"""What a folder of Hugging Face says beside its weights: what a state dict does not, such as the attention heads.

``config.json`` has the geometry, of transformers or of timm; ``preprocessor_config.json`` how pixels were normalised.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from math import isclose
from pathlib import Path
from typing import Any

from tessera.sw.models.options import Options
from tessera.sw.models.state_dict import WHOLE_FILES, Finding

_MODEL, _PIXELS = "config.json", "preprocessor_config.json"
_EXACT = ("gelu", None)
"""Activations of MLPs that the machine has, as transformers calls them; None: not said."""


@dataclass(frozen=True, kw_only=True)
class Hints:
    """What the files beside the weights say.

    Members: ``options``, those that were given and what the files add; ``notices``, a line each; ``said``, sizes of the
    network by name; ``path``, the file that says them.
    """

    options: Options
    notices: list[str]
    said: Mapping[str, int]
    path: Path

    def contradictions(self, sizes: Mapping[str, int]) -> list[Finding]:
        """Sizes of the network that are not what the files say, as when weights of a part were saved."""
        found = []
        for name, said in self.said.items():
            if sizes.get(name, said) != said:
                line = f"{self.path} says {said} {name}, the weights have {sizes[name]}"
                found.append(Finding(about=f"{self.path.name}:{name}", line=line, explains="$^"))
        return found


def read_hints(path: Path, options: Options) -> Hints:
    """What the files beside the weights add to ``options``, and a notice of it.

    Raises
    ------
    ValueError
        If a file cannot be read, a value makes no sense, or they name an activation function that the machine has not.
    """
    folder = path if path.is_dir() else path.parent if path.name in WHOLE_FILES else None
    if folder is None:
        return Hints(options=options, notices=[], said={}, path=path)
    model, pixels = _read(folder / _MODEL), _read(folder / _PIXELS)
    if (activation := model.content.get("hidden_act")) not in _EXACT:
        raise ValueError(
            f"{model.path} says that the MLPs' activation is '{activation}'; the machine has the exact GELU alone: "
            "train the model with hidden_act 'gelu'"
        )
    found = _model(model) | _normalisation(model, pixels, options)
    taken = {name: value for name, value in found.items() if getattr(options, name) is None}
    filled = replace(options, **taken)
    try:
        filled.check()
    except ValueError as error:
        raise ValueError(f"the files beside {folder / WHOLE_FILES[0]} say what no model can have: {error}") from error
    names = {"trained_size": "size of the pictures", "std": "deviation", "mean": "mean"}
    said = ", ".join(names.get(name, name) for name in taken)
    notices = [f"{said}: as the files beside the weights say"] if taken else []
    return Hints(options=filled, notices=notices, said=_sizes(model), path=model.path)


@dataclass(frozen=True)
class _File:
    """A JSON object; empty if there is no such file."""

    path: Path
    content: dict[str, Any]

    def get(self, *names: str, kind: Callable[[Any], bool], expected: str) -> Any:
        """The value of the first of ``names`` that is there; None if none is; ValueError if it is of another kind."""
        for name in names:
            value = self.content.get(name)
            if value is not None:
                if not kind(value):
                    raise ValueError(f"{self.path}: {name} is {json.dumps(value)[:80]}; expected {expected}")
                return value
        return None

    def inside(self, name: str) -> _File:
        """The object of a key."""
        found = self.get(name, kind=lambda value: isinstance(value, dict), expected="an object")
        return _File(self.path, found or {})


def _read(path: Path) -> _File:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return _File(path, {})
    except (OSError, ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise ValueError(f"{path} lies beside the weights and holds no JSON object: fetch it again, or move it away")
    return _File(path, found)


def _model(file: _File) -> dict[str, Any]:
    """Heads, epsilon and size of pictures, as far as they are there."""
    more = file.inside("model_args")
    found: dict[str, Any] = {}
    for where in (more, file):
        heads = where.get("num_attention_heads", "num_heads", kind=_is_count, expected="a positive whole number")
        size = where.get("image_size", "img_size", kind=_is_size, expected="one or two positive whole numbers")
        if heads:
            found.setdefault("heads", heads)
        if size:
            found.setdefault("trained_size", (size, size) if isinstance(size, int) else tuple(size))
    epsilon = file.get("layer_norm_eps", kind=_is_number, expected="a number")
    if epsilon is not None:
        found["epsilon"] = float(epsilon)
    return found


def _sizes(file: _File) -> dict[str, int]:
    """Layers, channels and classes, as far as they are there."""
    known = {"layers": "num_hidden_layers", "channels": "hidden_size"}
    sizes = {name: file.get(key, kind=_is_count, expected="a positive whole number") for name, key in known.items()}
    sizes["classes"] = len(file.inside("id2label").content) or file.content.get("num_classes")
    return {name: size for name, size in sizes.items() if _is_count(size)}


def _normalisation(model: _File, pixels: _File, options: Options) -> dict[str, Any]:
    """Mean and deviation of pixels in [0, 1]; empty if they are not there, or ``options`` say them in another way."""
    if options.pixels is not None or options.mean is not None:
        return {}
    file = pixels if pixels.content else model.inside("pretrained_cfg")
    mean = file.get("image_mean", "mean", kind=_are_numbers, expected="one or three numbers")
    deviation = file.get("image_std", "std", kind=_are_numbers, expected="one or three numbers")
    if file.content.get("do_normalize") is False:
        mean, deviation = [0.0], [1.0]
    if mean is None or deviation is None:
        return {}
    # Bytes times this factor, and less 1 where there is an offset, are normalised.
    factor = file.get("rescale_factor", kind=_is_number, expected="a number") or 1 / 255
    factor = 1.0 if file.content.get("do_rescale") is False else factor
    offset = 1.0 if file.content.get("rescale_offset") is True else 0.0
    scale = 255 * factor
    scale = 1.0 if isclose(scale, 1.0, rel_tol=1e-6) else scale
    return {"mean": tuple((m + offset) / scale for m in mean), "std": tuple(s / scale for s in deviation)}


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _is_size(value: Any) -> bool:
    return _is_count(value) or (isinstance(value, list) and len(value) == 2 and all(map(_is_count, value)))


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _are_numbers(values: Any) -> bool:
    return isinstance(values, list) and len(values) in (1, 3) and all(map(_is_number, values))
