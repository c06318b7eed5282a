"""Quantised models on disk: one safetensors file; the structure is JSON in its metadata, the arrays are its tensors."""

from __future__ import annotations

import json
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save as serialise

from tessera.common.files import check_readable, file_aside
from tessera.golden.integer import parameters
from tessera.golden.integer.parameters import QuantisedModel
from tessera.golden.network.network import Network
from tessera.golden.tensor_files import ordered

FORMAT = "tessera-quantised-2"

_CLASSES = {
    kind.__name__: kind
    for kind in (
        parameters.QuantisedLinear,
        parameters.QuantisedProduct,
        parameters.QuantisedStream,
        parameters.QuantisedLayerNorm,
        parameters.QuantisedAttention,
        parameters.QuantisedMlp,
        parameters.QuantisedExperts,
        parameters.Peak,
        parameters.QuantisedModel,
    )
}


def save_quantised(path: str | Path, model: QuantisedModel) -> None:
    """Write ``model`` to ``path``, whole or not at all."""
    with file_aside(path) as aside:
        aside.write_bytes(quantised_bytes(model))


def quantised_bytes(model: QuantisedModel) -> bytes:
    """The content of a file with ``model``; equal models give equal bytes."""
    arrays: dict[str, np.ndarray] = {}
    structure = _pack(model, "model", arrays)
    return ordered(serialise(arrays, metadata={"format": FORMAT, "structure": json.dumps(structure)}))


def load_quantised(path: str | Path) -> QuantisedModel:
    """Read a quantised model.

    Raises
    ------
    ValueError
        If the file is missing or not one that :func:`save` wrote.
    """
    if not Path(path).is_file():
        raise ValueError(f"no quantised model at {path}; give the path of one, or quantise a checkpoint")
    check_readable(path)
    try:
        with safe_open(path, framework="np") as file:
            metadata = file.metadata() or {}
            if metadata.get("format") != FORMAT:
                got = metadata.get("format", "none")
                raise ValueError(f"{path} has format '{got}', expected '{FORMAT}'; quantise the checkpoint again")
            structure = json.loads(metadata["structure"])
            arrays = {name: file.get_tensor(name) for name in file.keys()}
    except SafetensorError as error:
        raise ValueError(f"{path} is not a whole safetensors file ({error}); quantise the checkpoint again") from error
    return _unpack(structure, arrays)


def _pack(value: Any, name: str, arrays: dict[str, np.ndarray]) -> Any:
    if isinstance(value, np.ndarray):
        arrays[name] = np.ascontiguousarray(value)
        return {"array": name}
    if isinstance(value, Network):
        return {"network": value.to_dict()}
    if is_dataclass(value):
        parts = {f.name: _pack(getattr(value, f.name), f"{name}.{f.name}", arrays) for f in fields(value)}
        return {"class": type(value).__name__, "fields": parts}
    if isinstance(value, dict):
        return {"mapping": {key: _pack(item, f"{name}.{key}", arrays) for key, item in value.items()}}
    if isinstance(value, tuple):
        return [_pack(item, f"{name}.{index}", arrays) for index, item in enumerate(value)]
    return value


def _unpack(value: Any, arrays: dict[str, np.ndarray]) -> Any:
    if isinstance(value, list):
        return tuple(_unpack(item, arrays) for item in value)
    if not isinstance(value, dict):
        return value
    if "array" in value:
        return arrays[value["array"]]
    if "network" in value:
        return Network.from_dict(value["network"])
    if "mapping" in value:
        return {key: _unpack(item, arrays) for key, item in value["mapping"].items()}
    parts = {name: _unpack(item, arrays) for name, item in value["fields"].items()}
    return _CLASSES[value["class"]](**parts)
