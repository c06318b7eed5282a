"""A network of your own for ``tessera import --module examples.small_network:make``: a few convolutions and a head.

Run as a program, it writes what training would leave: weights, and a program of ``torch.export``.
"""

from pathlib import Path

import torch
from torch import Tensor, nn


class Network(nn.Module):
    """Ten classes of a picture of 32 x 64."""

    def __init__(self, dim: int = 32) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, dim, 3, stride=4, padding=1), nn.BatchNorm2d(dim), nn.ReLU())
        self.conv = nn.Conv2d(dim, dim, 3, padding=1)
        self.head = nn.Linear(dim, 10)

    def forward(self, pixels: Tensor) -> Tensor:
        """Scores of the classes."""
        x = self.stem(pixels)
        x = x + torch.relu(self.conv(x))
        return self.head(x.mean((2, 3)))


def make() -> nn.Module:
    """The network; `tessera import` calls this, and says with --seed which random weights it draws."""
    return Network()
    # or (Network(), torch.zeros(1, 3, 32, 64)): with an example picture, in the place of --image-size
    # or {"classes": one, "depth": another}: a module for each task


if __name__ == "__main__":
    network = make().eval()
    Path("build").mkdir(exist_ok=True)
    torch.save(network.state_dict(), "build/small.pth")
    torch.export.save(torch.export.export(network, (torch.zeros(1, 3, 32, 64),)), "build/small.pt2")
    print("wrote build/small.pth and build/small.pt2")
