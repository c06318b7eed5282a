"""The exported Verilog: words that every tool knows, and no warning of Verilator that is not explained."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tessera.hw.presets import preset
from tessera.sw.export.ports import core_ports
from tessera.sw.export.verilog import core_verilog, portable, top_name
from tests.helpers.exported import copied, export, make
from tests.helpers.schemas import document

ASSERTION = """\
  always @(posedge clk) begin
    if (\\$35 ) begin
      if (!\\$34 [0])
        $write("a burst at %0h", $unsigned(address[31:0]));
      assert (\\$34 [0]);
    end
  end
"""
STOP = """\
  always @(posedge clk) begin
    if (\\$35 ) begin
`ifndef SYNTHESIS
      if (!\\$34 [0]) begin
        $display("a burst at %0h", $unsigned(address[31:0]));
        $stop;
      end
`endif
    end
  end
"""


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export(tmp_path_factory.mktemp("export") / "core")


def test_an_assertion_becomes_a_message_that_stops():
    assert portable(ASSERTION) == STOP


def test_a_process_that_waits_for_nothing_becomes_an_initial_value():
    text = "  always @*\n    last[3] = 1'h0;\n  always @*\n    taken = \\$16 ;\n"
    assert portable(text) == "  initial last[3] = 1'h0;\n  always @*\n    taken = \\$16 ;\n"


def test_a_preset_gives_a_name_that_verilog_takes():
    assert top_name(preset("ecp5-85f")) == "tessera_ecp5_85f"


def test_only_verilog_2001_is_left(exported: Path):
    text = (exported / "tessera_tiny.v").read_text()
    code = re.sub(r'"[^"\n]*"|//[^\n]*', "", text)
    assert not re.search(r"\b(assert|assume|logic|always_comb|always_ff|automatic|int|bit)\b", code)
    assert not re.search(r"always @\*\n[^\n]* = \d+'\w+;\n", text)
    assert text.count("$stop;") == text.count("`ifndef SYNTHESIS") > 50


def test_every_module_has_the_top_in_its_name(exported: Path):
    """Two presets may stand in one system."""
    text = (exported / "tessera_tiny.v").read_text()
    names = re.findall(r"^module \\?(\S+?) ?[(;]", text, re.MULTILINE) or []
    assert len(names) > 100 and all(name.startswith("tessera_tiny") for name in names)


def test_the_header_shows_the_ports_of_the_description(exported: Path):
    text = (exported / "tessera_tiny.v").read_text()
    header = text[text.index("module tessera_tiny (") : text.index("\n);")]
    found = re.findall(r"(input|output) +wire +(?:\[(\d+):0\])? +(\w+),?  // ", header)
    ports = [(port.direction, port.width, port.name) for port in core_ports(preset("tiny")).ports]
    assert [(way.removesuffix("put"), int(top or 0) + 1, name) for way, top, name in found] == ports
    described = document(exported / "tessera.json")["interface"]["ports"]
    assert [(port["direction"], port["width"], port["name"]) for port in described] == ports
    assert "xilinx.com:interface:aximm:1.0 m_axi ARADDR" in header and "POLARITY ACTIVE_HIGH" in header


def test_the_same_machine_gives_the_same_text():
    assert core_verilog(preset("tiny")) == core_verilog(preset("tiny"))


def test_verilator_has_no_warning_that_is_not_explained(exported: Path, tmp_path: Path):
    result = make(exported, "lint")
    assert result.returncode == 0 and "%Warning" not in result.stderr, result.stderr[-3000:]
    waivers = (exported / "tessera.vlt").read_text()
    lines = waivers.splitlines()
    rules = [number for number, line in enumerate(lines) if line.startswith("lint_off")]
    assert rules and all(lines[number - 1].startswith("// ") for number in rules)
    # Each of them is needed: a file without waivers shows every rule.
    bare = copied(exported, tmp_path / "bare")
    (bare / "tessera.vlt").write_text("`verilator_config\n")
    result = make(bare, "lint")
    assert result.returncode != 0
    assert set(re.findall(r"%Warning-(\w+):", result.stderr)) == set(re.findall(r"-rule (\w+)", waivers))
