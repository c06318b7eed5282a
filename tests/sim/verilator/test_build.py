"""Builds beyond a plain unit: a top of one's own, C++ beside it, big designs, and callers in parallel."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tessera.common import cache
from tessera.common.paths import PROJECT_ROOT
from tessera.sim.bench.run import BenchFailure, BenchOptions, run_testbench
from tessera.sim.verilator import cxx
from tessera.sim.verilator import options as options_module
from tessera.sim.verilator.build import build_simulator
from tessera.sim.verilator.options import BuildOptions
from tessera.sim.verilator.verilog import export_verilog
from tests.sim.bench.units import Scale

SOURCES = [Path(__file__).with_name("sources") / name for name in ("wrapped.sv", "twice.cpp")]
WRAPPED = "tests.sim.verilator.wrapped_bench"


def wrapped_options(**changes):
    public = [("wrapped", name) for name in ("clk", "rst", "factor", "doubled", "operands")]
    return BuildOptions(**({"top": "wrapped", "sources": SOURCES, "public": public} | changes))


@pytest.mark.parametrize("options", [{}, {"optimise": True}, {"debug": True}, {"coverage": True}], ids=str)
def test_top_of_ones_own(options):
    simulator = build_simulator(export_verilog(Scale(1), name="scale"), wrapped_options(**options))
    result = run_testbench(simulator, WRAPPED, parameters={"cycles": 1000}, options=BenchOptions(keep=True))
    assert (result.directory / "coverage.dat").is_file() == options.get("coverage", False)


@pytest.mark.soak
def test_big_design_compiles_in_parts(tmp_path, monkeypatch):
    compiled, compile_them = [], cxx._compile
    monkeypatch.setattr(cache, "cache_folder", lambda: tmp_path)
    monkeypatch.setattr(cxx, "UNIT_LIMIT", 0)
    monkeypatch.setattr(
        cxx, "_compile", lambda jobs, *more, **where: [compiled.append(jobs), compile_them(jobs, *more, **where)]
    )
    steps: list[tuple[str, float, str]] = []
    design = export_verilog(Scale(1), name="scale")
    simulator = build_simulator(design, wrapped_options(), lambda *step: steps.append(step))
    run_testbench(simulator, WRAPPED, parameters={"cycles": 1})
    stages, fractions, words = zip(*steps, strict=True)
    total = sum(len(jobs) for jobs in compiled if jobs and jobs[0][1].is_relative_to(jobs[0][0].parent))
    assert set(stages) == {"build"} and list(fractions) == sorted(fractions)
    assert (words[0], words[-1]) == ("Verilator: the design becomes C++", "linking")
    numbers = [int(found[1]) for word in words if (found := re.fullmatch(rf"compiling: file (\d+) of {total}", word))]
    assert numbers == [*range(1, total + 1), total] and fractions[-1] == 1
    steps.clear()
    assert build_simulator(design, wrapped_options(), lambda *step: steps.append(step)) == simulator and not steps
    levels = {source.name: level for jobs in compiled for source, _, level in jobs}
    assert levels["slow_0.cpp"] == "-O0" and levels["fast_0.cpp"] == levels["main_0.cpp"] == "-O1"


def test_sources_are_gathered_into_units_of_a_size(tmp_path):
    sources = [tmp_path / f"{index}.cpp" for index in range(5)]
    for source, size in zip(sources, (40, 50, 20, 200, 10), strict=True):
        source.write_text("/" * size)

    def gathered(limit):
        units = cxx._units(sources, tmp_path, "unit", "-O1", limit=limit)
        return [re.findall(r"(\d)\.cpp", unit.read_text()) for unit, _, _ in units]

    assert gathered(100) == [["0", "1"], ["2"], ["3"], ["4"]]
    assert gathered(110) == [["0", "1", "2"], ["3"], ["4"]]
    assert gathered(0) == [[str(index)] for index in range(5)] and gathered(1000) == [list("01234")]


@pytest.mark.soak
def test_training_runs_before_the_final_build(tmp_path, monkeypatch):
    trained = []

    def train(simulator):
        trained.append(simulator.executable.stat().st_size)
        run_testbench(simulator, WRAPPED, parameters={"cycles": 100})
        assert list((simulator.directory / "generated").glob("*.gcda")), "the instrumented build counted nothing"

    monkeypatch.setattr(cache, "cache_folder", lambda: tmp_path)
    monkeypatch.setattr(options_module, "QUICK_BUILDS", False)
    options = wrapped_options(optimise=True, profile=train)
    design = export_verilog(Scale(1), name="scale")
    simulator = build_simulator(design, options)
    assert simulator.executable.stat().st_size < trained[0]
    run_testbench(simulator, WRAPPED, parameters={"cycles": 1000})
    assert simulator == build_simulator(design, options) and len(trained) == 1


def test_only_what_is_public_can_be_seen():
    simulator = build_simulator(export_verilog(Scale(1), name="scale"), wrapped_options(public=[("wrapped", "clk")]))
    with pytest.raises(BenchFailure, match="contains no child object named rst"):
        run_testbench(simulator, WRAPPED, parameters={"cycles": 1})


def test_waves_need_a_debug_build():
    simulator = build_simulator(export_verilog(Scale(1), name="scale"), wrapped_options())
    with pytest.raises(ValueError, match="debug=True"):
        run_testbench(simulator, WRAPPED, options=BenchOptions(waves=True))


def test_callers_in_parallel_share_one_build(tmp_path):
    script = (
        "import sys, pathlib; from tessera.common import cache; cache.cache_folder = lambda: pathlib.Path(sys.argv[1]);"
        "from tests.sim.bench.units import Scale;"
        "from tessera.sim.verilator.build import build_simulator; print(build_simulator(Scale(2)).directory)"
    )
    command = [sys.executable, "-c", script, str(tmp_path)]
    running = [subprocess.Popen(command, cwd=PROJECT_ROOT, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    answers = {process.communicate(timeout=120)[0].strip() for process in running}
    assert len(answers) == 1 and Path(answers.pop()).is_dir()
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")], "a half-made build was left"


def test_unknown_source_is_refused():
    with pytest.raises(ValueError, match="neither"):
        build_simulator(options=BuildOptions(sources=[Path("design.vhd")]))
