"""A frame as a Chrome trace, for Perfetto or chrome://tracing: who worked when, one track a unit.

One cycle is one microsecond of the trace. Format: Google's "Trace Event Format", complete events (``ph`` X).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from tessera.hw.isa import CycleCause, Opcode, decode
from tessera.program.commands import Command
from tessera.program.program import Program
from tessera.sim.machine.activity import Activity
from tessera.sw.cycles.breakdown import named
from tessera.sw.results.outcome import FrameOutcome

TRACKS = ("compute unit", "experts", "weight stream", "softmax", "LayerNorm", "gate", "image and store")
"""Tracks of a frame from top to bottom; thread numbers count from 1."""
COMPUTE, EXPERTS, STREAM, SOFTMAX, NORM, GATE, MEMORY = TRACKS
PAUSE = 64
"""Cycles between two bursts of a block from which on they are two events."""

_BY_STAMPS = {"LAYERNORM": NORM, "GATE": GATE, "LOAD_IMAGE": MEMORY, "STORE": MEMORY}
"""Units whose events are the time stamps of their commands."""
_FOLLOWERS = ("LAYERNORM", "GATE")
"""Commands that are handed over early and then wait for rows."""
ENGINE = ("LINEAR", "CONVOLUTION", "ATTENTION", "EXPERTS")
"""Commands of the compute unit."""


@dataclass(frozen=True, kw_only=True)
class Event:
    """Something on a track from cycle ``start`` up to, not including, ``end``; not ``working`` while it only waits."""

    track: str
    name: str
    start: int
    end: int
    args: dict[str, Any] = field(default_factory=dict)
    working: bool = True


def chrome_trace(outcomes: Sequence[FrameOutcome], facts: dict[str, Any]) -> dict[str, Any]:
    """The JSON object of a trace: a process for each frame, each from cycle 0; ``facts`` go into its metadata."""
    headers: list[dict[str, Any]] = []
    entries: list[dict[str, Any]] = []
    for pid, outcome in enumerate(outcomes, start=1):
        headers.append(_header(pid, 0, "process_name", name=f"{outcome.task}, picture {outcome.picture}"))
        for tid, track in enumerate(TRACKS, start=1):
            headers.append(_header(pid, tid, "thread_name", name=track))
            headers.append(_header(pid, tid, "thread_sort_index", sort_index=tid))
        for event in events(outcome):
            place = {
                "pid": pid,
                "tid": TRACKS.index(event.track) + 1,
                "ts": event.start,
                "dur": event.end - event.start,
            }
            entries.append({"ph": "X", "cat": event.track, "name": event.name, **place, "args": event.args})
    entries.sort(key=lambda entry: entry["ts"])
    unit = "1 us of this trace is 1 cycle of the simulated machine"
    return {"traceEvents": headers + entries, "displayTimeUnit": "ms", "metadata": {"time_unit": unit, **facts}}


def _header(pid: int, tid: int, kind: str, **args: Any) -> dict[str, Any]:
    return {"ph": "M", "name": kind, "pid": pid, "tid": tid, "ts": 0, "dur": 0, "args": args}


def events(outcome: FrameOutcome) -> list[Event]:
    """Everything that is known about one frame; on each track in order and without overlap."""
    program, result = outcome.program, outcome.result
    ran = [command for command in program.commands if command.runs(result.task)]
    activity = result.activity
    found = [*_owned(program, result.task, result.causes), *_stamped(ran, result.stamps, activity)]
    if activity is not None:
        found += [*_experts(outcome, activity), *_softmax(program, activity), *_stream(program, activity)]
    return [event for track in TRACKS for event in _in_turn(event for event in found if event.track == track)]


def _in_turn(found: Iterable[Event]) -> Iterator[Event]:
    """Events in order of their start, each cut back to where the one before ended; none is shorter than a cycle."""
    free = 0
    for event in sorted(found, key=lambda event: (event.start, event.end)):
        start = max(event.start, free)
        free = max(event.end, start + 1)
        yield replace(event, start=start, end=free)


def _owned(program: Program, task: int, causes: np.ndarray) -> Iterator[Event]:
    """The engine's commands one after the other, and between them what it waits for: cycles that each owned."""
    ends = np.cumsum(causes.sum(axis=1))
    for command, share, end in zip(program.commands, causes, ends, strict=True):
        if cycles := int(share.sum()):
            working = command.op in ENGINE and command.runs(task)
            args = {"op": command.op, "command": command.index, "busy": round(share[CycleCause.BUSY] / cycles, 4)}
            yield Event(
                track=COMPUTE,
                name=command.name if working else f"no job: {command.name}",
                start=int(end) - cycles,
                end=int(end),
                args=args | {"cycles": named(share)},
                working=working,
            )


def _stamped(ran: Sequence[Command], stamps: np.ndarray, activity: Activity | None) -> Iterator[Event]:
    """Commands of the units beside the engine; those that follow another's rows from their own first result on."""
    first: dict[int, int] = {}
    if activity is not None:
        for space in ("scratchpad", "queue"):
            first |= {int(span["command"]): int(span["first"]) for span in activity.written[space]}
    for command in ran:
        if command.op in _BY_STAMPS and stamps[command.index, 1]:
            handed, end = map(int, stamps[command.index])
            start = first.get(command.index, handed) if command.op in _FOLLOWERS else handed
            args = {"command": command.index, "handed_over": handed}
            yield Event(track=_BY_STAMPS[command.op], name=command.name, start=start, end=end, args=args)


def _experts(outcome: FrameOutcome, activity: Activity) -> Iterator[Event]:
    """Both matrices of every expert with tokens; each lasts from the end of the one before to its own last result."""
    commands = {command.index: command for command in outcome.program.commands if command.op == "EXPERTS"}
    load = outcome.load()
    spans = [
        span
        for second, space in ((0, "scratchpad"), (1, "residual"))
        for span in activity.written[space]
        if span["command"] in commands and span["second"] == second
    ]
    free, last_command = 0, None
    for span in sorted(spans, key=lambda span: int(span["last"])):
        command, expert = commands[int(span["command"])], int(span["expert"])
        # An EXPERTS command's first results come late: its engine has worked since the command's own first cycle.
        if command.index != last_command:
            free, last_command = int(outcome.result.causes[: command.index].sum()), command.index
        tokens = load.get(command.mixture, [])
        args = {
            "expert": expert,
            "queue": tokens[expert] if expert < len(tokens) else None,
            "first_result": int(span["first"]),
            "command": command.index,
        }
        matrix = "second" if span["second"] else "first"
        end = int(span["last"]) + 1
        yield Event(track=EXPERTS, name=f"expert {expert}, {matrix} matrix", start=free, end=end, args=args)
        free = end


def _softmax(program: Program, activity: Activity) -> Iterator[Event]:
    """Tiles of scores turned into exponentials, in the order of (window, head, queries)."""
    tile = program.config.elements
    heads = {command.index: command.span for command in program.commands}
    number, last_command = 0, None
    for span in activity.softmax:
        command = int(span["command"])
        number = 0 if command != last_command else number + 1
        last_command = command
        part, (_, fields) = heads[command], decode(program.command_bytes(command))
        tiles = -(-fields["queries"] // tile)
        window, head = divmod(number // tiles, fields["heads"])
        head, first = (part.first if part else 0) + head, number % tiles * tile
        args = {"head": head, "first_query": first, "command": command}
        name = f"head {head}, queries {first} to {min(first + tile, fields['queries']) - 1}"
        if fields["windows"] > 1:
            args, name = {"window": window, **args}, f"window {window}, {name}"
        yield Event(track=SOFTMAX, name=name, start=int(span["first"]), end=int(span["last"]) + 1, args=args)


def _blocks(program: Program) -> tuple[np.ndarray, list[str]]:
    """First addresses of all blocks of the weight stream, ascending, and what they are.

    One that several commands read, each for its tokens, has the name of the first without the tokens.
    """
    found: list[tuple[int, str, str]] = []
    for command in program.commands:
        opcode, fields = decode(program.command_bytes(command.index))
        if "stream_address" not in fields:
            continue
        base = program.map.weights + fields["stream_address"]
        if opcode != Opcode.EXPERTS:
            found.append((base, command.name, command.whole))
            continue
        for expert in range(fields["experts"]):
            start = base + expert * fields["stream_bytes"]
            for address, matrix in ((start, "first"), (start + fields["first_bytes"], "second")):
                name = f"{command.name}: expert {expert}, {matrix} matrix"
                found.append((address, name, name))
    names: dict[int, str] = {}
    for address, name, shared in sorted(found, key=lambda block: block[0]):
        names[address] = shared if address in names else name
    return np.array(list(names), np.int64), list(names.values())


def _stream(program: Program, activity: Activity) -> Iterator[Event]:
    """Runs of bursts of one block: from the first request to the last plus its beats, as if memory answered at once."""
    bursts = activity.bursts
    if not len(bursts):
        return
    addresses, names = _blocks(program)
    block = np.searchsorted(addresses, bursts["address"], side="right") - 1
    ends = bursts["cycle"] + bursts["beats"]
    breaks = np.flatnonzero((np.diff(block) != 0) | (bursts["cycle"][1:] - ends[:-1] > PAUSE)) + 1
    for first, end in zip(np.r_[0, breaks], np.r_[breaks, len(bursts)], strict=True):
        size = int(bursts["beats"][first:end].sum()) * program.config.memory_bytes
        args = {"bytes": size, "address": int(bursts["address"][first])}
        start = int(bursts["cycle"][first])
        yield Event(track=STREAM, name=names[block[first]], start=start, end=int(ends[end - 1]), args=args)
