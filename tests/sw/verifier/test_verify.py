"""The verifier catches every kind of difference and places it."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest

from tessera.golden.config import ModelConfig, TaskConfig
from tessera.golden.integer.model import IntegerModel
from tessera.hw.presets import preset
from tessera.program.layouts.rows import WideRows
from tessera.program.program import Program
from tessera.program.traces import Traces
from tessera.sw.compiler.compile import compile_model
from tessera.sw.verifier.verify import Verdict, verify
from tests.helpers import emulator
from tests.helpers.random_model import random_image, random_model

MODEL = ModelConfig(
    name="small",
    image_height=8,
    image_width=12,
    patch=4,
    dim=18,
    heads=3,
    layers=2,
    mlp_hidden=22,
    expert_layers=(1,),
    experts=3,
    expert_hidden=10,
    top_k=2,
    tasks=(
        TaskConfig(name="segmentation", kind="segmentation", channels=3, cells=1),
        TaskConfig(name="features", kind="features", channels=0, cells=0),
    ),
)
CONFIG = preset("ecp5-wide")


@dataclass
class Run:
    program: Program
    golden: dict[str, Any]
    traces: Traces

    def verify(self, space: str | None = None, records: np.ndarray | None = None, **changes: Any) -> Verdict:
        traces = replace(self.traces, **changes)
        if space is not None:
            traces = replace(traces, records={**self.traces.records, space: records})
        return verify(self.program, self.golden, traces, 0)

    def command(self, name: str) -> int:
        return next(command.index for command in self.program.commands if command.name == name)

    def records(self, space: str, command: str) -> tuple[np.ndarray, np.ndarray]:
        """A copy of a space's records, and the indices of those of one command."""
        records = self.traces.records[space].copy()
        return records, np.flatnonzero(records["command"] == self.command(command))


@pytest.fixture(scope="module")
def run() -> Run:
    quantised = random_model(MODEL, CONFIG.numerics, 13)
    program, image = compile_model(quantised, CONFIG), random_image(MODEL, 12)
    golden = IntegerModel(quantised, CONFIG.numerics).run(image, 0)
    return Run(program, golden, emulator.run(program, image, 0).traces)


def test_a_clean_run_passes(run):
    verdict = run.verify()
    assert verdict.passed and verdict.mismatches == 0
    assert "bit-exact" in str(verdict)
    names = {tensor.name for tensor in verdict.tensors}
    expected = {name for name in run.golden if "query_" not in name and name != "saturated"}
    assert expected <= names
    sizes = {tensor.name: tensor.elements for tensor in verdict.tensors}
    assert sizes["layer00.attention.scores"] == 3 * 7 * 7 and sizes["layer01.experts.expert_hidden"] == 7 * 2 * 10
    assert verdict.elements_compared == sum(tensor.elements for tensor in verdict.tensors)


@pytest.mark.parametrize(
    "space, command, tensor",
    [
        ("scratchpad", "pixels", "pixels"),
        ("residual", "embed.init", "embed.init"),
        ("residual", "embed", "embed"),
        ("scratchpad", "layer00.norm1", "layer00.norm1"),
        ("scratchpad", "layer00.q", "layer00.q"),
        ("scratchpad", "layer00.k", "layer00.k"),
        ("scratchpad", "layer00.v.weights", "layer00.v.weights"),
        ("scratchpad", "layer00.v", "layer00.v"),
        ("score", "layer00.attention", "layer00.attention.scores"),
        ("exponential", "layer00.attention", "layer00.attention.exponentials"),
        ("query", "layer00.attention", "layer00.attention.query_multiplier"),
        ("scratchpad", "layer00.attention", "layer00.attention"),
        ("residual", "layer00.residual_attention", "layer00.residual_attention"),
        ("scratchpad", "layer00.hidden", "layer00.hidden"),
        ("residual", "layer00.residual", "layer00.residual"),
        ("score", "layer01.experts.gate.segmentation", "layer01.experts.gate_scores"),
        ("scratchpad", "layer01.experts", "layer01.experts.expert_hidden"),
        ("residual", "layer01.experts", "layer01.experts.expert_residual"),
        ("scratchpad", "norm_patches", "norm_patches"),
        ("residual", "head.segmentation", "head.segmentation"),
    ],
)
def test_a_wrong_element_is_placed(run, space, command, tensor):
    records, mine = run.records(space, command)
    at = mine[len(mine) // 3]
    lane = 0
    if "columns" in records.dtype.names:
        lane = int(records[at]["columns"]).bit_length() * CONFIG.elements - CONFIG.elements
    records[at]["multiplier" if space == "query" else "data"][lane] ^= 1
    verdict = run.verify(space, records)
    first = verdict.first
    assert first is not None and verdict.mismatches >= 1
    assert (first.command_name, first.tensor, first.space) == (command, tensor, space)
    assert first.cycle == records[at]["cycle"]
    if space != "exponential":
        assert first.address == records[at]["address"]
    assert first.got is not None and first.expected is not None and abs(first.got - first.expected) == 1
    golden = run.golden.get(tensor)
    if golden is not None and first.index is not None:
        value = golden[first.index[0]][first.index[1:]] if isinstance(golden, list) else golden[first.index]
        assert value == first.expected
    assert f"got {first.got}" in str(verdict) and command in str(verdict)
    assert json.loads(json.dumps(verdict.to_dict()))["first"]["tensor"] == tensor


def test_both_halves_of_a_wide_value_count(run):
    records, mine = run.records("scratchpad", "layer01.norm2")
    tensors = run.program.commands[run.command("layer01.norm2")].tensors
    wide = next(tensor.layout for tensor in tensors if isinstance(tensor.layout, WideRows))
    at = next(i for i in mine if records[i]["address"] == wide.base and records[i]["columns"] == 1)
    records[at]["data"][3] ^= 0x80
    first = run.verify("scratchpad", records).first
    assert first is not None and first.tensor == "layer01.norm2.wide" and first.index == (0, 1)
    assert abs(first.got - first.expected) == 0x8000


def test_the_earliest_difference_is_the_first(run):
    records, mine = run.records("scratchpad", "layer00.q")
    _, later = run.records("scratchpad", "layer00.hidden")
    for at in (mine[9], mine[4], later[0]):
        records[at]["data"] ^= 2
    first = run.verify("scratchpad", records).first
    assert first is not None and first.cycle == records[mine[4]]["cycle"]


@pytest.mark.parametrize("space", ["scratchpad", "residual", "score", "exponential", "query"])
def test_a_missing_write_is_found(run, space):
    command = "layer01.experts" if space == "residual" else "layer00.attention"
    records, mine = run.records(space, command)
    if "columns" in records.dtype.names:
        mine = mine[records[mine]["columns"] == 1]  # not one that holds nothing but padding
    verdict = run.verify(space, np.delete(records, mine[-1]))
    assert verdict.first is not None and verdict.first.command_name == command
    assert sum(tensor.missing for tensor in verdict.tensors) > 0
    assert "never written" in verdict.first.reason


def test_a_stray_write_is_found(run):
    records, mine = run.records("scratchpad", "layer00.q")
    records[mine[5]]["address"] = CONFIG.scratchpad_words - 1
    first = run.verify("scratchpad", records).first
    assert first is not None and "outside" in first.reason and first.address == CONFIG.scratchpad_words - 1


def test_a_write_of_a_command_that_writes_nothing_there_is_found(run):
    records, mine = run.records("scratchpad", "layer00.q")
    extra = records[mine[-1:]]
    extra["command"] = run.command("layer00.residual_attention")
    verdict = run.verify("scratchpad", np.concatenate([run.traces.records["scratchpad"], extra]))
    assert verdict.first is not None and verdict.first.command_name == "layer00.residual_attention"
    assert "does not belong" in str(verdict)
    extra["command"] = 1000
    verdict = run.verify("scratchpad", np.concatenate([run.traces.records["scratchpad"], extra]))
    assert verdict.first is not None and "does not belong" in str(verdict)


def test_a_write_of_another_tasks_command_is_found(run):
    records, mine = run.records("residual", "layer00.residual")
    extra = records[mine[:1]]
    extra["command"] = run.command("store.features")
    verdict = run.verify("residual", np.concatenate([records, extra]))
    assert verdict.first is not None and verdict.first.command_name == "store.features"


@pytest.mark.parametrize("space", ["score", "exponential", "query"])
@pytest.mark.parametrize("job", [1, 2])
def test_a_tile_written_twice_is_found(run, space, job):
    records, mine = run.records(space, "layer00.attention")
    at = np.array_split(mine, 3)[job][-1]
    verdict = run.verify(space, np.insert(records, at + 1, records[at]))
    assert verdict.first is not None and "too often" in verdict.first.reason


def test_wrong_padding_is_found(run):
    records, mine = run.records("scratchpad", "layer00.norm1")
    at = next(i for i in mine if records[i]["address"] % 2 == 1 and records[i]["columns"] == 1)
    records[at]["data"][5] = 7
    first = run.verify("scratchpad", records).first
    assert first is not None and "padding" in first.reason and (first.expected, first.got) == (0, 7)


def test_a_missing_clear_is_found(run):
    records, mine = run.records("exponential", "layer00.attention")
    records[mine[0]]["clear"] ^= 1
    first = run.verify("exponential", records).first
    assert first is not None and "clear" in first.reason


@pytest.mark.parametrize(
    "field, tensor", [("expert", "expert_indices"), ("weight", "expert_weights"), ("position", "queues")]
)
def test_a_wrong_queue_entry_is_found(run, field, tensor):
    records, mine = run.records("queue", "layer01.experts.route")
    records[mine[5]][field] ^= 1
    first = run.verify("queue", records).first
    assert first is not None and first.tensor == f"layer01.experts.{tensor}" and first.index == (2, 1)
    assert abs(first.got - first.expected) == 1
    missing = run.verify("queue", np.delete(run.traces.records["queue"], mine[-1])).first
    assert missing is not None and "missing" in missing.reason
    twice = run.verify("queue", np.insert(run.traces.records["queue"], mine[-1], records[mine[-1]])).first
    assert twice is not None


def test_a_wrong_result_in_memory_is_found(run):
    output = run.traces.output.copy()
    output[4 * CONFIG.lanes + 4] ^= 1
    first = run.verify(output=output).first
    assert first is not None and first.tensor == "head.segmentation" and first.space == "memory" and first.cycle is None
    assert first.index == (1, 1) and first.token == 1


def test_a_golden_tensor_of_another_shape_is_an_error(run):
    golden = {**run.golden, "layer00.q": run.golden["layer00.q"][:, :-1]}
    with pytest.raises(ValueError, match="layer00.q"):
        verify(run.program, golden, run.traces, 0)
