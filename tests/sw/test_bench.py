"""The benchmark's numbers hang together, and its table says what was measured."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest

from hw.config import preset
from sw import bench
from sw.faults import MODEL, Subject


@pytest.fixture(scope="module")
def prepared():
    """A small model on the smallest machine."""
    subject = Subject(preset("tiny"))
    integer = SimpleNamespace(run=lambda image, task: subject.golden(task, image=image))
    return SimpleNamespace(program=subject.program, config=subject.config, integer=integer, quantised=subject.quantised)


def test_frames_and_speeds_of_a_small_model(prepared, tmp_path, monkeypatch):
    monkeypatch.setattr(bench, "prepare", lambda model, name: prepared)
    built = []
    build = bench.build_machine
    monkeypatch.setattr(bench, "build_machine", lambda config, stock=False: built.append(stock) or build(config))
    result = bench.run_bench(tmp_path, quick=True)
    assert built == [False, True]
    assert json.loads((tmp_path / "bench.json").read_text()) == result
    assert [frame["task"] for frame in result["frames"]] == [task.name for task in MODEL.tasks]
    for frame in result["frames"]:
        assert frame["bit_exact"]
        assert frame["cycles"] > frame["bound_cycles"] > frame["macs"] / 16 > 0
        assert frame["mac_utilisation"] == pytest.approx(frame["macs"] / frame["cycles"] / 16)
        assert frame["sim_cycles_per_s"] > 0
    speed = result["simulation"]
    assert speed["ratio"] == pytest.approx(speed["fast"] / speed["stock"]) and speed["rounds"] == 1
    table = (tmp_path / "bench.md").read_text()
    assert f"{result['frames'][0]['cycles']:,}" in table and f"{speed['ratio']:.2f} x" in table


def test_a_wrong_frame_is_not_bit_exact(prepared):
    golden = prepared.integer.run

    def wrong(image, task):
        tensors = golden(image, task)
        tensors["head"] = tensors["head"] + 1
        return tensors

    broken = SimpleNamespace(**{**vars(prepared), "integer": SimpleNamespace(run=wrong)})
    frames = bench.measure_frames(broken, bench.build_machine(prepared.config))
    assert [frame["bit_exact"] for frame in frames] == [False, False]
    assert "**no**" in bench.to_markdown(
        {
            "frames": frames,
            "simulation": {"model": "m", "preset": "p", "rounds": 1, "fast": 2.0, "stock": 1.0, "ratio": 2.0},
        }
    )
