"""``tessera selftest``: proof that the checks can fail."""

from __future__ import annotations

from pathlib import Path

import typer

from sw.commands import options
from sw.commands.terminal import VERDICT_FAILED, Display, reported


@reported
def command(preset: options.Preset = "tiny", out: options.Out = Path("build/selftest")) -> None:
    """Break the machine, its program and its memory on purpose, and require each fault to be caught and placed.

    Writes selftest.json into --out. Exit code 0 only if every fault is caught.

    Example:

      tessera selftest --preset tiny
    """
    from sw.selftest import run_selftest

    with Display() as display:
        result = run_selftest(preset, out, display)
    if not result["passed"]:
        raise typer.Exit(VERDICT_FAILED)
