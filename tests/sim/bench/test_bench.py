"""The unit-bench harness: it passes what is right, and catches every way of being wrong."""

from __future__ import annotations

import errno
import shutil
from types import SimpleNamespace

import pytest

from tessera.common.system_errors import in_words
from tessera.sim.bench.run import BenchFailure, BenchOptions, run_testbench
from tessera.sim.verilator.build import build_simulator
from tessera.sim.verilator.cxx import BuildError
from tessera.sim.verilator.options import BuildOptions
from tessera.sim.verilator.verilog import export_verilog
from tests.sim.bench.units import Minimum, Scale

SETTINGS = {"stall": 0.0, "beats": 500, "factor": -7, "expected_factor": -7, "latency": Scale.LATENCY}
BENCH = "tests.sim.bench.scale_bench"


@pytest.mark.parametrize("stall", [0.0, 0.3, 0.8])
def test_right_design_passes(stall):
    result = run_testbench(Scale(4), BENCH, parameters=SETTINGS | {"stall": stall}, seed=3)
    assert result.tests == ("products_are_exact",)
    assert result.outputs["beats"] == 500
    assert not result.directory.exists()


def test_component_without_clock():
    run_testbench(Minimum(), "tests.sim.bench.minimum_bench")


def test_seed_decides_the_stimulus():
    runs = [run_testbench(Scale(4), BENCH, parameters=SETTINGS, seed=seed).outputs for seed in (1, 1, 2)]
    assert runs[0] == runs[1] != runs[2]


@pytest.mark.parametrize("wrong", [{"expected_factor": -6}, {"latency": 2}])
def test_failed_test_is_reported(wrong):
    with pytest.raises(BenchFailure, match=r"seed 5: failed tests: products_are_exact"):
        run_testbench(Scale(4), BENCH, parameters=SETTINGS | wrong, seed=5)


def test_hardware_assertion_is_reported():
    with pytest.raises(BenchFailure, match=r"(?s)a hardware assertion fired.*factor -256 overflows"):
        run_testbench(Scale(4), BENCH, parameters=SETTINGS | {"factor": -256})


def test_filter_that_leaves_no_test_is_a_failure():
    with pytest.raises(BenchFailure, match="no test ran|status"):
        run_testbench(Scale(4), BENCH, parameters=SETTINGS, test_filter="nothing_has_this_name")


def test_module_that_does_not_exist_is_a_failure():
    with pytest.raises(BenchFailure, match="No module named 'tests.sim.absent_bench'"):
        run_testbench(Scale(4), "tests.sim.absent_bench")


def test_endless_simulation_is_ended():
    with pytest.raises(BenchFailure, match=r"still running after 0\.01 s"):
        run_testbench(Scale(4), BENCH, parameters=SETTINGS, options=BenchOptions(timeout_s=0.01))


def test_waves_are_recorded():
    result = run_testbench(Scale(4), BENCH, parameters=SETTINGS, options=BenchOptions(waves=True))
    assert "$enddefinitions" in (result.directory / "waves.vcd").read_text()


def test_same_design_is_built_once():
    first, second = build_simulator(Scale(4)), build_simulator(Scale(4))
    assert first == second
    assert build_simulator(Scale(3)).directory != first.directory
    assert build_simulator(Scale(4), BuildOptions(optimise=True)).directory != first.directory


def test_rejected_source_names_the_reason(tmp_path):
    source = tmp_path / "wrong.sv"
    source.write_text("module top(input a, output b); assign b = c; endmodule\n")
    with pytest.raises(BuildError, match="(?s)Verilator failed.*'c'"):
        build_simulator(options=BuildOptions(sources=[source]))


def test_nothing_to_build_is_refused():
    with pytest.raises(ValueError, match="nothing to build"):
        build_simulator()


def test_export_needs_a_signature():
    with pytest.raises(TypeError, match="no signature"):
        export_verilog(object())


def test_export_repeats_exactly():
    assert export_verilog(Scale(4)) == export_verilog(Scale(4))


@pytest.mark.parametrize("name", ["PYTHONOPTIMIZE", "PYTHONDEVMODE", "PYTHONINSPECT"])
def test_settings_of_python_stay_outside_the_simulator(monkeypatch, name):
    monkeypatch.setenv(name, "1")
    run_testbench(Scale(4), BENCH, parameters=SETTINGS)
    with pytest.raises(BenchFailure, match="failed tests: products_are_exact"):
        run_testbench(Scale(4), BENCH, parameters=SETTINGS | {"expected_factor": -6})


def test_a_full_disk_is_no_failure_of_the_design(monkeypatch, tmp_path):
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: SimpleNamespace(free=0))
    for module in ("sim.bench.run", "common.system_errors"):  # a folder of its own: other tests make runs beside this
        monkeypatch.setattr(f"tessera.{module}.build_folder", lambda: tmp_path)
    with pytest.raises(OSError) as failure:
        run_testbench(Scale(4), BENCH, parameters=SETTINGS | {"latency": 2})
    assert failure.value.errno == errno.ENOSPC and "TESSERA_CACHE" in in_words(failure.value)
    assert not list((tmp_path / "sim" / "runs").iterdir())
