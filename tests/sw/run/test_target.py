"""A target refuses what there is not, before anything long begins."""

from dataclasses import replace

import pytest

from tessera.hw.presets import preset
from tessera.sw.quantiser.calibration import Calibration
from tessera.sw.run.target import Target


def test_a_target_is_the_trained_model_on_edge_unless_told_otherwise():
    target = Target()
    assert (target.model, target.config.name, target.calibration) == ("nano", "edge", Calibration.MAX)
    wide = Target(preset="tiny", activation_width=12, calibration="percentile")
    assert wide.config.numerics.activation_width == 12 and wide.calibration is Calibration.PERCENTILE


def test_a_machine_of_ones_own_may_take_the_place_of_a_preset():
    mine = replace(preset("tiny"), name="mine", lanes=8)
    assert Target(preset=mine).config == mine
    assert Target(preset=mine, activation_width=12).config == mine.with_activation_width(12)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"preset": "huge"}, "huge"),
        ({"activation_width": 9}, "9"),
        ({"calibration": "median"}, "unknown calibration 'median'; choose one of: max, percentile, least-error"),
    ],
)
def test_mistakes_are_told(options: dict, words: str):
    with pytest.raises(ValueError, match=words):
        Target(**options)
