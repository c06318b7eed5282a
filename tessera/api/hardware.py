"""What a machine takes of an FPGA: estimated in a second, or synthesised in minutes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tessera.api.progress import Shown, shown
from tessera.hw.boards.board import board as find_board
from tessera.hw.presets import preset as find_preset
from tessera.sw.fpga import measure
from tessera.sw.fpga.measure import SynthesisReport
from tessera.sw.fpga.resources import estimate as estimator
from tessera.sw.fpga.resources.changes import with_changes
from tessera.sw.fpga.resources.estimate import Estimate


def estimate(
    preset: str | None = None, *, board: str | None = None, activation_width: int = 8, **changes: Any
) -> Estimate:
    """Estimate what a machine takes of an ECP5, the board's or an LFE5U-85F, without synthesis.

    Parameters
    ----------
    preset:
        Machine; by default the board's, or ``ecp5-85f``.
    board:
        Count all that this board has beside the machine.
    activation_width:
        Bits of an activation: 8, 12 or 16.
    changes:
        Other sizes than the preset's, by the names of :class:`tessera.hw.config.AcceleratorConfig`.

    Raises
    ------
    ValueError
        Unknown preset, board or field, or an impossible machine.

    Examples
    --------
    >>> import tessera
    >>> tessera.estimate("tiny").total["dsp"]
    41
    """
    target = None if board is None else find_board(board)
    base = find_preset((target.preset if target else "ecp5-85f") if preset is None else preset)
    texts = [f"{name}={value}" for name, value in changes.items()]
    return estimator.estimate(with_changes(base.with_activation_width(activation_width), texts), target)


def synthesise(
    preset: str = "ecp5-85f", *, family: str = "ecp5", out: Path | str = measure.OUT, progress: Shown = True
) -> SynthesisReport:
    """Synthesise a preset with Yosys and count its cells.

    Parameters
    ----------
    preset:
        Machine.
    family:
        ``ecp5``, or ``xcup`` (Zynq UltraScale+) to compare.
    out:
        Folder for the numbers, the scripts and the logs.
    progress:
        Whether to show progress, or what to call with it.

    Raises
    ------
    ValueError
        Unknown preset or family, or a folder that cannot be written.
    tessera.sw.fpga.synthesis.cost.SynthesisError
        The design must not be built, or Yosys failed.
    """
    with shown(progress) as report:
        return measure.run_synth(preset, out, family, report)
