"""How often the right class of a whole picture is among those that a model holds most likely."""

from __future__ import annotations

from dataclasses import dataclass

from numpy.typing import NDArray

_FEW = 5


@dataclass(kw_only=True)
class Hits:
    """Counts pictures, and those whose class has the largest logit, or is among the five largest.

    Of equal logits the one of the lower class is the larger.
    """

    pictures: int = 0
    classes: int = 0
    first: int = 0
    among_five: int = 0

    def add(self, logits: NDArray, label: int) -> None:
        """Count a picture with ``logits`` (classes,) of class ``label``."""
        larger = int((logits > logits[label]).sum() + (logits[:label] == logits[label]).sum())
        self.pictures += 1
        self.classes = len(logits)
        self.first += larger == 0
        self.among_five += larger < _FEW

    def include(self, other: Hits) -> None:
        """Count everything that ``other`` has counted, of the same classes."""
        self.pictures += other.pictures
        self.classes = self.classes or other.classes
        self.first += other.first
        self.among_five += other.among_five

    @property
    def top1(self) -> float | None:
        """Share of pictures whose class has the largest logit; None without pictures."""
        return self.first / self.pictures if self.pictures else None

    @property
    def top5(self) -> float | None:
        """Share of pictures whose class is among the five largest; None without pictures, or with five classes."""
        return self.among_five / self.pictures if self.classes > _FEW else None
