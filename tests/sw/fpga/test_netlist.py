"""Cells after synthesis behave as the unit that they were made of: the models of the cells, and Yosys' mapping."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
from amaranth.back import rtlil
from amaranth.lib import wiring

from tessera.common.progress import silent
from tessera.hw.config import AcceleratorConfig
from tessera.hw.ecp5.platform import Ecp5
from tessera.hw.memory.scratchpad import Scratchpad
from tessera.hw.presets import preset
from tessera.hw.softmax.softmax import Softmax
from tessera.sim.bench.run import BenchFailure, run_testbench
from tessera.sim.verilator.netlist import simulation_source
from tessera.sim.verilator.verilog import Design, describe_ports
from tessera.sw.fpga.synthesis.yosys import synthesise, write_verilog


def cells(unit: wiring.Component, work: Path) -> Design:
    """What Yosys makes of a unit, with the models of its cells."""
    design = rtlil.convert(unit, name="top", emit_src=False, platform=Ecp5())
    synthesise(design, work, silent, netlist=True)
    write_verilog(work, "top", "netlist.v")
    text = simulation_source((work / "netlist.v").read_text())
    return Design(top="top", text=text, ports=describe_ports(unit))


@pytest.mark.soak
def test_block_ram_with_two_ports(tmp_path: Path) -> None:
    """Rows of blocks, columns written apart; what is broadcast while it is written would come out wrong."""
    config = AcceleratorConfig(name="rows", elements=2, lanes=8, memory_bytes=4, scratchpad_words=2500)
    design = cells(Scratchpad(config), tmp_path)
    assert design.text.count("  DP16KD #") > 4
    names = "every_access_is_exact|loads_keep_order|addresses_beyond_are_reported"
    settings = {"config": config.to_dict(), "cycles": 4000, "write_pressure": 0.5}
    run_testbench(design, "tests.hw.memory.scratchpad_bench", parameters=settings, seed=13, test_filter=names)


@pytest.mark.soak
def test_tables_multipliers_and_carries(tmp_path: Path) -> None:
    """Softmax has all of them; wrong bits in a table do not go unnoticed."""
    config = preset("tiny")
    unit = Softmax(config)
    design = cells(unit, tmp_path)
    assert all(f"  {cell} " in design.text for cell in ("MULT18X18D", "DP16KD", "CCU2C", "TRELLIS_FF", "LUT4"))
    settings = {"config": config.to_dict(), "stall": 0.4, "overhead": unit.overhead}
    bench = {"parameters": settings, "test_filter": "tiles", "seed": 7}
    run_testbench(design, "tests.hw.softmax.softmax_bench", **bench)
    wrong = re.sub(r"(?<=INITVAL_0.\(320'h)\w+", lambda found: found[0].replace("7", "6"), design.text)
    assert wrong != design.text
    broken = replace(design, text=wrong)
    with pytest.raises(BenchFailure):
        run_testbench(broken, "tests.hw.softmax.softmax_bench", **bench)
