"""Training scenes held in memory, with the targets of both heads."""

from __future__ import annotations

import torch
from torch import Tensor

from tessera.common.progress import Progress
from tessera.golden import metrics
from tessera.golden.config import ModelConfig
from tessera.golden.scenes import scenes
from tessera.golden.scenes.common import CLASS_NAMES


class ScenePool:
    """Scenes 0 to ``size`` - 1: images, labels, and depth averaged over each cell as the head's target.

    ``on_progress`` is the callback for the stage ``scenes``; ``device`` is where the batches shall be.
    """

    def __init__(
        self,
        config: ModelConfig,
        size: int,
        cell: int,
        on_progress: Progress,
        device: torch.device | str = "cpu",
    ) -> None:
        height, width = config.image_height, config.image_width
        self.device = torch.device(device)
        self.images = torch.empty(size, 3, height, width, dtype=torch.uint8)
        self.labels = torch.empty(size, height, width, dtype=torch.uint8)
        self.depths = torch.empty(size, 1, height // cell, width // cell)
        for index in range(size):
            scene = scenes.generate(index, height=height, width=width)
            self.images[index] = torch.from_numpy(scene.image).permute(2, 0, 1)
            self.labels[index] = torch.from_numpy(scene.label)
            mean = scene.depth.reshape(height // cell, cell, width // cell, cell).mean(axis=(1, 3))
            self.depths[index, 0] = torch.from_numpy(metrics.depth_to_output(mean))
            if index % 64 == 63 or index == size - 1:
                on_progress("scenes", (index + 1) / size, "")

    def __len__(self) -> int:
        """Number of scenes."""
        return len(self.images)

    def class_weights(self, rarity: float) -> Tensor:
        """Class weights frequency ** -rarity, scaled so that the mean weight of a pixel is 1."""
        counts = sum(torch.bincount(part.flatten(), minlength=len(CLASS_NAMES)) for part in self.labels.split(256))
        share = counts.double().clamp(min=1) / counts.sum()  # type: ignore[union-attr]
        weights = share**-rarity
        return (weights / (share * weights).sum()).float().to(self.device)

    def batch(self, rows: Tensor, mirror: bool) -> tuple[Tensor, Tensor, Tensor]:
        """Images, labels and depth targets of some scenes, as they are or mirrored."""
        parts = [part[rows].to(self.device) for part in (self.images, self.labels, self.depths)]
        images, labels, depths = (part.flip(-1) if mirror else part for part in parts)
        return images, labels, depths
