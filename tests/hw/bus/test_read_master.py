"""The read master keeps to AXI4, hands every beat to whoever asked, and stops cleanly on errors."""

from __future__ import annotations

import pytest

from tessera.hw.bus.bursts import BurstSplitter, longest_burst
from tessera.hw.bus.read_master import ReadMaster
from tessera.hw.presets import preset
from tessera.sim.bench.run import BenchFailure, run_testbench
from tests.helpers.on_bus import OnBus
from tests.helpers.units import simulator

BENCH = "tests.hw.bus.read_master_bench"


def master(name):
    return OnBus(ReadMaster(preset(name), 3))


@pytest.mark.parametrize("stall", [0.0, 0.4])
@pytest.mark.parametrize("name", ["tiny", "ecp5-wide", "edge"])
def test_read_master(name, stall):
    run_testbench(simulator(master, name), BENCH, parameters={"stall": stall}, seed=5, test_filter="^(?!.*crosses)")


def test_crossing_a_page_is_caught():
    with pytest.raises(BenchFailure, match="crosses a 4 KiB boundary"):
        run_testbench(simulator(master, "tiny"), BENCH, parameters={"stall": 0.0}, test_filter="crosses_a_page")


def test_no_clients_is_refused():
    with pytest.raises(ValueError, match="at least one"):
        ReadMaster(preset("tiny"), 0)


@pytest.mark.parametrize("beats", [0, 3, 512])
def test_impossible_bursts_are_refused(beats):
    with pytest.raises(ValueError, match=f"burst_beats is {beats}; choose a power of two from 1 to 256"):
        BurstSplitter(preset("ecp5-wide"), beats)


def test_longest_burst_fits_a_page():
    assert [longest_burst(preset(name)) for name in ("tiny", "ecp5-wide", "edge")] == [256, 256, 128]
    assert longest_burst(preset("edge"), 50) == 32
