"""Post-training quantisation of a float model, without retraining; scales are chosen on a few sample images.

Everything that can be folded exactly is: norms' gains and offsets, channel shifts, key and value biases, zero points of
activation functions, the pixels' 1/256 and the embedding of a task-conditioned router (see docs/numerics.md).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tessera.common.progress import Progress, silent, within
from tessera.golden.integer.parameters import QuantisedModel
from tessera.golden.network.compute import FloatNetwork
from tessera.golden.network.network import Network
from tessera.golden.scenes.scenes import generate_batch
from tessera.hw.formats import Numerics
from tessera.sw.quantiser.calibration import Calibration
from tessera.sw.quantiser.observation import Observation
from tessera.sw.quantiser.sources import Sources
from tessera.sw.quantiser.steps import StepQuantiser

HEADROOM = 1.1
"""Ranges that hold everything are the largest magnitudes seen on the calibration images times this."""

CALIBRATION_SCENES = range(32)
"""Training scenes to calibrate with unless told otherwise."""


def quantise(
    model: FloatNetwork,
    images: NDArray[np.uint8],
    numerics: Numerics,
    *,
    calibration: Calibration = Calibration.MAX,
    headroom: float = HEADROOM,
    on_progress: Progress = silent,
) -> QuantisedModel:
    """Quantise ``model`` for a machine with ``numerics``.

    Parameters
    ----------
    model:
        The float model.
    images:
        (B, 3, H, W) bytes to calibrate with; every task runs on each.
    numerics:
        Number formats of the machine.
    calibration:
        How the range of an activation is chosen.
    headroom:
        Factor from the largest magnitude seen to a range that holds everything, at least 1.
    on_progress:
        Callback for the stage ``quantise``.

    Raises
    ------
    ValueError
        Without images, for a headroom below 1, or for a model that the formats cannot hold.
    """
    if not len(images):
        raise ValueError("no calibration images; give at least one")
    if headroom < 1:
        raise ValueError(f"headroom is {headroom}; choose at least 1, or calibrated values saturate")
    told = within(on_progress, "quantise", detail="")
    seen = Observation(model, images, told, histograms=calibration.needs_histogram)
    sources = Sources(seen, numerics, calibration, headroom)
    parameters = StepQuantiser(sources).parameters
    return QuantisedModel(
        network=model.network,
        activation_width=numerics.activation_width,
        residual_width=numerics.residual_width,
        parameters={step.name: parameters[step.name] for step in seen.plan.steps if step.name in parameters},
        scales=sources.scales,
        peaks=seen.peaks.found,
    )


def calibration_images(network: Network, indices: range = CALIBRATION_SCENES) -> NDArray[np.uint8]:
    """Scenes at the network's size, (count, 3, H, W) bytes; by default the first training scenes."""
    size = {"height": network.image_height, "width": network.image_width}
    return np.ascontiguousarray(generate_batch(indices, **size).image.transpose(0, 3, 1, 2))
