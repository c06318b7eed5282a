"""Places of block RAMs and multipliers: read from what was placed, given to the units that have many."""

import json

import pytest

from sw.synthesis.blocks import MANY, constrain, places_in
from sw.synthesis.cost import SynthesisError
from sw.synthesis.nextpnr import block_settings, settings


def block(kind):
    return {"type": kind, "attributes": {"src": "here"}, "connections": {}}


def design(many=MANY):
    """A top with a large unit, a small one below another, and cells that are no blocks."""
    return {
        "modules": {
            "top": {"cells": {"large": {"type": "unit_a"}, "middle": {"type": "unit_b"}, "lut": {"type": "LUT4"}}},
            "unit_a": {"cells": {f"ram_{i}": block("DP16KD") for i in range(many)}},
            "unit_b": {"cells": {"small": {"type": "unit_c"}}},
            "unit_c": {"cells": {"product": block("MULT18X18D"), "flop": {"type": "TRELLIS_FF"}}},
            "LUT4": {"cells": {}},
        }
    }


def places(many=MANY):
    return {f"large.ram_{i}": f"X{i}/Y22/EBR0" for i in range(many)} | {"middle.small.product": "X4/Y10/MULT18_0"}


def constrained(tmp_path, many=MANY, given=None):
    netlist, into = tmp_path / "netlist.json", tmp_path / "constrained.json"
    netlist.write_text(json.dumps(design(many)))
    constrain(netlist, places(many) if given is None else given, into)
    return json.loads(into.read_text())["modules"]


def test_units_of_many_blocks_get_their_places(tmp_path):
    made = constrained(tmp_path)
    for i in range(MANY):
        assert made["unit_a"]["cells"][f"ram_{i}"]["attributes"] == {"src": "here", "BEL": f"X{i}/Y22/EBR0"}
    assert made["unit_c"] == design()["modules"]["unit_c"], "a single block follows timing"


def test_units_of_few_blocks_are_left_alone(tmp_path):
    assert constrained(tmp_path, many=MANY - 1) == design(MANY - 1)["modules"]


def test_places_of_another_netlist(tmp_path):
    wrong = {name: place for name, place in places().items() if name != "large.ram_3"}
    with pytest.raises(SynthesisError, match="1 blocks without a place, .* such as large.ram_3"):
        constrained(tmp_path, given=wrong)


def test_places_are_read_from_what_was_placed(tmp_path):
    cells = {
        "a.ram": {"type": "DP16KD", "attributes": {"NEXTPNR_BEL": "X4/Y22/EBR0"}},
        "a.flop": {"type": "TRELLIS_FF", "attributes": {"NEXTPNR_BEL": "X5/Y22/SLICEA.FF0"}},
    }
    placed = tmp_path / "placed.json"
    placed.write_text(json.dumps({"modules": {"top": {"cells": cells}}}))
    assert places_in(placed) == {"a.ram": "X4/Y22/EBR0"}


def test_the_blocks_have_a_placer_of_their_own():
    chosen = {"frequency_mhz": 80.0, "device": ("--85k",)}
    assert "static" in block_settings(**chosen) and "--no-route" in block_settings(**chosen)
    assert "static" not in settings(**chosen, seed=1)
