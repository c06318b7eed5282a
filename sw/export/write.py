"""Writes the exported machine into a folder: design, descriptions, a frame and its test bench."""

from __future__ import annotations

from pathlib import Path

from tessera.common.files import folder_aside
from tessera.common.progress import Progress, silent
from tessera.common.schemas.kinds import EXPORT
from tessera.common.stamped import write_document
from tessera.hw.bus.bursts import longest_burst
from tessera.hw.bus.read_master import ReadMaster
from tessera.hw.bus.write_master import WriteMaster
from tessera.sw.data.pictures import Picture
from tessera.sw.export.bench import bench_text
from tessera.sw.export.frame import ExportedFrame, exported_frame
from tessera.sw.export.interface import core_description
from tessera.sw.export.registers import c_header, registers_page
from tessera.sw.export.svd import svd
from tessera.sw.export.templates import fill
from tessera.sw.export.verilog import core_verilog, top_name
from tessera.sw.run.prepare import Prepared

FILES = {
    "README.md": "this list, and how to run the bench",
    "{top}.v": "the machine: one Verilog file, top module {top}",
    "tessera.vlt": "Verilator's warnings that say nothing of this design, each with its reason",
    "registers.md": "register map and start sequence",
    "tessera_regs.h": "register map for C and C++",
    "tessera.svd": "register map as CMSIS-SVD",
    "tessera.json": "ports, buses, registers, configuration and memory map for programs",
    "constraints.md": "clock, reset, timing, bandwidth, memory layout",
    "tb.sv": "test bench: a frame of {model}, compared byte by byte",
    "memory.hex": "memory of that frame: commands, weights, picture",
    "expected.hex": "its output, by the integer golden model",
    "Makefile": "runs the bench with Verilator",
}
"""What each exported file is."""


def export_core(
    prepared: Prepared, picture: Picture, folder: Path, *, on_progress: Progress = silent
) -> tuple[ExportedFrame, list[Path]]:
    """Write the machine that a program was compiled for, and the program as its test.

    Parameters
    ----------
    prepared:
        The program of the bench; its configuration is the machine.
    picture:
        The bench's picture.
    folder:
        Where to write. Files of the same names are replaced, all at once.
    on_progress:
        Callback for the stages ``verilog`` and ``golden``.

    Returns
    -------
    tuple
        The bench's frame, and the files that were written.
    """
    config, model = prepared.config, prepared.program.model.name
    top = top_name(config)
    on_progress("golden", 0.0, f"what {model} makes of the picture")
    frame = exported_frame(prepared, picture)
    on_progress("golden", 1.0, "")
    on_progress("verilog", 0.0, f"{top}.v")
    names = {name.format(top=top): text.format(top=top, model=model) for name, text in FILES.items()}
    texts = {
        f"{top}.v": core_verilog(config),
        "tessera.vlt": fill("tessera.vlt", top=top),
        "registers.md": registers_page(config, top),
        "tessera_regs.h": c_header(config, top),
        "tessera.svd": svd(config, top),
        "constraints.md": _constraints(frame, top),
        "tb.sv": bench_text(frame, top),
        "memory.hex": frame.memory_hex(),
        "expected.hex": frame.expected_hex(),
        "Makefile": fill("Makefile", top=top),
        "README.md": fill("README.md", top=top, config=config, files=names, label=prepared.label),
    }
    on_progress("verilog", 1.0, "")
    with folder_aside(folder) as aside:
        for name, text in texts.items():
            (aside / name).write_text(text, encoding="utf-8")
        write_document(aside / "tessera.json", EXPORT, core_description(frame))
    return frame, [folder / name for name in names]


def _constraints(frame: ExportedFrame, top: str) -> str:
    program, config = frame.prepared.program, frame.prepared.config
    return fill(
        "constraints.md",
        top=top,
        config=config,
        model=frame.prepared.label,
        map=program.map,
        outputs=frame.outputs,
        longest=longest_burst(config),
        reads=ReadMaster.OUTSTANDING,
        writes=WriteMaster.OUTSTANDING,
        traffic=program.map.program_bytes + program.map.weights_bytes + program.map.image_bytes,
    )
