"""The timeline of a simulated run: a valid Chrome trace, whose numbers agree with the counters."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from tessera.hw.presets import preset
from tessera.sw.compiler.compile import compile_model
from tessera.sw.models.exported.from_torch import Pixels, network_of
from tessera.sw.report import timeline, write_report
from tessera.sw.results.outcome import FrameOutcome
from tessera.sw.run import execute
from tessera.sw.run.target import Target
from tests.helpers.own_networks import own_network
from tests.helpers.random_model import random_model
from tests.helpers.small_checkpoints import SMALL, save_small

SCRATCH_WRITE_LATENCY = 1
"""Cycles from a unit's write to the scratchpad, after which it may be done, to the write in the trace."""

KINDS = {
    "X": {"ph", "cat", "name", "pid", "tid", "ts", "dur", "args"},
    "M": {"ph", "name", "pid", "tid", "ts", "dur", "args"},
}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict, list[FrameOutcome]]:
    """Trace and frames of one run of both tasks of a small model."""
    folder = tmp_path_factory.mktemp("timeline")
    small = save_small(folder / "small.safetensors")
    result = execute.run(Target(model=small, preset="tiny"), accuracy_scenes=0)
    assert result.bit_exact
    files = write_report(result, folder / "out")
    assert folder / "out" / "timeline.json" in files
    return json.loads(Path(folder / "out" / "timeline.json").read_text()), list(result.tasks().values())


def _tracks(trace: dict) -> dict[tuple[int, str], list[dict]]:
    """Complete events by process and track name."""
    names = {(e["pid"], e["tid"]): e["args"]["name"] for e in trace["traceEvents"] if e["name"] == "thread_name"}
    tracks: dict[tuple[int, str], list[dict]] = {}
    for event in trace["traceEvents"]:
        if event["ph"] == "X":
            tracks.setdefault((event["pid"], names[event["pid"], event["tid"]]), []).append(event)
    return tracks


def test_it_is_a_valid_trace(finished: tuple[dict, list[FrameOutcome]]) -> None:
    trace, outcomes = finished
    assert "1 cycle" in trace["metadata"]["time_unit"] and trace["metadata"]["model"] == "small"
    for event in trace["traceEvents"]:
        assert event.keys() == KINDS[event["ph"]]
        assert all(isinstance(event[key], int) and event[key] >= 0 for key in ("pid", "tid", "ts", "dur"))
    times = [event["ts"] for event in trace["traceEvents"] if event["ph"] == "X"]
    assert times == sorted(times)
    tracks = _tracks(trace)
    assert tracks.keys() == {(pid, track) for pid in (1, 2) for track in timeline.TRACKS}
    for (pid, track), events in tracks.items():
        for before, after in zip(events, events[1:], strict=False):
            assert before["ts"] + before["dur"] <= after["ts"], (track, before, after)
        assert all(event["dur"] >= 1 for event in events)
        assert events[-1]["ts"] + events[-1]["dur"] <= outcomes[pid - 1].result.cycles, track


def test_it_agrees_with_counters_routing_and_geometry(finished: tuple[dict, list[FrameOutcome]]) -> None:
    trace, outcomes = finished
    tracks = _tracks(trace)
    for pid, outcome in enumerate(outcomes, start=1):
        model, config = SMALL, outcome.program.config
        cycles = {track: sum(event["dur"] for event in tracks[pid, track]) for track in timeline.TRACKS}
        assert cycles["compute unit"] == outcome.result.cycles
        busy = sum(event["args"]["cycles"]["busy"] for event in tracks[pid, "compute unit"])
        assert busy == outcome.result.counters["mac_busy"]

        others = {command.name for command in outcome.program.commands if not command.runs(outcome.result.task)}
        assert others and not others & {event["name"] for event in tracks[pid, "compute unit"]}

        queues = {
            (name, expert): length
            for name, load in outcome.load().items()
            for expert, length in enumerate(load)
            if length
        }
        commands = {command.index: command.mixture for command in outcome.program.commands if command.op == "EXPERTS"}
        for matrix in ("first", "second"):
            shown = {
                (commands[event["args"]["command"]], event["args"]["expert"]): event["args"]["queue"]
                for event in tracks[pid, "experts"]
                if matrix in event["name"]
            }
            assert shown == queues

        tiles = model.layers * model.heads * -(-model.tokens // config.elements)
        assert len(tracks[pid, "softmax"]) == tiles
        assert {event["args"]["head"] for event in tracks[pid, "softmax"]} == set(range(model.heads))
        read: dict[str, int] = {}
        for event in tracks[pid, "weight stream"]:
            name = event["name"].partition(":")[0]
            read[name] = read.get(name, 0) + event["args"]["bytes"]
        wanted: dict[str, int] = {}
        for command, share in zip(outcome.program.commands, outcome.shares(), strict=True):
            if share.weight_bytes:
                wanted[command.name] = wanted.get(command.name, 0) + share.weight_bytes
        assert read == wanted
        norms = [command.name for command in outcome.program.commands if command.op == "LAYERNORM"]
        ran = [name for name in norms if name in {event["name"] for event in tracks[pid, "LayerNorm"]}]
        assert len(tracks[pid, "LayerNorm"]) == len(ran) == 2 * model.layers + 1


def test_every_write_lies_between_its_commands_stamps(finished: tuple[dict, list[FrameOutcome]]) -> None:
    """Traces and counters have one clock: no write before its command's start, none after its end.

    Those of the scratchpad are seen when they reach it.
    """
    for outcome in finished[1]:
        result = outcome.result
        for space, records in result.traces.records.items():
            cycles = records["cycle"].astype("int64") - result.first_cycle
            start, end = result.stamps[records["command"]].T
            end = end + (SCRATCH_WRITE_LATENCY if space == "scratchpad" else 0)
            assert (start <= cycles).all() and (cycles <= end).all(), space


def test_whatever_multiplies_is_work_of_the_compute_unit() -> None:
    network = network_of(own_network("decoder"), torch.zeros(1, 3, 32, 64), pixels=Pixels()).network
    config = preset("tiny")
    program = compile_model(random_model(network, config.numerics, 1), config)
    multiply = {command.op for command in program.commands if command.macs}
    assert "CONVOLUTION" in multiply and multiply <= set(timeline.ENGINE)
