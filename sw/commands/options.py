"""Options that several commands share, with the same words everywhere."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Model = Annotated[
    str,
    typer.Option(
        help="nano or m3vit-tiny (trained); m3vit-backbone, deit-small or pico (seeded); or the path of a checkpoint."
    ),
]
Routing = Annotated[
    str | None,
    typer.Option(
        help="Loads that a seeded model's gates give: balanced, skewed (one expert takes most tokens, six none) or "
        "captured (as in a trained model). [balanced]"
    ),
]
PRESETS = (
    "Machine to build: tiny, ecp5-85f, ecp5-wide (twice its MACs), edge, edge-8 (8 bytes of memory a cycle) or "
    "edge-large (more on chip)."
)
Preset = Annotated[str, typer.Option(help=PRESETS)]
Image = Annotated[
    Path | None,
    typer.Option(help="Picture file of any size and mode, resized; or raw pixels in the model's size, *.float32.bin."),
]
Width = Annotated[int, typer.Option(help="Bits of an activation: 8, 12 or 16.")]
CALIBRATIONS = (
    "How ranges of activations follow from sample pictures: max (the largest magnitude, and a tenth), percentile (of "
    "99.99; the rest saturates) or least-error (smallest squared error of rounding and clipping)"
)
Calibration = Annotated[str, typer.Option(help=f"{CALIBRATIONS}.")]
Task = Annotated[str, typer.Option(help="'all', one task of the model, or several with commas; run in this order.")]
Latency = Annotated[
    int, typer.Option(min=1, help="Cycles from a read request to its first data in the simulated DRAM.")
]
Stalls = Annotated[int, typer.Option(min=0, max=255, help="Chance in 256 that a memory channel pauses for a cycle.")]
Seed = Annotated[int, typer.Option(help="Chooses the pattern of the pauses.")]
Out = Annotated[Path, typer.Option(help="Folder for the results; files in it are replaced.")]
Board = Annotated[str, typer.Option(help="Board: ulx3s-85f, or ecpix5-85f (preset tiny, memory on chip).")]
