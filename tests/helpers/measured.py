"""JSON files as the commands write them, small and made up."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tessera.common.schemas.kinds import BENCH, EVALUATION, RUN
from tessera.common.stamped import write_document
from tessera.sw.cycles.breakdown import CAUSES
from tessera.sw.run.calibrated import SCENES

NETWORK = {
    "image_height": 64,
    "image_width": 128,
    "layers": ["layer00"],
    "operators": 9,
    "mixtures": [],
    "parameters": 1,
    "digest": "0" * 64,
}


def task(cycles: int, *, error: float = 0.02) -> dict[str, Any]:
    """A task's part of a run.json, half of it attention."""
    half = {"cycles": cycles // 2, "macs": 5, "ideal_cycles": 5, "causes": {cause: 0 for cause in CAUSES}}
    parts = [{"layer": "layer00", "phase": "attention", "kind": kind, **half} for kind in ("QK, AV", "projection")]
    numbers = dict.fromkeys(("ideal_cycles", "bound_cycles", "announced_cycles", "predicted_cycles", "macs"), 10)
    return {
        "bit_exact": True,
        "tensors_compared": 3,
        "elements_compared": 30,
        "cycles": cycles,
        **numbers,
        "mac_utilisation": 0.5,
        "dram_bytes": 40,
        "sim_cycles_per_s": 1e5,
        "sim_seconds": 1.0,
        "quantisation": {"relative_l2": error, "cosine": 0.9, "routing_changes": None, "layers": []},
        "prediction": {"kind": "depth", "depth_difference_m": 0.1},
        "counters": {},
        "expert_load": {},
        "expert_first_choices": {},
        "trouble": "",
        "saturated": False,
        "first_mismatch": None,
        "causes": {cause: cycles if cause == "busy" else 0 for cause in CAUSES},
        "breakdown": parts,
        "layers": [],
        "attention_rollout": None,
    }


def write_run(path: Path, tasks: dict[str, dict[str, Any]], **changes: Any) -> Path:
    """A run.json of these tasks."""
    content = {
        "model": "nano",
        "weights": "trained",
        "routing": "model",
        "preset": "tiny",
        "program_digest": "0" * 64,
        "activation_width": 8,
        "residual_width": 16,
        "calibration": "max",
        "network": {
            "image_height": 64,
            "image_width": 128,
            "layers": ["layer00"],
            "operators": 9,
            "mixtures": [],
            "parameters": 1,
            "digest": "0" * 64,
        },
        "machine": {"elements": 4},
        "checkpoint": {},
        "memory": {"read_latency": 60},
        "memory_map": {},
        "seconds": 1.0,
        "peak_memory_bytes": 1,
        "bit_exact": True,
        "pictures": [{"source": "scene 0", "notices": []}],
        "tasks": tasks,
        "same_first_choice": {},
        "frames": [],
        "accuracy": {"scenes": 100, "float": {"mean_iou": 0.5}, "integer": {"mean_iou": 0.49}},
        "waves": None,
        "calibration_pictures": SCENES.to_dict(),
        "saturation": [],
        "notices": [],
    }
    write_document(path, RUN, content | changes)
    return path


def write_bench(path: Path, cycles: dict[str, int]) -> Path:
    """A bench.json with a frame for each preset."""
    frames = [
        {
            **dict.fromkeys(("memory_bytes_per_cycle", "read_latency", "bound_cycles", "ideal_cycles", "macs"), 8),
            **dict.fromkeys(("dram_bytes", "elements_compared", "predicted_cycles"), 8),
            **{
                "preset": preset,
                "program_digest": "0" * 64,
                "model": "nano",
                "weights": "trained",
                "routing": "skewed",
            },
            **{"task": "depth", "cycles": count, "over_bound": 1.1, "mac_utilisation": 0.9, "expert_load": {}},
            **{"bit_exact": True, "sim_cycles_per_s": 1.0},
            "kinds": {"MLP": {"cycles": count, "macs": 8, "mac_utilisation": 0.9, "causes": {"busy": count}}},
        }
        for preset, count in cycles.items()
    ]
    speeds = {"simulation": {"fast": 1e5}, "host": {"milliseconds": 5.0}, "estimates": {"again_seconds": 0.1}}
    write_document(path, BENCH, {"frames": frames, **speeds, "quoted": []})
    return path


def write_evaluation(path: Path, iou: float) -> Path:
    """The JSON file of an evaluation in float and in 8 bits."""
    data = {"name": "procedural", "split": "held-out", "pictures": 100, "height": 64, "width": 128, "classes": ["road"]}
    float_scores = {"arithmetic": "float", "scenes": 100, "mean_iou": 0.5, "depth_rmse_m": None, "depth_abs_rel": None}
    eight = {"arithmetic": "integer", "activation_width": 8, "calibration": "max", "scenes": 100, "mean_iou": iou}
    content = {
        "model": "nano",
        "weights": "trained",
        "routing": "model",
        "data": {**data, "scored": ["segmentation"], "calibration": "scenes", "notices": []},
        "results": [float_scores, eight | {"class_iou": {"road": iou}, "routing_changes": 0.01}],
        "seconds": 1.0,
    }
    write_document(path, EVALUATION, content)
    return path
