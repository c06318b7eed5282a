"""Where a program, its weights, the image and the results lie in the accelerator's memory."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, kw_only=True)
class MemoryMap:
    """Byte addresses in the accelerator's memory; ``limit`` is the first byte beyond all regions.

    The output region begins with the results. Behind them it may hold rows that STORE writes for a later LOAD_RESIDUAL.
    """

    program: int
    program_bytes: int
    weights: int
    weights_bytes: int
    image: int
    image_bytes: int
    output: int
    output_bytes: int
    limit: int


@dataclass(frozen=True, kw_only=True)
class Output:
    """Result of one task in the output region: ``shape`` (rows, channels), a row every ``row_bytes``."""

    task: str
    shape: tuple[int, int]
    row_bytes: int

    def read(self, region: np.ndarray) -> np.ndarray:
        """Result from the bytes of the output region: int32 (rows, channels), in the residual's format."""
        rows, channels = self.shape
        words = np.ascontiguousarray(region[: rows * self.row_bytes]).view("<i4").reshape(rows, -1)
        return words[:, :channels].copy()
