"""The whole machine's simulator: the accelerator with trace ports, a memory and the trace writer in one program."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, replace
from functools import lru_cache
from pathlib import Path

from tessera.common.progress import Progress, silent
from tessera.hw.accelerator import Accelerator
from tessera.hw.boards.system import CLIENTS
from tessera.hw.config import AcceleratorConfig
from tessera.hw.sdram.memory import SdramMemory
from tessera.sim.bench import backdoor
from tessera.sim.machine.sdram import SOURCE as CHIP
from tessera.sim.machine.sdram import SdramSettings
from tessera.sim.machine.trace_reader import WIDTH_PARAMETERS
from tessera.sim.models import MODELS
from tessera.sim.verilator.build import build_simulator
from tessera.sim.verilator.options import BuildOptions, Simulator
from tessera.sim.verilator.verilog import Design, export_cached

MEMORY_BYTES = (1 << 25, 1 << 27, 1 << 30)
"""Sizes of the simulated DRAM. Every simulation clears all of it, so builds have no more than their programs need."""
PROFILED_MULTIPLIERS = 256
"""Multipliers from which on a machine is compiled for its load. Smaller machines are built often and run briefly."""


@lru_cache(maxsize=16)
def export_machine(config: AcceleratorConfig) -> Design:
    """Return the accelerator with trace ports as Verilog, from the cache because elaboration takes long."""
    return export_cached(
        lambda: Accelerator(config, trace=True),
        name="accelerator",
        key=config.to_dict(),
    )


@lru_cache(maxsize=16)
def export_sdram(config: AcceleratorConfig, settings: SdramSettings) -> Design:
    """Return a board's SDRAM controller as Verilog."""
    return export_cached(
        lambda: SdramMemory(config, settings.timing, readers=CLIENTS, writers=CLIENTS),
        name="sdram_memory",
        key=[config.to_dict(), asdict(settings.timing)],
    )


def backdoor_memories(config: AcceleratorConfig) -> tuple[str, ...]:
    """Return the on-chip memories that the back door reaches, as ``unit.memory``. Word ``n`` there is the unit's."""
    columns = [f"{unit}.column_{index}" for unit in ("scratchpad", "residual") for index in range(config.columns)]
    return (*columns, "gate.queues.entries")


def memory_bytes(limit: int) -> int:
    """Bytes of the simulated DRAM for a program that ends before the address ``limit``."""
    return next((size for size in MEMORY_BYTES if limit <= size), MEMORY_BYTES[-1])


def build_machine(
    config: AcceleratorConfig,
    *,
    debug: bool = False,
    stock: bool = False,
    sdram: SdramSettings | None = None,
    memory: int = MEMORY_BYTES[0],
    netlist: Path | None = None,
    profile: Callable[[Simulator], object] | None = None,
    on_progress: Progress = silent,
) -> Simulator:
    """Build the machine's simulator, or return the cached one.

    Parameters
    ----------
    config:
        Sizes of the machine.
    debug:
        Whether every signal is visible and waves are possible. This is slower.
    stock:
        Whether to build as cocotb's own runner does, with every signal public: the reference of ``make bench``.
    sdram:
        Board's SDRAM that takes the place of the memory model.
    memory:
        Bytes of the memory model.
    netlist:
        Verilog file that takes the accelerator's place: its cells after synthesis, with their models. The back door
        does not reach the memories of a netlist.
    profile:
        Function that runs a typical load on the simulator that it is given. A fast build of a large machine is then
        compiled for the paths that this load takes. Results are the same without it.
    on_progress:
        Called with the stage ``build``, its fraction, and the step.
    """
    on_progress("build", 0.0, f"design of {config.name}, then its simulator: minutes the first time, then kept")
    design = export_machine(config)
    widths = {port.name: port.width for port in design.ports}
    if netlist:
        design = replace(design, text="")
    if sdram:
        design = replace(design, text=design.text + export_sdram(config, sdram).text)
    parameters: dict[str, int | str] = {
        "BYTES": config.memory_bytes,
        "DEPTH": memory // config.memory_bytes,
        **{parameter: widths[f"trace__{space}__payload"] for space, parameter in WIDTH_PARAMETERS.items()},
    }
    large = config.elements * config.lanes >= PROFILED_MULTIPLIERS

    options = BuildOptions(
        top="machine",
        sources=(
            *(MODELS / "machine.sv", CHIP if sdram else backdoor.SOURCE, MODELS / "trace.cpp"),
            *((netlist,) if netlist else ()),
        ),
        public=[
            (f"accelerator.{path.rpartition('.')[0]}", path.rpartition(".")[2])
            for path in backdoor_memories(config)
            if not netlist
        ],
        parameters=parameters,
        optimise=not debug,
        debug=debug,
        defines={**({"WAVES": 1} if debug else {}), **({"SDRAM": 1} if sdram else {})},
        all_public=stock,
        main=None if debug or stock else MODELS / "machine_main.cpp",
        profile=profile if large and not (debug or stock or netlist) else None,
    )
    return build_simulator(design, options, on_progress)
