"""What the original computed beside what the imported float model computes."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from tessera.golden.config import layer_name
from tessera.golden.network.compute import FloatNetwork
from tessera.sw.data.pictures import load_picture
from tessera.sw.models.imported import Imported, Reference

TOLERANCE = 1e-3
"""Relative error beyond which a reference is of other weights, or of another picture: float32 gives 1e-6."""


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """How near the float model comes to a reference.

    Members: the ``reference``; the relative L2 ``error``; the ``largest`` difference of a value.
    """

    reference: Reference
    error: float
    largest: float

    @property
    def holds(self) -> bool:
        """Whether rounding alone explains the difference."""
        return self.error <= TOLERANCE


def compare_references(imported: Imported, model: FloatNetwork) -> list[Agreement]:
    """Run ``model`` on the picture that came with the weights and compare it with each reference; empty without one."""
    if imported.picture is None:
        return []
    pixels = torch.from_numpy(load_picture(imported.picture, imported.config).image[None])
    found = []
    for task in sorted({reference.task for reference in imported.references}):
        capture: dict = {}
        with torch.no_grad():
            model.run(pixels, [task], capture=capture)
        for reference in imported.references:
            if reference.task == task:
                got = capture[f"{layer_name(reference.layer)}.residual"][0].double()
                expected = reference.values.double()
                error = float((got - expected).norm() / expected.norm().clamp(min=1e-30))
                largest = float((got - expected).abs().max())
                found.append(Agreement(reference=reference, error=error, largest=largest))
    return found
