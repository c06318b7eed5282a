"""The benchmark's numbers hang together, and its tables say what was measured."""

from __future__ import annotations

import json

import numpy as np
import pytest

from tessera.golden.integer.model import IntegerModel
from tessera.hw.presets import preset
from tessera.sw.benchmark import attention, run, simulators
from tessera.sw.benchmark.frames import Case, measure_frames
from tessera.sw.benchmark.host import measure_host
from tessera.sw.benchmark.switching import measure_switching
from tessera.sw.cycles import bound
from tessera.sw.run.prepare import prepare
from tests.helpers.schemas import content
from tests.helpers.small_checkpoints import save_small


@pytest.fixture(scope="module")
def case(tmp_path_factory):
    """A small model on the smallest machine."""
    return Case(preset="tiny", model=str(save_small(tmp_path_factory.mktemp("bench") / "small.safetensors")))


@pytest.mark.soak
def test_one_run_measures_everything(case, tmp_path):
    result = run.run_bench(tmp_path, quick=True, cases=[case]).to_dict()
    assert content(tmp_path / "bench.json") == json.loads(json.dumps(result))
    model = prepare(case.target).program.model
    assert [frame["task"] for frame in result["frames"]] == [task.name for task in model.tasks]
    for frame in result["frames"]:
        assert frame["bit_exact"]
        assert frame["cycles"] > frame["bound_cycles"] >= frame["ideal_cycles"] > frame["macs"] / 16 > 0
        assert frame["mac_utilisation"] == pytest.approx(frame["macs"] / frame["cycles"] / 16)
        assert sum(kind["cycles"] for kind in frame["kinds"].values()) == frame["cycles"]
        assert sum(kind["macs"] for kind in frame["kinds"].values()) == frame["macs"]
        assert frame["sim_cycles_per_s"] > 0 and frame["predicted_cycles"] > 0
    speed = result["simulation"]
    assert speed["ratio"] == pytest.approx(speed["fast"] / speed["stock"]) and speed["rounds"] == 1
    assert speed["fast"] > speed["amaranth"] > 0
    assert result["host"]["milliseconds"] > 0
    table = (tmp_path / "bench.md").read_text()
    assert f"{result['frames'][0]['cycles']:,}" in table and "quoted" in table and "Amaranth" in table


def test_a_wrong_frame_is_not_bit_exact(case, monkeypatch):
    run = IntegerModel.run

    def wrong(self, *args, **more):
        tensors = run(self, *args, **more)
        name = f"head.{self.network.tasks[args[1]].name}"
        tensors[name] = tensors[name] + 1
        return tensors

    monkeypatch.setattr(IntegerModel, "run", wrong)
    assert not any(frame.bit_exact for frame in measure_frames(case))


def evenly(load):
    """As many tokens, the same for each expert as far as it goes."""
    return {name: np.bincount(np.arange(sum(tokens)) % len(tokens)).tolist() for name, tokens in load.items()}


def test_the_bound_is_that_of_the_loads_that_were_measured(case):
    program = prepare(case.target).program
    for task, frame in enumerate(measure_frames(case)):
        assert list(frame.to_dict()["expert_load"]) == list(program.mixtures)
        assert frame.bound_cycles == bound.bound(program, task, frame.expert_load)
        assert frame.bound_cycles != bound.bound(program, task, evenly(frame.expert_load))


def test_the_bound_counts_bytes_where_they_are_more(case):
    program = prepare(case.target).program
    load = {
        name: [len(mixture.source) * mixture.top_k] + [0] * (mixture.experts - 1)
        for name, mixture in program.mixtures.items()
    }
    one_expert = bound.bound(program, 0, load)
    assert one_expert >= bound.total(program, 0).ideal_cycles
    none = {name: [0] * len(tokens) for name, tokens in load.items()}
    assert 0 < bound.bound(program, 0, none) == bound.bound(program, 0, {}) < one_expert, "a frame that ended early"
    assert bound.bound(program, 0, evenly(load)) > one_expert, "every expert that is chosen is loaded"


def test_changing_the_task_is_free(case):
    cost = measure_switching(case.model, case.preset)
    assert (cost.extra_cycles, cost.extra_bytes) == (0, 0)


def test_machines_of_the_attention_measurement():
    assert [attention.narrowed_edge(elements).elements for elements in attention.ELEMENTS] == list(attention.ELEMENTS)
    assert attention.narrowed_edge(16).lanes == preset("edge").lanes


def test_host_and_rounds(case):
    assert measure_host(prepare(case.target)).threads >= 1
    assert simulators.ROUNDS >= 3
