"""The sequencer alone: fetch, decode, dispatch order, expert loop, prefetch order, refusals."""

from __future__ import annotations

import pytest

from tessera.hw.presets import preset
from tessera.hw.sequencer.sequencer import Sequencer
from tessera.sim.bench.run import run_testbench


@pytest.mark.parametrize("name", ["tiny", "ecp5-wide", "edge"])
def test_sequencer(name: str) -> None:
    config = preset(name)
    component = Sequencer(config)
    run_testbench(component, "tests.hw.sequencer.sequencer_bench", parameters={"preset": name, "programs": 12}, seed=7)
