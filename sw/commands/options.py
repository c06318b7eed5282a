"""Options that several commands share, with the same words everywhere."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Model = Annotated[
    str,
    typer.Option(help="Name of a trained model (a file models/NAME.safetensors), or the path of a checkpoint."),
]
Preset = Annotated[str, typer.Option(help="Machine to build: tiny, ecp5-85f or edge.")]
Width = Annotated[int, typer.Option(help="Bits of an activation: 8, 12 or 16.")]
Task = Annotated[str, typer.Option(help="'all', one task of the model, or several with commas; run in this order.")]
Latency = Annotated[
    int, typer.Option(min=1, help="Cycles from a read request to its first data in the simulated DRAM.")
]
Stalls = Annotated[int, typer.Option(min=0, max=255, help="Chance in 256 that a memory channel pauses for a cycle.")]
Seed = Annotated[int, typer.Option(help="Chooses the pattern of the pauses.")]
Out = Annotated[Path, typer.Option(help="Folder for the results; files in it are replaced.")]
