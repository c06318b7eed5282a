"""Models by name: trained ones lie in models/, seeded ones are made when first asked for and cached."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from tessera.common.cache import Cache, Kind, cache_key
from tessera.common.expected import PATH, WrongKindError, described
from tessera.common.paths import PROJECT_ROOT
from tessera.common.progress import Progress, silent, within
from tessera.golden import checkpoint
from tessera.golden.checkpoint import Checkpoint, CheckpointError
from tessera.golden.config import MODELS
from tessera.golden.scenes.scenes import DATA_VERSION
from tessera.golden.seeded.gates import ROUTINGS
from tessera.golden.seeded.seeded import seeded_model

TRAINED_MODELS = PROJECT_ROOT / "models"
SEEDED = ("m3vit-backbone", "deit-small", "pico")
"""Geometries that are there without training, with seeded weights."""

SEED = 0
DEFAULT_ROUTING = "balanced"

_MADE = Kind(name="model", keep=6, suffix=".safetensors")


def check_model(model: object) -> None:
    """Raise WrongKindError unless ``model`` is a name or a path; for a network it says how it becomes one."""
    if isinstance(model, PATH):
        return
    wanted = "the name of a model, such as 'nano', or the path of a .safetensors file"
    if hasattr(model, "state_dict") or isinstance(model, Mapping):
        wanted += "; write a network's state_dict() to a file with torch.save, and import that: `tessera import` or "
        wanted += "tessera.import_weights"
    raise WrongKindError(f"model is {described(model)}; expected {wanted}")


def find_model(model: str | Path, routing: str | None = None, *, on_progress: Progress = silent) -> Path:
    """The file of a model: ``nano`` is ``models/nano.safetensors``, anything like a path is a path.

    A seeded model is made first, in seconds, unless a trained one has its name.

    Parameters
    ----------
    model:
        Name or path.
    routing:
        Loads that the gates of a seeded model are to give; None for its default. Others have gates of their own, and
        :func:`check_routing` says so.
    on_progress:
        Callback for the stage ``load`` while a model is made.

    Raises
    ------
    CheckpointError
        For a name that no model has.
    ValueError
        For an unknown routing, or something else than a name or a path.
    """
    check_model(model)
    if routing is not None and routing not in ROUTINGS:
        raise ValueError(f"unknown routing '{routing}'; choose one of: {', '.join(ROUTINGS)}")
    text = os.fspath(model)
    if "/" in text or Path(text).suffix:
        return Path(text)
    path = TRAINED_MODELS / f"{text}.safetensors"
    if path.is_file():
        return path
    if text in SEEDED:
        return _make(text, routing or DEFAULT_ROUTING, on_progress)
    trained = ", ".join(sorted(file.stem for file in TRAINED_MODELS.glob("*.safetensors"))) or "none (run `make train`)"
    raise CheckpointError(
        f"unknown model '{text}'; trained models: {trained}; seeded models: {', '.join(SEEDED)}; "
        "or give the path of a .safetensors file"
    )


def check_routing(found: Checkpoint, routing: str | None) -> None:
    """Raise ValueError if ``routing`` is asked for and ``found`` has other gates."""
    if routing is not None and routing != found.routing:
        gates = "its own gates" if found.routing == "model" else f"gates for {found.routing} routing"
        raise ValueError(
            f"routing '{routing}' is for seeded models ({', '.join(SEEDED)}); model '{found.network.name}' is "
            f"{found.weights} and has {gates}: leave --routing out, or choose a seeded model by its name"
        )


def _make(name: str, routing: str, on_progress: Progress) -> Path:
    key = cache_key(SEED, sources=("golden/**/*.py",), tools=("python", "numpy", "torch", "processor"))

    def make(file: Path) -> None:
        told = within(on_progress, "load", detail=f"making {name}, seeded")
        model = seeded_model(MODELS[name], SEED, routing, on_progress=told)
        origin = Checkpoint.of(model, seed=SEED, data_version=DATA_VERSION, weights="seeded", routing=routing)
        checkpoint.save(file, origin)

    return Cache().get(_MADE, f"{name}-{routing}-{key}", make)
