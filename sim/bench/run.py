"""Run cocotb tests against an Amaranth component (or any build) from an ordinary pytest function.

A unit has two files. ``tests/sim/bench/test_bench.py`` runs under pytest::

    from tests.sim.bench.units import Scale
    from tessera.sim.bench.run import run_testbench

    def test_scale():
        run_testbench(Scale(lanes=16), "tests.sim.bench.scale_bench", parameters={"stall": 0.3}, seed=1)

``tests/sim/bench/scale_bench.py`` runs inside the simulator. Every ``cocotb.test`` in it runs; one that calls
``clock_and_reset`` starts from a fresh reset::

    import cocotb
    import numpy as np
    from tessera.sim.bench.streams import StreamDriver, StreamMonitor, clock_and_reset, parameters, rng, write

    @cocotb.test()
    async def products_are_exact(dut):
        await clock_and_reset(dut)
        stall = parameters()["stall"]
        driver = StreamDriver(dut, "i", stall=stall)            # ports i__valid, i__ready, i__payload
        monitor = StreamMonitor(dut, "o", stall=stall)          # ports o__valid, o__ready, o__payload
        x = rng().integers(-128, 128, (1000, 16))
        write(dut.k, -7)                                        # a plain port, signed or not
        driver.send(x)                                          # one row per beat; returns at once
        y = await monitor.receive(len(x))                       # int64 array, signedness from the component
        assert np.array_equal(y, x * -7)

A payload that is a structure is a dictionary from dotted field name to array. The layout comes from the component's
signature, so a bench never states widths. ``tessera.sim.bench.streams`` documents the helpers.

``run_testbench`` raises ``BenchFailure`` when a test fails, when no test ran, or when a hardware assertion stopped the
simulator. It prints nothing on success. ``BenchOptions(waves=True)`` records waves: the build is a debug build, and
the run leaves ``waves.vcd`` in the directory that the result names.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import cocotb_tools.config
import numpy as np
from amaranth.lib import wiring

from tessera.common import tools
from tessera.common.paths import IMPORT_ROOT, build_folder
from tessera.common.processes import started
from tessera.common.system_errors import disk_full
from tessera.sim.verilator.build import build_simulator
from tessera.sim.verilator.options import BuildOptions, Simulator
from tessera.sim.verilator.verilog import Design

LOG_TAIL_LINES = 60
_OUTSIDE = ("PYTHONOPTIMIZE", "PYTHONINSPECT", "PYTHONWARNINGS", "PYTHONDEVMODE")
"""Settings of Python that stay outside the simulator. Benches need their assertions, and cocotb warns of itself."""
_NO_ROOM = 1 << 20
"""Bytes left on a disk below which whatever went wrong is put down to the disk."""


class BenchFailure(AssertionError):
    """A simulation did not end with all its tests passed. The message has the reason and the end of the log."""


@dataclass(frozen=True, kw_only=True)
class BenchOptions:
    """How to run a bench.

    Parameters
    ----------
    plusargs
        Arguments such as ``+image=file.bin`` for the simulated design.
    waves
        Whether to build in debug mode and record ``waves.vcd``.
    keep
        Whether to keep the run's directory after success. A failure always keeps it.
    timeout_s
        Seconds of real time after which the simulator is killed.
    """

    plusargs: Sequence[str] = ()
    waves: bool = False
    keep: bool = False
    timeout_s: float = 300.0


@dataclass(frozen=True, kw_only=True)
class BenchResult:
    """What a passed run left.

    Members
    -------
    tests
        Names of the tests that passed.
    outputs
        Values that the bench gave to ``tessera.sim.bench.streams.record``.
    log
        Output of the simulator.
    directory
        Directory of the run; it still exists only if the options asked for waves or said ``keep``.
    """

    tests: tuple[str, ...]
    outputs: Mapping[str, Any]
    log: str
    directory: Path


def _plain(value: Any) -> Any:
    """Turn NumPy values into what JSON can carry."""
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"a bench parameter of type {type(value).__name__} cannot be passed; give numbers, text or arrays")


def _environment(
    simulator: Simulator, test_module: str, run: Path, seed: int, test_filter: str | None
) -> dict[str, str]:
    """Return the environment that cocotb's own runner would set. It inherits nothing from an outer run."""
    own = ("COCOTB_", "GPI_", "PYGPI_", "TESSERA_BENCH")
    outer = {name: value for name, value in os.environ.items() if not name.startswith(own)}
    environment = {name: value for name, value in outer.items() if name not in _OUTSIDE}
    environment |= {
        "COCOTB_TOPLEVEL": simulator.top,
        "COCOTB_TEST_MODULES": test_module,
        "COCOTB_RESULTS_FILE": str(run / "results.xml"),
        "COCOTB_RANDOM_SEED": str(seed),
        "COCOTB_TRUST_INERTIAL_WRITES": "1",
        "COCOTB_ANSI_OUTPUT": "0",
        "TOPLEVEL_LANG": "verilog",
        "GPI_USERS": f"{tools.libpython()};{cocotb_tools.config.pygpi_entry_point()}",
        "PYGPI_PYTHON_BIN": sys.executable,
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",  # cocotb needs pytest to explain assertions only; plugins cost a second
        "PYTHONPATH": os.pathsep.join([str(IMPORT_ROOT), *(path for path in sys.path if path)]),
        "TESSERA_BENCH_RUN": str(run),
        "TESSERA_BENCH_PORTS": str(simulator.ports_file),
    }
    environment.setdefault("OMP_NUM_THREADS", "1")
    if test_filter is not None:
        environment["COCOTB_TEST_FILTER"] = test_filter
    return environment


def _simulate(command: Sequence[str], environment: Mapping[str, str], run: Path, timeout_s: float) -> str:
    """Run the simulator to its end and return what went wrong, or an empty string."""
    try:
        with (
            (run / "simulation.log").open("wb") as log,
            started(command, cwd=run, env=dict(environment), stdout=log, stderr=subprocess.STDOUT) as process,
        ):
            status = process.wait(timeout_s)
    except subprocess.TimeoutExpired:
        return f"still running after {timeout_s:g} s of real time"
    if status < 0:
        return f"the simulator was ended by {signal.Signals(-status).name}"
    return f"the simulator ended with status {status}" if status else ""


def _check_disks(run: Path, log: str) -> None:
    """Raise OSError if a disk that the simulation writes on is full: its failure is none of the design's."""
    folders = (run, Path(tempfile.gettempdir()))
    full = [folder for folder in folders if shutil.disk_usage(folder).free < _NO_ROOM]
    if full or disk_full(log):
        shutil.rmtree(run, ignore_errors=True)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(full[0] if full else folders[1]))


def _verdict(results: Path) -> tuple[list[str], list[str]]:
    """Return the names of the tests that passed and of those that did not, from the results file."""
    passed: list[str] = []
    failed: list[str] = []
    if results.is_file():
        for case in ElementTree.parse(results).getroot().iter("testcase"):
            name = case.get("name", "?")
            bad = case.find("failure") is not None or case.find("error") is not None
            if case.find("skipped") is None:
                (failed if bad else passed).append(name)
    return passed, failed


def run_testbench(
    target: wiring.Component | Design | Simulator,
    test_module: str,
    *,
    parameters: Mapping[str, Any] | None = None,
    seed: int = 1,
    test_filter: str | None = None,
    options: BenchOptions | None = None,
) -> BenchResult:
    """Run a module's cocotb tests against a target, and raise unless all of them passed.

    Parameters
    ----------
    target
        Simulator, or a component or exported design of which one is built first, with default ``BuildOptions``.
    test_module
        Importable name of the module with the ``cocotb.test`` coroutines.
    parameters
        Values that ``tessera.sim.bench.streams.parameters()`` returns inside the simulator; NumPy arrays arrive as
        lists.
    seed
        Seed of Python's ``random``, of ``tessera.sim.bench.streams.rng`` and of every stall pattern.
    test_filter
        Regular expression; only tests whose name matches run.
    options
        Options of the run.

    Raises
    ------
    BenchFailure
        A test failed, no test ran, an assertion of the hardware fired, or time ran out.
    """
    options = options or BenchOptions()
    simulator = target if isinstance(target, Simulator) else build_simulator(target, BuildOptions(debug=options.waves))
    if options.waves and not simulator.debug:
        raise ValueError("waves=True needs a simulator built with BuildOptions(debug=True)")
    runs = build_folder() / "sim" / "runs"
    runs.mkdir(parents=True, exist_ok=True)
    run = Path(tempfile.mkdtemp(prefix=f"{test_module.rpartition('.')[2]}-", dir=runs))
    (run / "parameters.json").write_text(json.dumps(dict(parameters or {}), default=_plain), encoding="utf-8")

    command = [str(simulator.executable), *options.plusargs]
    command += ["--trace", "--trace-file", str(run / "waves.vcd")] if options.waves else []
    environment = _environment(simulator, test_module, run, seed, test_filter)
    try:
        trouble = _simulate(command, environment, run, options.timeout_s)
    except BaseException:  # ended from outside
        shutil.rmtree(run, ignore_errors=True)
        raise
    passed, failed = _verdict(run / "results.xml")
    if failed:
        trouble = f"failed tests: {', '.join(failed)}" + (f"; {trouble}" if trouble else "")
    elif not passed and not trouble:
        trouble = "no test ran"
    log = (run / "simulation.log").read_text(encoding="utf-8", errors="replace")
    if "Assertion failed in" in log:
        trouble = f"a hardware assertion fired; {trouble}"
    if trouble:
        _check_disks(run, log)
        tail = "\n".join(log.splitlines()[-LOG_TAIL_LINES:])
        raise BenchFailure(f"{test_module}, seed {seed}: {trouble}\nrun kept in {run}\n{tail}")
    recorded = run / "record.json"
    outputs = json.loads(recorded.read_text(encoding="utf-8")) if recorded.is_file() else {}
    if not (options.waves or options.keep):
        shutil.rmtree(run)
    return BenchResult(tests=tuple(passed), outputs=outputs, log=log, directory=run)
