"""Registers follow their table; a run starts, ends, halts, counts and restarts as the host was promised."""

from __future__ import annotations

import pytest

from tessera.hw.control.control import ControlRegisters, configuration_word
from tessera.hw.presets import preset
from tessera.sim.bench.run import run_testbench
from tests.helpers.on_bus import OnBus
from tests.helpers.units import simulator

UNITS = 6


def control(name):
    return OnBus(ControlRegisters(preset(name), guards=2, errors=1, units=UNITS))


@pytest.mark.parametrize("bench", ["control_bench", "measure_bench"])
@pytest.mark.parametrize("stall", [0.0, 0.5])
@pytest.mark.parametrize("name", ["tiny", "edge"])
def test_control(name, stall, bench):
    config = preset(name)
    run_testbench(
        simulator(control, name),
        f"tests.hw.control.{bench}",
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
    with pytest.raises(ValueError, match="guards and errors are both 0"):
        ControlRegisters(preset("tiny"), guards=0, errors=0, units=1)
