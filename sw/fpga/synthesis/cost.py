"""What a synthesised netlist costs, in the resources that a device has."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from tessera.common.expected import expect

RESOURCES = ("lut", "ff", "dsp", "bram")
"""Counted resources: look-up tables, flip-flops, multiplier blocks, 18-kbit block RAMs."""


class SynthesisError(RuntimeError):
    """The design must not be built as it is; the message lists every fault."""


@dataclass(frozen=True, kw_only=True)
class Family:
    """An FPGA family that can be counted, and the device that a design has to fit.

    ``cells`` gives the cost of each cell that Yosys maps to; a cell that is not in it is an error, so that nothing is
    forgotten. ``headings`` names the resources, which are not the same in every family.
    """

    name: str
    device: str
    limits: Mapping[str, int]
    cells: Mapping[str, Mapping[str, int]]
    headings: Mapping[str, str]


FAMILIES = {
    family.name: family
    for family in (
        Family(
            name="ecp5",
            device="LFE5U-85F",
            headings={"lut": "LUT4", "ff": "flip-flops", "dsp": "multipliers", "bram": "block RAMs"},
            limits={"lut": 83640, "ff": 83640, "dsp": 156, "bram": 208},
            cells={
                "LUT4": {"lut": 1},
                # A carry cell occupies both look-up tables of a slice.
                "CCU2C": {"lut": 2},
                # The multiplexers between look-up tables are part of every slice.
                "PFUMX": {},
                "L6MUX21": {},
                # 16 words of 4 bits occupy the four tables of two slices; the write port that two of these share takes
                # the address inputs of a third slice, which counting does not show.
                "TRELLIS_DPR16X4": {"lut": 4},
                "TRELLIS_FF": {"ff": 1},
                "MULT18X18D": {"dsp": 1},
                "DP16KD": {"bram": 1},
                # Clock networks, which carry resets, too.
                "DCCA": {},
                # Of a board: pads, with their registers in them, and clocks.
                "TRELLIS_IO": {},
                "ODDRX1F": {},
                "EHXPLLL": {},
            },
        ),
        Family(
            name="xcup",
            device="XCZU9EG",
            headings={"lut": "LUT6", "ff": "flip-flops", "dsp": "DSP48", "bram": "block RAMs (18 kbit)"},
            limits={"lut": 274080, "ff": 548160, "dsp": 2520, "bram": 1824},
            cells={
                **{f"LUT{inputs}": {"lut": 1} for inputs in range(1, 7)},
                "INV": {},
                # Carry chains and multiplexers between look-up tables are part of every slice.
                **dict.fromkeys(("CARRY4", "CARRY8", "MUXF7", "MUXF8", "MUXF9"), {}),
                **dict.fromkeys(("FDRE", "FDSE", "FDCE", "FDPE"), {"ff": 1}),
                # Memories in look-up tables of 64 bits, with as many ports as each has.
                **dict.fromkeys(("SRL16E", "SRLC32E", "RAM32X1S", "RAM64X1S"), {"lut": 1}),
                **dict.fromkeys(("RAM32X1D", "RAM64X1D"), {"lut": 2}),
                **dict.fromkeys(("RAM32M", "RAM64M"), {"lut": 4}),
                **dict.fromkeys(("RAM32M16", "RAM64M8"), {"lut": 8}),
                "DSP48E2": {"dsp": 1},
                "RAMB18E2": {"bram": 1},
                "RAMB36E2": {"bram": 2},
            },
        ),
    )
}


ECP5_SIZES: Mapping[str, Mapping[str, int]] = {
    # nextpnr places a 12F on the die of a 25F.
    "12F": {"lut": 24288, "ff": 24288, "dsp": 28, "bram": 56},
    "25F": {"lut": 24288, "ff": 24288, "dsp": 28, "bram": 56},
    "45F": {"lut": 43848, "ff": 43848, "dsp": 72, "bram": 108},
    "85F": FAMILIES["ecp5"].limits,
}
"""What the devices of the family have, by the end of their names, as nextpnr counts it."""


def ecp5_device(name: str) -> Family:
    """The family with a device of it, such as ``LFE5UM-45F``; raises ValueError listing the known sizes."""
    kind, _, size = name.partition("-")
    if kind not in ("LFE5U", "LFE5UM", "LFE5UM5G") or size not in ECP5_SIZES:
        known = ", ".join(ECP5_SIZES)
        raise ValueError(
            f"unknown device '{name}'; give an ECP5: LFE5U, LFE5UM or LFE5UM5G of one of the sizes {known}"
        )
    return replace(FAMILIES["ecp5"], device=name, limits=ECP5_SIZES[size])


def family(name: str) -> Family:
    """Look a family up; raises ValueError listing the known ones."""
    expect("family", name, str, f"the name of an FPGA family, one of: {', '.join(FAMILIES)}")
    if name not in FAMILIES:
        raise ValueError(f"unknown FPGA family '{name}'; choose one of: {', '.join(FAMILIES)}")
    return FAMILIES[name]


def unit_name(module: str) -> str:
    r"""Name of a Yosys module as this project knows it: ``\top.parameters$375`` is ``parameters``, the top ``top``."""
    return module.removeprefix("\\").partition("$")[0].removeprefix("top.")


def count(statistics: Mapping[str, Any], target: Family) -> dict[str, dict[str, int]]:
    """Count the cells of each module.

    Parameters
    ----------
    statistics:
        JSON output of Yosys' ``stat``: ``modules`` with ``num_cells_by_type`` each.
    target:
        Says what a cell costs.

    Returns
    -------
    dict
        Each module's own resources, without those of modules in it.

    Raises
    ------
    SynthesisError
        A cell is left that the family does not know, or a module is used more than once.
    """
    modules = statistics["modules"]
    uses: dict[str, int] = {}
    costs: dict[str, dict[str, int]] = {}
    unknown = set()
    for name, module in modules.items():
        cost = dict.fromkeys(RESOURCES, 0)
        for kind, number in {**module["num_cells_by_type"], **module.get("num_submodules_by_type", {})}.items():
            # Yosys calls a cell with parameters of its own `$paramod$HASH\CELL`.
            plain = kind.rpartition("\\")[2]
            if kind in modules or f"\\{kind}" in modules:
                uses[kind.removeprefix("\\")] = uses.get(kind.removeprefix("\\"), 0) + number
            elif plain in target.cells:
                for resource, amount in target.cells[plain].items():
                    cost[resource] += amount * number
            elif plain != "$scopeinfo":
                unknown.add(f"{number} cells {plain} in {unit_name(name)}")
        costs[unit_name(name)] = cost
    repeated = [f"module {name} is used {number} times" for name, number in uses.items() if number != 1]
    if unknown or repeated:
        raise SynthesisError(f"cells of {target.name} cannot be counted: " + "; ".join(sorted(unknown) + repeated))
    return costs


def excess(total: Mapping[str, int], target: Family) -> list[str]:
    """One line for every resource of which the device has too few."""
    return [
        f"needs {total[name]} {name}, {target.device} has {limit}"
        for name, limit in target.limits.items()
        if total[name] > limit
    ]
