"""Checkpoints: safetensors files that carry the model's geometry and origin in their metadata."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as serialise
from torch import Tensor

from tessera.common.files import check_readable, file_aside
from tessera.common.summary import Summarised, Summary
from tessera.golden.config import ModelConfig
from tessera.golden.model import VisionTransformer
from tessera.golden.network.compute import FloatNetwork
from tessera.golden.network.network import Network
from tessera.golden.network.operators import MixExperts
from tessera.golden.network.transformer import transformer
from tessera.golden.network.words import layers, made_of
from tessera.golden.tensor_files import ordered

FORMAT = "tessera-checkpoint-2"
_BEFORE = "tessera-checkpoint-1"
"""Files of before networks were graphs: they hold a geometry of this project's own transformer."""

IMPORT_FIRST = "import it first, with `tessera import` or tessera.import_weights"


class CheckpointError(ValueError):
    """A file is no usable checkpoint; the message says what was found and what to do."""


@dataclass(frozen=True, kw_only=True, repr=False)
class Checkpoint(Summarised):
    """A model with its origin.

    Parameters
    ----------
    model:
        The float model.
    geometry:
        Of a model of :class:`tessera.golden.model.VisionTransformer`, which can be trained further; None for others.
    seed, data_version:
        What the weights were made from: the seed of weights and batches, and the version of the procedural scenes. 0
        for imported weights.
    weights:
        Where the weights come from: ``trained``, ``seeded`` (made, not trained) or ``imported``.
    source:
        Format that imported weights were read from, such as ``edge-moe``; otherwise empty.
    assumed:
        What an import assumed or left out, a line each.
    routing:
        Where the gates come from: ``model`` (they are the model's own), or the mode that seeded gates were made for.
    metrics:
        Held-out metrics, as in the JSON file written beside the checkpoint.
    tools:
        Versions of the software that wrote it.
    """

    model: FloatNetwork
    geometry: ModelConfig | None = None
    seed: int = 0
    data_version: int = 0
    weights: str = "trained"
    source: str = ""
    assumed: Sequence[str] = ()
    routing: str = "model"
    metrics: Mapping[str, Any] = field(default_factory=dict)
    tools: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, transformer: VisionTransformer, **origin: Any) -> Checkpoint:
        """The checkpoint of one of this project's own transformers; ``origin`` are the other members."""
        return cls(model=transformer.as_network(), geometry=transformer.config, **origin)

    def summary(self) -> Summary:
        """Its geometry and origin."""
        network = self.network
        count, mixtures = layers(network), len(network.of_kind(MixExperts))
        rows = (
            ("weights", self.weights + (f" ({self.source})" if self.source else "")),
            ("pictures", f"{network.image_height} x {network.image_width}"),
            ("operators", f"{len(network.operators)}"),
            ("layers", f"{count}, {mixtures} with experts") if count else ("made of", made_of(network)),
            ("tasks", ", ".join(f"{task.name} ({task.kind})" for task in network.tasks)),
        )
        return Summary(title=network.name, rows=rows)

    @property
    def network(self) -> Network:
        """The model's graph."""
        return self.model.network


def training_tools() -> dict[str, str]:
    """Versions of Python and PyTorch, recorded because training is reproducible only for equal ones."""
    return {"python": platform.python_version(), "torch": str(torch.__version__)}


def save(path: str | Path, checkpoint: Checkpoint, *, half: bool = False) -> None:
    """Write ``checkpoint`` to ``path``: written aside, then renamed, so that readers never see half a file.

    Equal checkpoints give equal bytes. ``half`` stores half precision; the model should have been rounded to it.
    Loading gives float32 in either case.
    """
    metadata = {
        "format": FORMAT,
        "network": json.dumps(checkpoint.network.to_dict()),
        "config": json.dumps(checkpoint.geometry.to_dict() if checkpoint.geometry else None),
        "seed": str(checkpoint.seed),
        "data_version": str(checkpoint.data_version),
        "weights": checkpoint.weights,
        "source": checkpoint.source,
        "assumed": json.dumps(list(checkpoint.assumed)),
        "routing": checkpoint.routing,
        "metrics": json.dumps(dict(checkpoint.metrics)),
        "tools": json.dumps(dict(checkpoint.tools) or training_tools()),
    }
    tensors = {name: value.detach().cpu().contiguous() for name, value in checkpoint.model.weights.items()}
    if half:
        tensors = {name: value.half() for name, value in tensors.items()}
    with file_aside(path) as aside:
        aside.write_bytes(ordered(serialise(tensors, metadata=metadata)))


def build(config: ModelConfig, tensors: Mapping[str, Tensor], *, source: str) -> VisionTransformer:
    """Build a model from named tensors; every missing, unexpected or misshapen one is listed in one error.

    Parameters
    ----------
    config:
        Geometry that the tensors must fit.
    tensors:
        State dict with the names of :class:`tessera.golden.model.VisionTransformer`.
    source:
        What to call the origin in messages.

    Raises
    ------
    CheckpointError
        If any tensor is missing, unexpected, of the wrong shape or not finite.
    """
    model = VisionTransformer(config)
    expected = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    _check(config.name, expected, tensors, source)
    model.load_state_dict({name: tensors[name].float() for name in expected})
    return model.eval()


def _check(model: str, expected: Mapping[str, tuple[int, ...]], tensors: Mapping[str, Tensor], source: str) -> None:
    """Raise CheckpointError unless ``tensors`` are those that are ``expected``, and finite."""
    problems = [f"missing: {name} {shape}" for name, shape in expected.items() if name not in tensors]
    problems += [f"unexpected: {name} {tuple(tensors[name].shape)}" for name in tensors if name not in expected]
    for name, shape in expected.items():
        if name in tensors and tuple(tensors[name].shape) != shape:
            problems.append(f"wrong shape: {name} is {tuple(tensors[name].shape)}, expected {shape}")
        elif name in tensors and not torch.isfinite(tensors[name]).all():
            problems.append(f"not finite: {name}")
    if problems:
        raise CheckpointError(
            f"{source} does not fit model '{model}' ({len(problems)} tensors):\n  "
            + "\n  ".join(problems)
            + "\nUse the configuration that the weights were trained with."
        )


def load(path: str | Path) -> Checkpoint:
    """Read a checkpoint.

    Raises
    ------
    CheckpointError
        If the file is missing, not a (whole) safetensors file, lacks its metadata, or its tensors don't fit.
    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"no checkpoint at {path}; give the path of a .safetensors file, or train one")
    check_readable(path)
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}
    except (SafetensorError, OSError) as error:
        if _of_torch(path):
            raise CheckpointError(f"{path} is a file of torch.save, no checkpoint yet: {IMPORT_FIRST}") from None
        raise CheckpointError(
            f"{path} is not a whole safetensors file ({error}); it may be truncated: fetch or train it again"
        ) from error
    missing = [key for key in ("format", "config", "seed", "data_version", "metrics", "tools") if key not in metadata]
    if missing:
        raise CheckpointError(
            f"{path} has no metadata {', '.join(missing)}; it was not written by this project: {IMPORT_FIRST}"
        )
    if metadata["format"] not in (FORMAT, _BEFORE):
        raise CheckpointError(
            f"{path} has format '{metadata['format']}', this version reads '{FORMAT}'; fetch or train it again"
        )
    try:
        plain = json.loads(metadata["config"])
        geometry = None if plain is None else ModelConfig.from_dict(plain)
        network = _network(metadata, geometry, tensors)
        origin: dict[str, Any] = {
            "seed": int(metadata["seed"]),
            "data_version": int(metadata["data_version"]),
            "weights": metadata.get("weights", "trained"),
            "source": metadata.get("source", ""),
            "assumed": tuple(json.loads(metadata.get("assumed", "[]"))),
            "routing": metadata.get("routing", "model"),
            "metrics": json.loads(metadata["metrics"]),
            "tools": json.loads(metadata["tools"]),
        }
    except (ValueError, TypeError, KeyError) as error:
        raise CheckpointError(f"{path} has unreadable metadata ({error}); write the checkpoint again") from error
    _check(network.name, network.weights, tensors, str(path))
    weights = {name: tensors[name].float() for name in network.weights}
    return Checkpoint(model=FloatNetwork(network, weights), geometry=geometry, **origin)


def _network(metadata: Mapping[str, str], geometry: ModelConfig | None, tensors: Mapping[str, Tensor]) -> Network:
    """The graph that a file holds, or that of its geometry; what is wrong with its tensors is told later."""
    if "network" in metadata:
        return Network.from_dict(json.loads(metadata["network"]))
    if geometry is None:
        raise ValueError("it has neither a network nor a geometry")
    with torch.device("meta"):
        model = VisionTransformer(geometry)
    return transformer(geometry, {name: tuple(value.shape) for name, value in model.state_dict().items()})


def _of_torch(path: Path) -> bool:
    """Whether a file begins as those of ``torch.save`` do: as an archive, or, of old versions, as a pickle."""
    with suppress(OSError), open(path, "rb") as file:
        return file.read(4).startswith((b"PK\x03\x04", b"\x80\x02"))
    return False
