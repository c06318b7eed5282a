"""The same frame in PyTorch on this computer."""

from __future__ import annotations

import time
from dataclasses import dataclass
from statistics import median

import torch

from tessera.sw.data.pictures import scene_picture
from tessera.sw.run.prepare import Prepared

RUNS = 5


@dataclass(frozen=True, kw_only=True)
class HostSpeed:
    """Milliseconds of a frame in PyTorch ``torch`` with so many ``threads``."""

    model: str
    milliseconds: float
    threads: int
    torch: str


def measure_host(prepared: Prepared) -> HostSpeed:
    """Milliseconds of the float model for one frame of the first task: median of some runs after a first one."""
    model = prepared.checkpoint.model
    image = torch.from_numpy(scene_picture(prepared.program.model).image[None])
    seconds = []
    with torch.no_grad():
        for _ in range(RUNS + 1):
            start = time.perf_counter()
            model.run(image, [0])
            seconds.append(time.perf_counter() - start)
    return HostSpeed(
        model=prepared.program.model.name,
        milliseconds=1000 * median(seconds[1:]),
        threads=torch.get_num_threads(),
        torch=torch.__version__,
    )
