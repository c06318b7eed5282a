"""The TOML file that describes a dataset of the user's own: what it says, and what is wrong with it."""

from __future__ import annotations

import json
import math
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tessera.golden.metrics import IGNORE
from tessera.golden.scenes.common import DEPTH_CAP
from tessera.sw.data import files
from tessera.sw.data.dataset import DEPTH, SEGMENTATION, listed
from tessera.sw.data.file_pattern import FilePattern
from tessera.sw.data.picture_files import load_file
from tessera.sw.data.schema_problems import schema_problems

FILE = "dataset.toml"
"""Name of the file in a folder."""

TRUTH_KEYS = {SEGMENTATION: "labels", DEPTH: "depth"}
"""Key of the pattern of each kind of truth."""

_SCHEMA = Path(__file__).with_name("described.json")


@dataclass(frozen=True)
class Description:
    """What a TOML file says of a dataset: ``path`` of the file, ``content`` as its schema has it."""

    path: Path
    content: Mapping[str, Any]

    @property
    def root(self) -> Path:
        """The folder that patterns begin in."""
        return self.path.parent

    @property
    def name(self) -> str:
        """What results call the dataset."""
        return self.content.get("name") or self.path.absolute().parent.name

    @property
    def class_names(self) -> tuple[str, ...]:
        """Classes of the labels, in order."""
        return tuple(self.content.get("classes", ()))

    @property
    def splits(self) -> tuple[str, ...]:
        """Names of the splits."""
        return tuple(self.content["split"])

    @property
    def tasks(self) -> tuple[str, ...]:
        """Kinds of tasks that any split has truth for."""
        return tuple(
            kind for kind, key in TRUTH_KEYS.items() if any(key in one for one in self.content["split"].values())
        )

    def patterns(self, split: str) -> dict[str, FilePattern]:
        """Patterns of a split, by key."""
        return {key: FilePattern(root=self.root, text=text) for key, text in self.content["split"][split].items()}

    @cached_property
    def values(self) -> dict[int, int]:
        """Class of each value of a class map."""
        given = self.content.get("labels", {}).get("values")
        if given is None:
            return {number: number for number in range(len(self.class_names))}
        return {int(value): self.class_names.index(name) for value, name in given.items()}

    def classes_of(self, path: Path, image: NDArray) -> NDArray[np.uint8]:
        """Read the class map of a picture; ValueError for values of no class."""
        raw, told = files.read_labels(path, "labels"), self.content.get("labels", {})
        ignored = np.isin(raw, told.get("ignore", [IGNORE]))
        if told.get("ignore_others"):
            ignored |= ~np.isin(raw, list(self.values))
        table = np.full(max(self.values) + 1, -1)
        table[list(self.values)] = list(self.values.values())
        classes = files.remap(np.where(ignored, next(iter(self.values)), raw), table, path)
        files.check_size(path, classes, image)
        return np.where(ignored, np.uint8(IGNORE), classes)

    def depth_of(self, path: Path, image: NDArray) -> NDArray[np.float32]:
        """Read the depth map of a picture, in metres; NaN where there is none, infinite beyond the farthest.

        ValueError for integers, if nothing says how many metres one of them is.
        """
        raw, told = _raw_depth(path), self.content.get("depth", {})
        self._check_unit(path, raw)
        known = ~np.isin(raw, told.get("invalid", []))
        metres = np.where(known, raw.astype(np.float64) * told.get("metres", 1.0), 0.0)
        files.check_size(path, metres, image)
        return files.as_depth(metres, told.get("farthest", DEPTH_CAP))

    def check_unit(self, path: Path) -> None:
        """ValueError if the depths of a file have no unit. Of a damaged file :meth:`depth_of` tells."""
        try:
            raw = _raw_depth(path)
        except ValueError:
            return
        self._check_unit(path, raw)

    def _check_unit(self, path: Path, raw: NDArray) -> None:
        if raw.dtype.kind != "f" and "metres" not in self.content.get("depth", {}):
            raise ValueError(
                f"{path} has depths in integers ({raw.dtype}), and {self.path} does not say how many metres one of "
                "them is: add 'metres' to its table [depth], such as metres = 0.001 for millimetres"
            )


def read_description(path: Path) -> Description:
    """Read the TOML file of a dataset.

    Raises
    ------
    ValueError
        If there is none, it is not TOML, or not as its schema says; an unknown key is named with the nearest known one.
    """
    if not path.is_file():
        raise ValueError(f"there is no description of a data set at {path}; docs/formats.md says what it holds")
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8-sig"))  # some editors put a mark at the beginning
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not TOML: byte {error.start} is not UTF-8; save it as UTF-8") from None
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise ValueError(f"{path} is not TOML: {error}") from None
    problems = schema_problems(content, json.loads(_SCHEMA.read_text(encoding="utf-8"))) or [
        *_problems(Description(path, content))
    ]
    if problems:
        lines = "".join(f"\n  {line}" for line in problems)
        raise ValueError(f"{path} does not describe a data set (docs/formats.md):{lines}")
    return Description(path, content)


def _raw_depth(path: Path) -> NDArray:
    if path.suffix in (".npy", ".mat"):
        return files.read_array(path, "depth")
    picture = load_file(path).picture
    bands = len(picture.getbands())
    if bands != 1:
        raise ValueError(f"{path} has {bands} channels, expected one with a depth for each pixel")
    return np.asarray(picture)


def _problems(description: Description) -> list[str]:
    """What is wrong with a file that is as the schema says."""
    content, names, lines = description.content, description.class_names, []
    for key in ("metres", "farthest"):
        if not math.isfinite(given := content.get("depth", {}).get(key, 1)):
            lines.append(f"depth.{key} is {given}, expected a finite number above 0")
    for kind, needs in ((SEGMENTATION, ("classes", "labels")), (DEPTH, ("depth",))):
        unused = [key for key in needs if key in content and kind not in description.tasks]
        lines += [f"'{key}' has no effect, because no split has {TRUTH_KEYS[kind]}" for key in unused]
    if SEGMENTATION in description.tasks and not names:
        lines.append(
            "splits have labels, but 'classes' is missing: name the classes in the order of the model's channels"
        )
    for value, name in content.get("labels", {}).get("values", {}).items():
        if names and name not in names:
            lines.append(f"labels.values.{value} is '{name}', which is none of the classes: {listed(list(names))}")
    for split in description.splits:
        patterns = description.patterns(split)
        for key, pattern in patterns.items():
            try:
                pattern.check_counterpart(patterns["pictures"])
            except ValueError as error:
                lines.append(f"split.{split}.{key}: {error}")
    return lines
