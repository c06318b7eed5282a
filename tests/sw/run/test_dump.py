"""Dumped tensors: what the machine wrote, as it wrote it, beside what the models computed."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from tessera.golden import checkpoint
from tessera.golden.integer.model import IntegerModel
from tessera.program.layouts.rows import LastRows
from tessera.sw.compiler.compile import compile_model
from tessera.sw.data.pictures import scene_picture
from tessera.sw.quantiser.quantise import calibration_images, quantise
from tessera.sw.run.dump import dump_tensors
from tessera.sw.run.prepare import Prepared
from tessera.sw.run.target import machine
from tessera.sw.verifier.readback import residual_streams
from tests.helpers import emulator
from tests.helpers.small_checkpoints import SMALL, save_small

TASKS = ("segmentation", "depth")


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    path = save_small(tmp_path_factory.mktemp("models") / "small.safetensors")
    loaded, config = checkpoint.load(path), machine("ecp5-wide")  # two columns a word
    quantised = quantise(loaded.model, calibration_images(loaded.network, range(2)), config.numerics)
    integer, program = IntegerModel(quantised, config.numerics), compile_model(quantised, config)
    return Prepared(path=path, checkpoint=loaded, quantised=quantised, integer=integer, program=program)


@pytest.fixture
def image() -> np.ndarray:
    return scene_picture(SMALL).image


def finished(prepared: Prepared, image: np.ndarray, traces: dict[str, Any]) -> Any:
    """A run of both tasks as far as the dump looks at it."""
    frames = {
        name: SimpleNamespace(result=SimpleNamespace(traces=traces[name], task=TASKS.index(name))) for name in TASKS
    }
    return SimpleNamespace(pictures=[SimpleNamespace(image=image)], tasks=lambda: frames)


def test_names_shapes_and_values(prepared: Prepared, image: np.ndarray, tmp_path: Path) -> None:
    traces = {name: emulator.run(prepared.program, image, task).traces for task, name in enumerate(TASKS)}
    dump_tensors(prepared, finished(prepared, image, traces), tmp_path / "tensors.npz")
    with np.load(tmp_path / "tensors.npz") as tensors:
        for task in TASKS:
            golden, capture = prepared.integer.run(image, task), {}
            with torch.no_grad():
                prepared.checkpoint.model.predict(torch.from_numpy(image[None]), task, capture=capture)
            for layer in ("layer00", "layer01"):
                found = {kind: tensors[f"{kind}/{task}/{layer}"] for kind in ("float", "integer", "rtl")}
                assert all(v.shape == (9, SMALL.dim) and v.dtype == np.float32 for v in found.values())
                assert np.array_equal(found["float"], capture[f"{layer}.residual"][0].numpy())
                expected = prepared.integer.dequantise(f"{layer}.residual", golden[f"{layer}.residual"])
                assert np.array_equal(found["integer"], expected.astype(np.float32))
                assert np.array_equal(found["rtl"], found["integer"]) and found["rtl"].std() > 0.1
                error = np.linalg.norm(found["rtl"] - found["float"]) / np.linalg.norm(found["float"])
                assert 0 < error < 0.1
            assert np.array_equal(
                tensors[f"{task}/layer01.experts.expert_indices"], golden["layer01.experts.expert_indices"]
            )
            assert np.array_equal(tensors[f"{task}/machine"], golden[f"head.{task}"])
        assert len([name for name in tensors if name.startswith("rtl/")]) == 4


def test_rtl_is_no_copy_of_the_golden_model(prepared: Prepared, image: np.ndarray, tmp_path: Path) -> None:
    traces = {name: emulator.run(prepared.program, image, task).traces for task, name in enumerate(TASKS)}
    traces["depth"].records["residual"]["data"] += 5
    dump_tensors(prepared, finished(prepared, image, traces), tmp_path / "tensors.npz")
    with np.load(tmp_path / "tensors.npz") as tensors:
        for task, steps in (("segmentation", 0), ("depth", 5)):
            for layer in ("layer00", "layer01"):
                step = prepared.quantised.scales[f"{layer}.residual"]
                # Whole steps, as differences of float32 values: rounding blurs them by far less than a tenth of a step.
                difference = tensors[f"rtl/{task}/{layer}"] - tensors[f"integer/{task}/{layer}"]
                assert np.allclose(difference, steps * step, atol=step / 10), f"{task} {layer}"


def test_the_machines_values_come_from_its_writes(prepared: Prepared, image: np.ndarray) -> None:
    """Another last value, an earlier one, and none at all: each is what the dump shows, in that place alone."""
    traces, program = emulator.run(prepared.program, image, 1).traces, prepared.program
    before = dict(residual_streams(program, traces, 1))
    command = next(command.index for command in program.commands if command.name == "layer01.experts")
    records = traces.records["residual"]
    place = next(t.layout for t in program.commands[command].tensors if isinstance(t.layout, LastRows)).locate()
    here = (records["command"] == command) & (records["address"] == place.word[5, 3])
    column = place.lane[5, 3] // program.config.elements
    writes = np.flatnonzero(here & (records["columns"] >> column & 1 == 1))
    assert len(writes) == SMALL.top_k

    def after() -> tuple[np.ndarray, np.ndarray]:
        streams = dict(residual_streams(program, traces, 1))
        assert np.array_equal(streams["layer00"], before["layer00"])
        return streams["layer01"], streams["layer01"] != before["layer01"]

    records["data"][writes[0], place.lane[5, 3]] ^= 1
    assert not after()[1].any(), "of several writes only the last one counts"
    records["data"][writes[-1], place.lane[5, 3]] = -77
    values, changed = after()
    assert values[5, 3] == -77 and changed.sum() == 1
    records["command"][writes] += 1
    values, changed = after()
    assert np.isnan(values[5]).sum() == min(program.config.elements, SMALL.dim) == changed.sum()
