"""ComputeEngine: the exact beats of every kind of job, under stalls, and one beat a cycle without them."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest

from tessera.hw.compute.engine import ComputeEngine
from tessera.hw.compute.finder import RowFinder
from tessera.hw.config import AcceleratorConfig
from tessera.hw.isa import Destination
from tessera.sim.bench.run import run_testbench
from tests.helpers.units import or_soak, simulator
from tests.hw.compute.engine_model import ATTENTION_LENGTHS, LINEAR_LENGTHS, blank_job

CONFIGS = {
    "2x4": AcceleratorConfig(name="2x4", elements=2, lanes=4, memory_bytes=4, bank_words=128, max_tokens=64),
    "4x4": AcceleratorConfig(name="4x4", elements=4, lanes=4, memory_bytes=4, bank_words=128, max_tokens=64),
    "8x16": AcceleratorConfig(name="8x16", elements=8, lanes=16, memory_bytes=4, bank_words=128, requantise_lanes=8),
    "16x16": AcceleratorConfig(name="16x16", elements=16, lanes=16, memory_bytes=4, bank_words=128, requantise_lanes=4),
}
TAILS = [("4x4", 0.5), ("8x16", 0.0)]
KINDS = ("normal", "swapped", "gather", "scatter", "wide", "convolution", "attention")


def random_queues(config: AcceleratorConfig, random: np.random.Generator) -> list[list[tuple[int, int]]]:
    """Each expert's queue of (token, gate weight)."""
    shape = (config.max_experts, config.max_tokens)
    tokens, weights = random.integers(0, config.max_tokens, shape), random.integers(0, 1 << 16, shape)
    return np.stack([tokens, weights], axis=-1).tolist()


def make_job(config: AcceleratorConfig, kind: str, random: np.random.Generator, **fields: int) -> dict[str, int]:
    """A job with random addresses and constants, and the given (else small random) lengths."""
    job = blank_job(config)
    for name in job:
        if name.endswith(("base", "stride", "window", "multiplier", "shift")):
            job[name] = int(random.integers(0, 1 << (6 if name.endswith("shift") else 16)))
    job["channels"] = int(random.integers(0, 1 << 12))
    lengths = {
        "steps": 9,
        "words": 4,
        "stationary_rows": 3 * config.elements,
        "windows": 3,
        "queries": 20,
        "keys": 20,
        "heads": 3,
        "head_words": 3,
        "value_words": 3,
    }
    job |= {name: int(random.integers(1, top + 1)) for name, top in lengths.items()}
    job |= {"bias_words": int(random.integers(0, 5)), "bias_shared": int(random.integers(0, 2))}
    job["routed"] = int(random.integers(0, 2))
    # Fields of the other kind of job may hold anything.
    flags = ("function", "broadcast_unsigned", "swapped", "wide", "gather", "scatter", "convolution")
    job |= {name: int(random.integers(0, 2)) for name in flags if kind == "attention" or name in flags[:2]}
    destinations = list(Destination)
    job["destination"] = int(Destination.RESIDUAL_ADD if kind == "scatter" else random.choice(destinations))
    if kind == "swapped" and job["destination"] == Destination.SCORE:
        job["windows"] = 1
    if kind == "convolution":
        return job | {kind: 1} | make_kernel(random, fields.get("words")) | fields
    job |= ({kind: 1} if kind != "normal" else {}) | fields
    return job | {"list": int(random.integers(0, config.list_entries - job["steps"] + 1))}


def make_kernel(random: np.random.Generator, words: int | None = None) -> dict[str, int]:
    """Fields of a convolution, small but for its addresses: a kernel may lie beyond the input on every side.

    A given length of the reduction is so many taps side by side.
    """
    largest = {
        "tap_words": 3, "taps_y": 4, "taps_x": 4, "stride_y": 4, "stride_x": 4, "input_rows": 6, "input_columns": 6,
        "output_columns": 5, "group_words": 9, "group_tiles": 3, "destination": 2,
    }  # fmt: skip
    kernel = {name: int(random.integers(1, top + 1)) for name, top in largest.items()}
    kernel |= {"pad_top": int(random.integers(0, 4)), "pad_left": int(random.integers(0, 4))}
    kernel |= {"clamp": int(random.integers(0, 2)), "padding": int(random.integers(0, 1 << 16))}
    kernel |= {"broadcast_stride": int(random.integers(0, 1 << 8)), "line_stride": int(random.integers(0, 1 << 16))}
    kernel |= {"destination_jump": int(random.integers(0, 1 << 16))}
    if words is not None:
        kernel |= {"taps_y": 1, "taps_x": words, "tap_words": 1}
    return kernel | {"words": kernel["taps_y"] * kernel["taps_x"] * kernel["tap_words"]}


def run(config: AcceleratorConfig, jobs: list[dict[str, int]], *, stall: float, seed: int) -> list[dict[str, Any]]:
    """Run jobs one after the other; returns what was seen of their timing."""
    queues = random_queues(config, np.random.default_rng(seed))
    settings = {"config": config.to_dict(), "jobs": jobs, "queues": queues, "stall": stall}
    return run_testbench(
        simulator(ComputeEngine, config), "tests.hw.compute.engine_bench", parameters=settings, seed=seed
    ).outputs["timing"]


@pytest.mark.parametrize("stall", or_soak([0.0, 0.4, 0.9], lambda stall: stall != 0.4))
@pytest.mark.parametrize("size", CONFIGS)
def test_random_jobs(size, stall):
    seed = 10 + int(10 * stall)
    random = np.random.default_rng(seed)
    jobs = [make_job(CONFIGS[size], str(kind), random) for kind in random.permutation(np.repeat(KINDS, 3))]
    run(CONFIGS[size], jobs, stall=stall, seed=seed)


@pytest.mark.parametrize(("size", "stall"), or_soak(product(CONFIGS, [0.0, 0.5]), lambda case: case in TAILS))
def test_tails(size, stall):
    config, random, jobs = CONFIGS[size], np.random.default_rng(5), []
    p, t = config.elements, config.lanes
    for kind in KINDS[:-1]:
        for rows in (1, p, 2 * p + 1):
            rows = rows if kind == "swapped" else -(-rows // p) * p
            for steps, words in ((1, 1), (3, 1), (1, 2)):
                sizes = {"stationary_rows": rows, "steps": steps, "words": words}
                jobs.append(make_job(config, kind, random, destination=int(Destination.ACTIVATION), **sizes))
    for queries, keys in product((1, p - 1, p, p + 1, 2 * p), (1, t - 1, t, t + 1, 2 * t + 1)):
        sizes = {"queries": queries, "keys": keys, "head_words": 1, "value_words": 1}
        jobs.append(make_job(config, "attention", random, windows=1 + queries % 2, heads=1 + keys % 2, **sizes))
    for words, bias_words, keys in product((1, 2, 3), (1, 2, 3, 4), (1, 3)):
        sizes = {"queries": p + 1, "keys": keys, "head_words": words, "bias_words": bias_words, "value_words": 1}
        jobs.append(make_job(config, "attention", random, windows=2, heads=2, **sizes))
    run(config, jobs, stall=stall, seed=7)


def test_jobs_without_work_end_at_once():
    config, random, jobs = CONFIGS["4x4"], np.random.default_rng(6), []
    for kind in KINDS:
        for name in ATTENTION_LENGTHS if kind == "attention" else LINEAR_LENGTHS:
            jobs += [make_job(config, kind, random, **{name: 0}), make_job(config, kind, random)]
    timing = run(config, jobs, stall=0.0, seed=8)
    begun = [max(job["taken"], before["done"]) for before, job in zip(timing[1::2], timing[2::2], strict=False)]
    assert {job["done"] - start for job, start in zip(timing[2::2], begun, strict=True)} <= {1, 2, 3, 4, 5}


@pytest.mark.parametrize("size", or_soak(CONFIGS, lambda size: size != "16x16"))
def test_one_beat_a_cycle(size):
    config, random = CONFIGS[size], np.random.default_rng(9)
    interval = config.elements // config.requantise_lanes
    rows = 5 * config.elements
    lengths = {"steps": 2 * config.elements + 7, "words": interval + 1, "stationary_rows": rows, "function": 0}
    # Long enough to hide loading of queries, score latency and softmax behind the neighbouring tiles.
    tokens, words = max(41, config.lanes * interval - 3), max(2, interval)
    attention = {"queries": tokens, "keys": tokens, "heads": 2, "head_words": words, "value_words": words}
    # A kernel rests for a cycle between its moves: it must not move further in a step than the step has words.
    own = {"attention": attention, "convolution": lengths | {"stride_x": 1, "stride_y": 1}}
    jobs = [make_job(config, kind, random, **own.get(kind, lengths)) for kind in KINDS]
    timing = dict(zip(KINDS, run(config, jobs, stall=0.0, seed=9), strict=True))
    for kind, seen in timing.items():
        gaps = seen["at"][-1] - seen["at"][0] + 1 - seen["beats"]
        assert gaps == 0, f"{kind}: {gaps} cycles without a beat among {seen['beats']}"
    for kind in ("normal", "gather", "scatter", "wide"):
        first = timing[kind]["at"][0] - timing[kind]["taken"]
        assert first == ComputeEngine.FIRST_BEAT + (RowFinder.QUEUE_LATENCY - 2 if kind in ("gather", "scatter") else 0)


@pytest.mark.parametrize("size", ["2x4", "4x4", "16x16"])
def test_steps_keep_the_drains_pace(size):
    config, random = CONFIGS[size], np.random.default_rng(11)
    interval = config.elements // config.requantise_lanes
    kinds = ("normal", "gather", "scatter", "swapped")
    jobs = [make_job(config, k, random, steps=20, words=1, stationary_rows=3 * config.elements) for k in kinds]
    for kind, seen in zip(kinds, run(config, jobs, stall=0.0, seed=11), strict=True):
        if kind != "swapped":
            assert set(np.diff(seen["steps"]).tolist()) == {interval}, f"{kind}: steps not {interval} cycles apart"
        assert min(np.diff(seen["steps"])) >= interval
