"""What is compared of a run, a bench and an evaluation: values by section, by task or case, and by name."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from tessera.common.schemas.kinds import BENCH, EVALUATION, RUN
from tessera.common.stamped import Schema

CYCLES, KINDS, CAUSES, WORK = "cycles", "cycles by kind of command", "cycles by cause", "work"
ERRORS, SCORES, SPEEDS = "errors against float", "scores", "speeds of the computer"
VERDICT, CONFIGURATION, TOOLS = "verdict", "configuration", "made with"
SECTIONS = (CYCLES, KINDS, CAUSES, WORK, VERDICT, ERRORS, SCORES, SPEEDS, CONFIGURATION, TOOLS)
"""Sections in the order in which they are shown."""

Values = dict[str, dict[tuple[str, str], Any]]
"""Values by section, and in it by place (a task or a case; empty for the whole file) and name."""


def run_values(data: Mapping[str, Any]) -> Values:
    """What is compared of a run.json."""
    found: Values = {section: {} for section in SECTIONS}
    for place, task in data["tasks"].items():
        _add_frame(found, place, task)
        found[KINDS] |= _sums(place, ((part["kind"], part["cycles"]) for part in task["breakdown"]))
        found[CAUSES] |= {(place, name): cycles for name, cycles in task["causes"].items()}
        errors = {name: task["quantisation"][name] for name in ("relative_l2", "cosine", "routing_changes")}
        prediction = {name: value for name, value in task["prediction"].items() if name != "kind"}
        found[ERRORS] |= {(place, name): value for name, value in (errors | prediction).items()}
    found[SCORES] = _flat(data["accuracy"] or {})
    kept = ("model", "weights", "routing", "preset", "program_digest", "activation_width", "residual_width")
    found[CONFIGURATION] = _flat({name: data[name] for name in (*kept, "calibration", "machine", "network", "memory")})
    found[CONFIGURATION] |= _flat({"pictures": [picture["source"] for picture in data["pictures"]]})
    return found


def bench_values(data: Mapping[str, Any]) -> Values:
    """What is compared of a bench.json."""
    found: Values = {section: {} for section in SECTIONS}
    for frame in data["frames"]:
        routing = f", {frame['routing']}" if frame["routing"] not in ("model", "none") else ""
        place = f"{frame['model']}{routing} on {frame['preset']}, {frame['task']}"
        _add_frame(found, place, frame)
        found[KINDS] |= _sums(place, ((name, kind["cycles"]) for name, kind in frame["kinds"].items()))
        causes = (cause for kind in frame["kinds"].values() for cause in kind["causes"].items())
        found[CAUSES] |= _sums(place, causes)
        kept = ("program_digest", "weights", "memory_bytes_per_cycle", "read_latency")
        found[CONFIGURATION] |= {(place, name): frame[name] for name in kept}
    found[SPEEDS] = _flat({name: data[name] for name in ("simulation", "host", "estimates")})
    return found


def evaluation_values(data: Mapping[str, Any]) -> Values:
    """What is compared of the JSON file of an evaluation."""
    found: Values = {section: {} for section in SECTIONS}
    for result in data["results"]:
        names = ("arithmetic", "activation_width", "calibration", "preset")
        place = ", ".join(str(result[name]) for name in names if name in result)
        scores = ("scenes", "mean_iou", "depth_rmse_m", "depth_abs_rel", "class_iou", "top1", "top5")
        found[SCORES] |= _flat({name: result[name] for name in scores if name in result}, place)
        errors = {name: result[name] for name in ("outputs", "routing_changes") if name in result}
        found[ERRORS] |= _flat(errors, place)
        if "bit_exact" in result:
            found[VERDICT][place, "bit-exact"] = result["bit_exact"]
    found[CONFIGURATION] = _flat({name: data[name] for name in ("model", "weights", "routing", "data")})
    return found


VALUES: dict[Schema, Callable[[Mapping[str, Any]], Values]] = {
    RUN: run_values,
    BENCH: bench_values,
    EVALUATION: evaluation_values,
}
"""How each kind of file that can be compared is read."""


def stamp_values(data: Mapping[str, Any]) -> dict[tuple[str, str], Any]:
    """What is compared of a stamp: all but the date, which always differs."""
    return _flat({name: data[name] for name in ("command", "tessera", "git", "processor", "tool_versions")})


def _add_frame(found: Values, place: str, frame: Mapping[str, Any]) -> None:
    """Add what a task of a run and a frame of a bench have in common."""
    found[CYCLES][place, "cycles"] = frame["cycles"]
    for name in ("bound_cycles", "ideal_cycles", "predicted_cycles", "macs", "mac_utilisation", "dram_bytes"):
        found[WORK][place, name] = frame[name]
    found[VERDICT][place, "bit-exact"] = frame["bit_exact"]


def _sums(place: str, pairs: Iterable[tuple[str, int]]) -> dict[tuple[str, str], Any]:
    sums: Counter[str] = Counter()
    for name, cycles in pairs:
        sums[name] += cycles
    return {(place, name): cycles for name, cycles in sums.items()}


def _flat(value: Any, place: str = "", name: str = "") -> dict[tuple[str, str], Any]:
    """Members of objects and lists with dotted names; a list without objects is one value."""
    if isinstance(value, Mapping):
        members: Iterable[tuple[Any, Any]] = value.items()
    elif isinstance(value, list) and any(isinstance(member, (Mapping, list)) for member in value):
        members = enumerate(value)
    else:
        return {(place, name): ", ".join(map(str, value)) if isinstance(value, list) else value}
    found: dict[tuple[str, str], Any] = {}
    for key, member in members:
        found |= _flat(member, place, f"{name}.{key}" if name else str(key))
    return found
