"""``tessera bench``: cycles and simulation speed."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sw.commands import options
from sw.commands.terminal import Display, reported


@reported
def command(
    quick: Annotated[bool, typer.Option("--quick", help="Small models only.")] = False,
    out: options.Out = Path("build/bench"),
) -> None:
    """Measure cycles, utilisation and simulation speed, and the speed of the fast build over cocotb's stock build.

    Example:

      tessera bench --quick
    """
    from sw.bench import run_bench

    with Display() as display:
        run_bench(out, quick, display)
