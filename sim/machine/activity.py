"""Activity of the simulated machine's units: a summary of the traces for the timeline of a report."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tessera.hw.config import AcceleratorConfig
from tessera.sim.machine.trace_reader import raw_records

MEMORIES = ("scratchpad", "residual", "queue")
SPAN = np.dtype([("command", "<u4"), ("expert", "<u4"), ("second", "<u4"), ("first", "<i8"), ("last", "<i8")])
BURST = np.dtype([("cycle", "<i8"), ("address", "<i8"), ("beats", "<u4")])


@dataclass(frozen=True, kw_only=True)
class Activity:
    """Activity of the units during one frame, in cycles since the frame's start.

    Parameters
    ----------
    written:
        First and last write of each command into each of ``MEMORIES``, as ``SPAN``. The command EXPERTS has a span per
        expert and matrix.
    softmax:
        First exponential and end of each tile of scores, as ``SPAN``, in order.
    bursts:
        Read requests of the weight stream, as ``BURST``, in order.
    """

    written: dict[str, np.ndarray]
    softmax: np.ndarray
    bursts: np.ndarray


def read_activity(folder: Path, config: AcceleratorConfig, frame: int, first_cycle: int) -> Activity:
    """Sum up one frame's traces in ``folder``. ``first_cycle`` is the frame's start on the traces' clock."""
    exponential, query, stream, *memories = (
        raw_records(folder, config, space, frame) for space in ("exponential", "query", "stream", *MEMORIES)
    )
    bursts = np.zeros(len(stream), BURST)
    bursts["cycle"] = stream["cycle"] - first_cycle
    bursts["address"] = stream["raw"][:, 0]
    bursts["beats"] = (stream["raw"][:, 1] & 0xFF) + 1
    return Activity(
        written={
            space: _spans(records["place"], records["cycle"], first_cycle)
            for space, records in zip(MEMORIES, memories, strict=True)
        },
        softmax=_tiles(exponential["cycle"], query, first_cycle),
        bursts=bursts,
    )


def _split(places: np.ndarray) -> dict[str, np.ndarray]:
    """Return command, expert and matrix of the places that trace ports show."""
    return {"command": places & 0xFFFF, "expert": places >> 16 & 0x7FFF, "second": places >> 31}


def _spans(places: np.ndarray, cycles: np.ndarray, first_cycle: int) -> np.ndarray:
    """Return the first and last cycle of every place, in order of the first."""
    found, first = np.unique(places, return_index=True)
    last = len(places) - 1 - np.unique(places[::-1], return_index=True)[1]
    spans = np.zeros(len(found), SPAN)
    for name, values in _split(found).items():
        spans[name] = values
    spans["first"], spans["last"] = cycles[first] - first_cycle, cycles[last] - first_cycle
    return spans[np.argsort(spans["first"], kind="stable")]


def _tiles(exponentials: np.ndarray, done: np.ndarray, first_cycle: int) -> np.ndarray:
    """Return a span per tile: from the first exponential after the tile before to the write of its query scales."""
    tiles = np.zeros(len(done), SPAN)
    tiles["command"] = done["place"] & 0xFFFF
    tiles["last"] = done["cycle"] - first_cycle
    before = np.concatenate([[-1], done["cycle"][:-1]])
    tiles["first"] = exponentials[np.searchsorted(exponentials, before, side="right")] - first_cycle if len(done) else 0
    return tiles
