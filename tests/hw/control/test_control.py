"""Registers follow their table; a run starts, ends, halts, counts and restarts as the host was promised."""

from __future__ import annotations

import pytest

from hw.control.control import ControlRegisters, configuration_word
from hw.presets import preset
from sim.bench.run import run_testbench
from tests.helpers.units import simulator

UNITS = 6


@pytest.mark.parametrize("stall", [0.0, 0.5])
@pytest.mark.parametrize("name", ["tiny", "edge"])
def test_control(name, stall):
    config = preset(name)
    run_testbench(
        simulator(ControlRegisters, config, 3, UNITS),
        "tests.hw.control.control_bench",
        parameters={
            "stall": stall,
            "configuration": configuration_word(config),
            "max_commands": config.max_commands,
            "units": UNITS,
        },
        seed=9,
    )


def test_configuration_word():
    assert configuration_word(preset("edge")) == 4 | 4 << 4 | 5 << 8 | 8 << 16 | 18 << 24


def test_no_error_source_is_refused():
    with pytest.raises(ValueError, match="error_sources is 0"):
        ControlRegisters(preset("tiny"), 0, 1)
