"""What a run is of: a model, and the machine that it is made ready for."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tessera.common.expected import MAYBE, expect, whole
from tessera.golden.seeded.gates import ROUTINGS
from tessera.hw.config import AcceleratorConfig
from tessera.hw.presets import PRESETS
from tessera.hw.presets import preset as find_preset
from tessera.sw.models.find import check_model
from tessera.sw.quantiser.calibration import Calibration
from tessera.sw.run.calibrated import CalibrationImages, check_calibration_images


def machine(preset: str | AcceleratorConfig, activation_width: int = 8) -> AcceleratorConfig:
    """A preset, or a machine of one's own, with the given activation width; ValueError lists what there is."""
    wanted = f"an AcceleratorConfig, or the name of a machine, one of: {', '.join(PRESETS)}"
    expect("preset", preset, (str, AcceleratorConfig), wanted)
    activation_width = whole("activation_width", activation_width)
    config = find_preset(preset) if isinstance(preset, str) else preset
    return config if activation_width == 8 else config.with_activation_width(activation_width)


@dataclass(frozen=True, kw_only=True)
class Target:
    """A model and the machine that it is made ready for.

    Parameters
    ----------
    model:
        Name of a model, or path of a checkpoint: see :func:`tessera.sw.models.find.find_model`.
    preset:
        Name of the machine's configuration, one of :data:`tessera.hw.presets.PRESETS`, or a configuration of one's own.
    activation_width:
        Bits of an activation: 8, 12 or 16.
    routing:
        Loads that a seeded model's gates give, one of :data:`tessera.golden.seeded.gates.ROUTINGS`; None for the
        default.
    calibration:
        Rule for the ranges of activations, or its name.
    calibration_images:
        Pictures of the kind that the model was trained on, from which the ranges follow: a folder, or bytes
        (B, 3, H, W) at the model's size. None takes generated street scenes.

    Raises
    ------
    ValueError
        For an unknown preset, width or rule, a folder without pictures, or a value of another kind. A model is looked
        for when it is loaded.
    """

    model: str | Path = "nano"
    preset: str | AcceleratorConfig = "edge"
    activation_width: int = 8
    routing: str | None = None
    calibration: Calibration = Calibration.MAX
    calibration_images: CalibrationImages | None = None

    def __post_init__(self) -> None:
        check_model(self.model)
        expect("routing", self.routing, (str, MAYBE), f"None, or one of: {', '.join(ROUTINGS)}")
        object.__setattr__(self, "activation_width", whole("activation_width", self.activation_width))
        object.__setattr__(self, "calibration", Calibration.named(self.calibration))
        _ = self.config
        if self.calibration_images is not None:
            check_calibration_images(self.calibration_images)

    @property
    def config(self) -> AcceleratorConfig:
        """The machine."""
        return machine(self.preset, self.activation_width)
