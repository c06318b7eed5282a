"""The machine in somebody else's system: plain Verilog with cocotbext-axi runs a frame, LiteX elaborates one."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tessera.common import tools
from tessera.common.paths import PROJECT_ROOT
from tessera.hw.presets import preset
from tessera.sw.export.ports import core_ports
from tests.helpers.exported import environment, export

VERILOG, LITEX = PROJECT_ROOT / "examples" / "verilog", PROJECT_ROOT / "examples" / "litex"


@pytest.fixture(scope="module")
def core(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export(tmp_path_factory.mktemp("soc") / "core")


def example(script: Path, core: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(script), str(core), *options]
    variables = environment(core.parent / "programs")
    return subprocess.run(command, cwd=core.parent, env=variables, capture_output=True, text=True, timeout=1800)


def test_the_system_in_verilog_connects_every_port():
    text = (VERILOG / "soc.v").read_text()
    connected = re.findall(r"^ +\.(\w+)\(", text, re.MULTILINE)
    ports = core_ports(preset("tiny")).ports
    assert sorted(connected) == sorted(port.name for port in ports)
    left_open = set(re.findall(r"^ +\.(\w+)\(\)", text, re.MULTILINE))
    assert left_open <= {port.name for port in ports if port.constant is not None}


@pytest.mark.soak
def test_the_system_in_verilog_runs_a_frame(core: Path):
    done = example(VERILOG / "run.py", core)
    log = done.stdout + done.stderr
    assert done.returncode == 0, log[-4000:]
    assert "PASS: 1 of 1 tests of soc.v" in log
    assert re.search(r"task0: \d+ cycles, 4224 bytes as expected", log)
    assert re.search(r"task1: \d+ cycles, 4224 bytes as expected", log)


def test_the_system_with_litex_is_elaborated(core: Path, tmp_path: Path):
    done = example(LITEX / "soc.py", core, "-o", str(tmp_path))
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    system = tmp_path / "gateware" / "demo.v"
    instance = re.search(r"^tessera_tiny tessera_tiny\((.*?)^\);", system.read_text(), re.MULTILINE | re.DOTALL)
    assert instance
    connected = re.findall(r"\.(\w+) *\(\S+\)", instance[1])
    assert sorted(connected) == sorted(port.name for port in core_ports(preset("tiny")).ports)
    known = json.loads((tmp_path / "csr.json").read_text())
    assert known["memories"]["tessera"] == {"base": 0x3000_0000, "size": 0x100, "type": "io"}
    assert "tessera_ev_pending" in known["csr_registers"]
    # Widths, as Verilator sees them. Cells of the FPGA are not there.
    command = [str(tools.verilator_binary()), "--lint-only", "-Wno-fatal", "-Wno-MODMISSING", "--top-module", "demo"]
    files = [str(core / "tessera.vlt"), str(core / "tessera_tiny.v"), str(system)]
    lint = subprocess.run([*command, *files], env=environment(tmp_path / "p"), capture_output=True, text=True)
    wrong = re.findall(r"%Error.*|%Warning-(?:PIN\w+|WIDTH\w+): .*tessera_tiny.*pin.*", lint.stderr)
    assert not wrong, lint.stderr[-2000:]
