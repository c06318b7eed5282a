"""``tessera selftest``: proof that the checks can fail."""

from __future__ import annotations

from pathlib import Path

import typer
from rich.markup import escape

from tessera.sw.commands import options
from tessera.sw.commands.terminal import VERDICT_FAILED, Display, console, reported, table, verdict


@reported
def command(preset: options.Preset = "tiny", out: options.Out = Path("build/selftest")) -> None:
    """Break the machine, its program and its memory on purpose, and require each fault to be caught and placed.

    Writes selftest.json into --out. Exit code 0 only if every fault is caught.

    Example:

      tessera selftest --preset tiny
    """
    from tessera.common.files import check_folder
    from tessera.sw.selftest.selftest import run_selftest

    check_folder(out, "selftest.json")
    with Display() as display:
        result = run_selftest(preset, out, display)
    clean = result.clean
    console.print(f"without a fault: {verdict(clean.passed)}, {clean.elements_compared:,} elements compared")
    rows = []
    for fault in result.faults:
        # The verifier's counts say nothing about a fault; the first difference says where it is.
        rows.append((fault.fault.kind, verdict(fault.passed), fault.verdict, escape(fault.place)))
    title = f"{result.caught} of {result.total} faults caught and placed on {preset}"
    table(title, ["fault", "good", "verdict", "reported at"], rows, texts=4)
    console.print(f"Numbers: {escape(str(out / 'selftest.json'))}", soft_wrap=True)
    if not result.passed:
        raise typer.Exit(VERDICT_FAILED)
