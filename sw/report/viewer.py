"""What the page's viewer shows, kept small: who worked when, each patch's expert, and what each patch is made of."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.colors import to_hex
from PIL import Image

from tessera.golden.integer.token_grid import token_grid
from tessera.sw.report.expert_figures import most_experts
from tessera.sw.report.panels import expert_colours, rgb
from tessera.sw.report.timeline import COMPUTE, TRACKS, Event, events
from tessera.sw.results.outcome import FrameOutcome, RunResult

MOST_PATCHES = 1024
"""Patches up to which the page holds what each is made of: a byte per pair of them."""


def viewer_data(result: RunResult) -> dict[str, Any]:
    """The frames of the first picture, one per task."""
    program, tasks = result.program, list(result.tasks().values())
    experts, tokens = most_experts(program), token_grid(program.plan)
    colours = expert_colours(experts) if experts else None
    buffer = io.BytesIO()
    Image.fromarray(rgb(result.pictures[0])).save(buffer, format="png")
    return {
        "units": list(TRACKS),
        "grid": list(tokens.shape) if tokens else [0, 0],
        "picture": f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}",
        "colours": [to_hex(colours(expert)) for expert in range(experts)] if colours else [],
        "tasks": [_task(outcome) for outcome in tasks],
    }


def script_text(data: dict[str, Any]) -> str:
    """The data as JSON that may stand in a script element, whatever names say."""
    return json.dumps(data, separators=(",", ":")).replace("<", "\\u003c")


def _task(outcome: FrameOutcome) -> dict[str, Any]:
    found = events(outcome)
    names = list(dict.fromkeys(event.name for event in found if event.working))
    number = {name: index for index, name in enumerate(names)}
    units = [[event for event in found if event.track == track and event.working] for track in TRACKS]
    commands = outcome.program.commands
    engine = [event for event in found if event.track == COMPUTE]
    layers = [commands[event.args["command"]].place for event in engine]
    return {
        "name": outcome.task,
        "cycles": outcome.result.cycles,
        "names": names,
        "units": [_spans(members, number) for members in units],
        # The layer that the engine is in from a cycle on; empty outside of layers.
        "layers": [[event.start, layer] for event, layer in zip(engine, layers, strict=True)],
        "experts": _experts(outcome),
        "attention": _attention(outcome),
    }


def _spans(members: Sequence[Event], number: dict[str, int]) -> list[int]:
    """Cycles since the event before, length and name of each event, one after another."""
    flat, last = [], 0
    for event in members:
        flat += [event.start - last, event.end - event.start, number[event.name]]
        last = event.start
    return flat


def _experts(outcome: FrameOutcome) -> dict[str, list[int]]:
    """The first choice of each patch in every layer with experts, by the layer's name."""
    tokens, mixtures = token_grid(outcome.program.plan), outcome.program.mixtures
    if tokens is None:
        return {}
    return {mixtures[name].place: chosen[tokens.prefix :, 0].tolist() for name, chosen in outcome.routing.items()}


def _attention(outcome: FrameOutcome) -> dict[str, Any] | None:
    """Shares of all patches in each patch's output, in 255ths of its largest; None if they are not known."""
    tokens = token_grid(outcome.program.plan)
    shares = outcome.rollout() if tokens is not None and tokens.patches <= MOST_PATCHES else None
    if shares is None or tokens is None:
        return None
    among = shares[tokens.prefix :, tokens.prefix :]
    largest = np.maximum(among.max(axis=1), 1e-12)
    bytes_of = np.rint(255 * among / largest[:, None]).astype(np.uint8).tobytes()
    # A uniform share would be one of all tokens.
    times = np.round(largest * tokens.tokens, 3).tolist()
    return {"largest": times, "shares": base64.b64encode(bytes_of).decode()}
