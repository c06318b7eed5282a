"""A unit goes through place and route; the answer names its clock, its slowest path and what it occupies."""

import pytest
from amaranth.back import rtlil

from tessera.common.progress import silent
from tessera.hw.compute.activation import Activation
from tessera.hw.ecp5.platform import Ecp5
from tessera.hw.presets import preset
from tessera.sw.fpga.synthesis.cost import SynthesisError
from tessera.sw.fpga.synthesis.few_pins import CORE, FewPins
from tessera.sw.fpga.synthesis.nextpnr import place_and_route, summary
from tessera.sw.fpga.synthesis.yosys import NETLIST, synthesise


def test_a_unit_is_placed_and_routed(tmp_path):
    top = FewPins(Activation(preset("tiny")))
    design = rtlil.convert(top, name="top", emit_src=False, platform=Ecp5())
    synthesise(design, tmp_path, silent, core=f"top.{CORE}", netlist=True)
    route = place_and_route(tmp_path, frequency_mhz=50.0)
    assert route["clocks"].keys() == {"clk"} and route["clocks"]["clk"] > 50.0
    assert route["utilisation"]["MULT18X18D"]["used"] == 2 and route["utilisation"]["DP16KD"]["used"] == 2
    path = route["critical_path"]
    assert (path[0]["kind"], path[-1]["kind"]) == ("clk-to-q", "setup")
    assert sum(step["delay"] for step in path) == pytest.approx(1000 / route["clocks"]["clk"], abs=0.2)
    assert any(f"{CORE}." in step["from"] for step in path), "names of the design are kept"


def test_the_slowest_clock_has_the_path():
    step = {"delay": 1.234, "type": "routing", "from": {"cell": "a", "port": "Q"}, "to": {"cell": "b", "port": "D"}}
    report = {
        "fmax": {
            "$glbnet$fast": {"achieved": 200.0, "constraint": 150.0},
            "$glbnet$clk$TRELLIS_IO_IN": {"achieved": 81.234, "constraint": 100.0},
        },
        "critical_paths": [
            {"from": "posedge $glbnet$fast", "to": "posedge $glbnet$fast", "path": []},
            {"from": "<async>", "to": "posedge $glbnet$clk$TRELLIS_IO_IN", "path": []},
            *({"from": name, "to": name, "path": [step]} for name in ["posedge $glbnet$clk$TRELLIS_IO_IN"]),
        ],
        "utilization": {},
    }
    seen = summary(report)
    assert seen["clocks"] == {"fast": 200.0, "clk": 81.23}
    assert seen["constraints"] == {"fast": 150.0, "clk": 100.0}
    assert seen["critical_path"] == [{"delay": 1.23, "kind": "routing", "from": "a.Q", "to": "b.D"}]


def test_what_nextpnr_refuses_is_told(tmp_path):
    (tmp_path / NETLIST).write_text("{")
    with pytest.raises(SynthesisError, match="nextpnr failed .*route.log.*: ERROR: Failed to parse JSON"):
        place_and_route(tmp_path, frequency_mhz=50.0)
