"""Verilog (from Amaranth, and SystemVerilog beside it) to a simulator that cocotb drives, cached by content.

Two modes exist:

- fast (default): only the top module's ports, and what ``public`` names, can be seen from Python. Verilator may then
  optimise everything else away, which is worth a factor of four in speed; ``optimise`` adds what else makes long runs
  fast and compilation slow.
- debug (``debug=True``): every signal can be read and written, and a run can record VCD waves.

Assertions of the design are on in both. The cache's key covers every source, option and tool version. Parallel callers
of the same build wait for one of them to finish it.
"""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import asdict
from pathlib import Path

import cocotb_tools.config
from amaranth.lib import wiring

from tessera.common import tools
from tessera.common.cache import Cache, Kind, cache_key
from tessera.common.progress import Progress, silent, within
from tessera.sim.verilator import simplify
from tessera.sim.verilator.cxx import SIGNED, call, compile_simulator, compiler_flags
from tessera.sim.verilator.natural_widths import natural_widths
from tessera.sim.verilator.options import BuildOptions, Simulator
from tessera.sim.verilator.verilog import Design, export_verilog

_VERILATED = 0.1
"""Fraction of a build that Verilator takes, about; the rest is compiling."""
_SIMULATOR = Kind(name="simulator", keep=512)

# Names that are wrong in generated or hand-written Verilog alike, and never merely style.
FATAL_WARNINGS = ("LATCH", "MULTIDRIVEN", "PINMISSING", "IMPLICIT", "COMBDLY", "BLKANDNBLK")


def _control_file(design: Design | None, options: BuildOptions) -> str:
    """Return Verilator's control file: what Python may see, and which warnings of generated text to drop."""
    lines = ["`verilator_config"]
    if design is not None:
        # Widths, unused wires and case overlaps are Amaranth's business; it generates them legally.
        lines += [f'lint_off -rule {rule} -file "*/design.v"' for rule in ("WIDTH", "UNUSED", "CASEOVERLAP")]
    if not (options.debug or options.all_public):
        if design is not None and design.top == options.top:
            header = re.search(rf"^module {design.top}\(([^)]*)\)", design.text, re.MULTILINE)
            names = header[1].split(",") if header else []
            public = [(options.top, name.strip()) for name in names if name.strip()]
        else:
            public = []
        lines += [f'public_flat_rw -module "{module}" -var "{name}"' for module, name in (*public, *options.public)]
    return "\n".join(lines) + "\n"


def _verilator_arguments(options: BuildOptions) -> list[str]:
    """Return the arguments that decide what is generated, without file names."""
    arguments = ["--cc", "--exe", "--vpi", "--assert", "--no-timing", "--prefix", "Vtop", "--top-module", options.top]
    arguments += ["--timescale", "1ns/1ps", "-Wno-fatal", *(f"-Werror-{name}" for name in FATAL_WARNINGS)]
    # Functions of a few thousand statements: the compiler's time grows faster than their length, their speed does not.
    split = ["--output-split", "10000", "--output-split-cfuncs", "2000"]
    arguments += ["-O3", "--x-assign", "fast", *split] if options.optimise else []
    arguments += ["--public-flat-rw"] if options.debug or options.all_public else []
    arguments += ["--trace"] if options.debug else []
    arguments += ["--coverage"] if options.coverage else []
    arguments += [f"-G{name}={value}" for name, value in (options.parameters or {}).items()]
    return arguments + [f"-D{name}={value}" for name, value in (options.defines or {}).items()]


def _design_text(design: Design | None, options: BuildOptions) -> str:
    """Return the exported design as Verilator gets it."""
    if design is None:
        return ""
    text = simplify.loop_zeroing(design.text)
    return natural_widths(simplify.merge_registers(simplify.stop_clocks(text))) if options.fast else text


def _key(design: Design | None, control: str, options: BuildOptions) -> str:
    """Return the cache's key of the build, from everything that can change it."""
    files = (*options.sources, SIGNED, *filter(None, [options.main]))
    return cache_key(
        _design_text(design, options),
        [asdict(port) for port in design.ports] if design else [],
        control,
        _verilator_arguments(options),
        compiler_flags(options),
        options.profile is not None,
        options.level,
        str(cocotb_tools.config.libs_dir),
        [(file.name, file.read_text(encoding="utf-8")) for file in files],
        sources=("sim/verilator/*.py",),
        tools=("verilator", "c++", *(("c++ target",) if options.fast else ())),
    )


def _generate(design: Design | None, control: str, options: BuildOptions, work: Path) -> list[Path]:
    """Run Verilator in ``work`` and return the generated C++ files."""
    sources = [source.resolve() for source in options.sources]
    (work / "control.vlt").write_text(control, encoding="utf-8")
    inputs = [Path("control.vlt")]
    if design is not None:
        (work / "design.v").write_text(_design_text(design, options), encoding="utf-8")
        inputs.append(Path("design.v"))
    inputs += [source for source in sources if source.suffix in (".v", ".sv")]
    log = call(
        [tools.verilator_binary(), *_verilator_arguments(options), "--Mdir", "generated", *inputs],
        cwd=work,
        what="Verilator",
        environment={"VERILATOR_ROOT": str(tools.verilator_root())},
    )
    (work / "verilator.log").write_text(log, encoding="utf-8")
    return sorted((work / "generated").glob("*.cpp"))


def build_simulator(
    target: wiring.Component | Design | None = None,
    options: BuildOptions | None = None,
    on_progress: Progress = silent,
) -> Simulator:
    """Build the simulator of a design, or return the cached one.

    Parameters
    ----------
    target
        An Amaranth component, a design already exported, or None when ``options.sources`` hold everything.
    options
        How to build; the default is a fast build of a unit.
    on_progress
        Called with the stage ``build``, its fraction, and the step: Verilator, then each file that is compiled. A
        cached simulator tells nothing.

    Raises
    ------
    BuildError
        Verilator or the C++ compiler rejected the design.
    ToolError
        No compiler, or no Verilator.
    ValueError
        There is nothing to build, or a source's kind is unknown.
    """
    options = options or BuildOptions()
    if target is None and not options.sources:
        raise ValueError("nothing to build: give a component, or SystemVerilog files in BuildOptions.sources")
    for source in options.sources:
        if source.suffix not in (".v", ".sv", ".cpp"):
            raise ValueError(f"source {source} is neither .v, .sv nor .cpp")
    design = target if target is None or isinstance(target, Design) else export_verilog(target)
    control = _control_file(design, options)

    def make(folder: Path) -> None:
        tools.cxx_compiler()  # whether there is one is said before Verilator's part, which may take long
        ports = [asdict(port) for port in design.ports] if design is not None and design.top == options.top else []
        (folder / "ports.json").write_text(json.dumps(ports, indent=1), encoding="utf-8")
        on_progress("build", 0.0, "Verilator: the design becomes C++")
        generated = _generate(design, control, options, folder)
        compile_simulator(generated, options, folder, within(on_progress, "build", _VERILATED))
        shutil.rmtree(folder / "generated")
        (folder / "versions.json").write_text(
            json.dumps({**tools.tool_versions(), "git": tools.git_id()}, indent=1), encoding="utf-8"
        )

    return Simulator.of(Cache().get(_SIMULATOR, _key(design, control, options), make), options)
