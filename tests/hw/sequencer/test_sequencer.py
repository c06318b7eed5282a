"""The sequencer alone: fetch, decode, dispatch order, expert loop, prefetch order, refusals."""

from __future__ import annotations

import pytest
from amaranth.lib.data import StructLayout

from hw.config import AcceleratorConfig, preset
from hw.interfaces.jobs import engine_job_layout
from hw.isa import FIELDS, Opcode
from hw.sequencer.sequencer import Sequencer
from sim.bench.run import run_testbench

NOT_FOR_UNITS = ("opcode", "task_mask", "stream_address", "stream_bytes")


def job_layouts(config: AcceleratorConfig) -> dict[str, StructLayout]:
    """Job layouts of the units, as their commands define them."""

    def fields(opcode: Opcode, **extra: int) -> StructLayout:
        return StructLayout({f.name: f.width for f in FIELDS[opcode] if f.name not in NOT_FOR_UNITS} | extra)

    return {
        "engine": engine_job_layout(config),
        "layernorm": fields(Opcode.LAYERNORM),
        "gate": fields(Opcode.GATE),
        "image": fields(Opcode.LOAD_IMAGE, image_base=32),
        "store": fields(Opcode.STORE, output_base=32),
    }


@pytest.mark.parametrize("name", ["tiny", "ecp5-wide", "edge"])
def test_sequencer(name: str) -> None:
    config = preset(name)
    component = Sequencer(config, job_layouts(config))
    run_testbench(component, "tests.hw.sequencer.sequencer_bench", parameters={"preset": name, "programs": 12}, seed=7)
