"""What a state dict does not say: options of an import, checked before a file is opened."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from torch import nn

from tessera.common.expected import MAYBE, WrongKindError, described, expect, several, whole

Statistics = tuple[float, ...]
NORMALISATIONS: dict[str, tuple[Statistics, Statistics | None]] = {
    "raw": ((0.0,), None),
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "half": ((0.5,), (0.5,)),
}
"""Mean and deviation taken off pixels in [0, 1]. ``raw``: none, and bytes / 256 as our model takes them."""

COMMON_OPTIONS = frozenset(
    {
        "image_size",
        "trained_size",
        "heads",
        "tasks",
        "pixels",
        "mean",
        "std",
        "epsilon",
        "part",
        "backbone_only",
    }
)
"""Options that every format takes whose checkpoints are state dicts."""

LARGEST_EDGE = 16384
"""Pixels of a side of the largest picture that a model is imported for."""
LARGEST_EPSILON = 1e-2
"""Epsilons of published models are below a thousandth of this."""

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]{0,39}")
_ALL = "all"
"""What ``--task`` takes for every task."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """What a state dict does not say.

    Parameters
    ----------
    image_size:
        Height and width to import the model for; None for those it was trained with. Positions are interpolated.
    trained_size:
        Height and width it was trained with; None if they are equal.
    heads:
        Attention heads; None for those of the published model of that width.
    top_k:
        Experts for each token; None for the usual number.
    tasks:
        Names of the tasks; None for those that the checkpoint suggests.
    pixels:
        One of ``NORMALISATIONS``; None for the format's own.
    mean, std:
        What was taken off pixels in [0, 1] and what they were divided by then, one value or one for each colour; None
        for ``pixels``.
    epsilon:
        What LayerNorm adds to the variance; None for the format's own.
    part:
        Key or prefix of the network to take of a file that holds several; None for the one that is trained.
    backbone_only:
        Leave heads out: the result is the residual stream after the last layer.
    """

    image_size: tuple[int, int] | None = None
    trained_size: tuple[int, int] | None = None
    heads: int | None = None
    top_k: int | None = None
    tasks: tuple[str, ...] | None = None
    pixels: str | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    epsilon: float | None = None
    part: str | None = None
    backbone_only: bool = False

    def check(self) -> None:
        """ValueError for a value that no model can have, or two that exclude each other."""
        self._check_kinds()
        for name in ("image_size", "trained_size"):
            size = getattr(self, name)
            if size is not None and not all(1 <= edge <= LARGEST_EDGE for edge in size):
                raise ValueError(
                    f"--{name.replace('_', '-')} is {size[0]}x{size[1]}; choose sides of 1 to {LARGEST_EDGE:,} pixels"
                )
        if self.tasks is not None:
            check_task_names(self.tasks)
        if self.pixels is not None and self.pixels not in NORMALISATIONS:
            known = ", ".join(NORMALISATIONS)
            raise ValueError(f"unknown normalisation of pixels '{self.pixels}'; choose one of: {known}")
        if self.epsilon is not None and not 0 <= self.epsilon <= LARGEST_EPSILON:
            raise ValueError(f"--epsilon is {self.epsilon:g}; choose 0 to {LARGEST_EPSILON:g}, such as 1e-6")
        self._check_statistics()

    def _check_kinds(self) -> None:
        for name in ("heads", "top_k"):
            if (count := getattr(self, name)) is not None:
                whole(name, count, 1)
        for name in ("image_size", "trained_size"):
            size = getattr(self, name)
            if size is not None and len([whole(name, edge) for edge in several(name, size, "height and width")]) != 2:
                raise ValueError(f"{name} has {len(size)} members; expected height and width")
        for name in ("mean", "std", "epsilon"):
            given = getattr(self, name)
            values = [given] if name == "epsilon" or given is None else several(name, given, "one number or three")
            for value in values:
                if isinstance(value, bool) or not isinstance(value, int | float | MAYBE):
                    raise WrongKindError(f"{name} is {described(value)}; expected a number")
        for task in () if self.tasks is None else several("tasks", self.tasks, "names"):
            expect("a task", task, str, "a name")
        for name in ("pixels", "part"):
            expect(name, getattr(self, name), (str, MAYBE), "a text")
        expect("backbone_only", self.backbone_only, bool, "True or False")

    def _check_statistics(self) -> None:
        mean, std = self.mean, self.std
        if mean is None and std is None:
            return
        if mean is None or std is None:
            raise ValueError("--mean and --std belong together: give both, such as --mean 0.5 --std 0.5")
        if self.pixels is not None:
            raise ValueError(f"--pixels {self.pixels} and --mean say the same in two ways: leave one out")
        for name, values in (("--mean", mean), ("--std", std)):
            if len(values) not in (1, 3) or not all(map(math.isfinite, values)):
                raise ValueError(f"{name} has {len(values)} values; give one finite number, or three with commas")
        if min(std) <= 0:
            raise ValueError(f"--std is {min(std):g}; a deviation is more than 0")
        if max(map(abs, mean)) > 2 or max(std) > 2:
            raise ValueError(
                f"--mean {mean[0]:g} and --std {std[0]:g} look as if pixels went to 255; give them for pixels "
                "from 0 to 1: divide both by 255"
            )

    @property
    def given(self) -> set[str]:
        """Names of those that differ from their defaults."""
        return {name for name, value in vars(self).items() if value is not None and value is not False}


def check_task_names(names: tuple[str, ...]) -> None:
    """ValueError for names that files, PyTorch or the option ``--task`` cannot have, and for one given twice."""
    taken = set(dir(nn.ModuleDict()))
    for name in names:
        if not _NAME.fullmatch(name):
            raise ValueError(
                f"a task cannot be called '{name}': use 1 to 40 letters, digits, _ and -, such as --tasks classes"
            )
        if name in taken or name == _ALL:
            raise ValueError(f"a task cannot be called '{name}', which means something else here: choose another name")
    if len(set(names)) < len(names):
        raise ValueError(f"--tasks names {', '.join(names)}: give each task a name of its own")
