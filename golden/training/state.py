"""All that training needs to go on where it stopped, and its file."""

from __future__ import annotations

import io
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tessera.common.files import file_aside
from tessera.golden.model import VisionTransformer


class TrainingState:
    """Model, optimiser, the order of scenes and all random generators, after ``step`` steps.

    ``curve`` has a row of losses for every tenth step; ``minutes`` were spent before the last save.
    """

    def __init__(self, model: VisionTransformer, optimiser: torch.optim.Optimizer, seed: int) -> None:
        self.model = model
        self.optimiser = optimiser
        self.step = 0
        self.curve: list[dict[str, float]] = []
        self.minutes = 0.0
        self._generator = np.random.default_rng(seed)
        self._order = np.empty(0, np.int64)

    def draw(self, pool: int, batch: int) -> tuple[Tensor, bool]:
        """The next ``batch`` of ``pool`` scenes, all of them once before any comes again; and whether mirrored."""
        while len(self._order) < batch:
            self._order = np.concatenate([self._order, self._generator.permutation(pool)])
        rows, self._order = torch.from_numpy(self._order[:batch]), self._order[batch:]
        return rows, bool(self._generator.random() < 0.5)

    def save(self, path: Path, purpose: dict[str, Any]) -> None:
        """Write the state; ``purpose`` (model, recipe, seed, tools) must be equal for whoever resumes.

        Equal states give equal bytes: PyTorch would put the name of a file into it, and a buffer has none.
        """
        content = {
            "purpose": purpose,
            "model": self.model.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "step": self.step,
            "curve": self.curve,
            "minutes": self.minutes,
            "order": torch.from_numpy(self._order.copy()),
            "generator": self._generator.bit_generator.state,
            "noise": torch.get_rng_state(),
            "device_noise": torch.cuda.get_rng_state() if torch.cuda.is_available() else None,
        }
        # Through a buffer: PyTorch writes the name of a file that it opens itself into the archive.
        buffer = io.BytesIO()
        torch.save(content, buffer)
        with file_aside(path) as aside:
            aside.write_bytes(buffer.getbuffer())

    def load(self, path: Path, purpose: dict[str, Any]) -> None:
        """Take over a saved state.

        Raises
        ------
        ValueError
            No file, no whole file, or one of another purpose; the message names what differs.
        """
        if not path.is_file():
            raise ValueError(f"no state to resume from at {path}; begin without --resume")
        try:
            content = torch.load(path, weights_only=True)
            theirs = content["purpose"]
        except (OSError, EOFError, KeyError, RuntimeError, pickle.UnpicklingError) as error:
            raise ValueError(f"{path} is no whole training state ({error}); begin without --resume") from error
        differing = [
            f"{name} {theirs.get(part, {}).get(name)} there, {value} here"
            for part in ("config", "recipe", "tools")
            for name, value in purpose[part].items()
            if theirs.get(part, {}).get(name) != value
        ]
        differing += [
            f"{name} {theirs.get(name)} there, {purpose[name]} here"
            for name in ("seed", "data_version")
            if theirs.get(name) != purpose[name]
        ]
        if differing:
            raise ValueError(
                f"{path} was left by another training ({'; '.join(differing)}); give the same options, or begin "
                "without --resume"
            )
        self.model.load_state_dict(content["model"])
        self.optimiser.load_state_dict(content["optimiser"])
        self.step, self.curve, self.minutes = content["step"], content["curve"], content["minutes"]
        self._order = content["order"].numpy()
        self._generator.bit_generator.state = content["generator"]
        torch.set_rng_state(content["noise"])
        if content["device_noise"] is not None and torch.cuda.is_available():
            torch.cuda.set_rng_state(content["device_noise"])
