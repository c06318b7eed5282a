"""``tessera run`` and ``verify`` on a small model and the preset tiny: results, reports, a fault that is caught."""

from __future__ import annotations

import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from tessera.program.program import Program
from tessera.sw.cli import app
from tessera.sw.data.pictures import PictureChoice
from tessera.sw.run import execute
from tessera.sw.run.prepare import compile_file, prepare
from tessera.sw.run.target import Target
from tests.helpers.schemas import document
from tests.helpers.small_checkpoints import save_small


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_small(tmp_path_factory.mktemp("models") / "small.safetensors")


@pytest.fixture(scope="module")
def finished(small: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """Folder and output of a run of both tasks on a picture file of another size and mode."""
    folder = tmp_path_factory.mktemp("run")
    picture = folder / "picture.png"
    Image.fromarray(np.random.default_rng(3).integers(0, 65535, (40, 50)).astype(np.uint16)).save(picture)
    out = folder / "out"
    arguments = ["--image", str(picture), "--out", str(out), "--dump", str(folder / "tensors.npz"), "--waves"]
    result = CliRunner().invoke(app, ["run", "--model", str(small), "--preset", "tiny", *arguments])
    assert result.exit_code == 0, result.output
    return out, result.output


def test_run_json_has_what_is_promised(finished: tuple[Path, str]) -> None:
    run = document(finished[0] / "run.json")
    assert run["model"] == "small" and run["preset"] == "tiny" and run["bit_exact"] is True
    assert {"python", "torch", "amaranth", "verilator", "c++"} <= run["tool_versions"].keys() and run["git"]
    assert list(run["tasks"]) == ["segmentation", "depth"]
    for task in run["tasks"].values():
        assert task["bit_exact"] is True
        assert task["tensors_compared"] > 30 and task["elements_compared"] > 5000
        assert task["cycles"] > task["bound_cycles"] >= task["ideal_cycles"] > 0
        assert task["predicted_cycles"] == pytest.approx(task["cycles"], rel=0.03)
        assert task["announced_cycles"] >= task["ideal_cycles"]
        assert task["mac_utilisation"] == pytest.approx(task["macs"] / (task["cycles"] * 16))
        assert task["dram_bytes"] == task["counters"]["read_bytes"] + task["counters"]["write_bytes"] > 0
        assert task["sim_cycles_per_s"] > 0
        assert 0 < task["quantisation"]["relative_l2"] < 0.5
        layers = task["layers"]
        assert sum(layer["ideal_cycles"] for layer in layers) == task["ideal_cycles"]
        assert all(layer["cycles"] >= layer["ideal_cycles"] for layer in layers if layer["op"] != "EXPERTS")
        assert all(layer["name"] and layer["op"] for layer in layers)
        assert sum(task["causes"].values()) == task["cycles"] == sum(part["cycles"] for part in task["breakdown"])
        assert task["causes"]["busy"] == task["counters"]["mac_busy"] == task["ideal_cycles"]
        assert all(sum(layer["causes"].values()) == layer["owned_cycles"] for layer in layers)
        control = sum(part["cycles"] for part in task["breakdown"] if part["kind"] == "control")
        assert sum(layer["owned_cycles"] for layer in layers) + control == task["cycles"]
        assert sum(task["expert_load"]["layer01.experts"]) == 9 * 2
        assert sum(task["expert_first_choices"]["layer01.experts"]) == 9
        attention = task["attention_rollout"]
        assert 1 <= attention["patches"] <= 8 and 0 < attention["own"] < 1 and 0 < attention["distance"] < 4
    assert 0 <= run["same_first_choice"]["layer01.experts"] <= 1
    assert run["accuracy"]["scenes"] == 100
    assert all(0 < run["accuracy"]["outputs"][task]["relative_l2"] < 0.5 for task in run["tasks"])
    assert f"Program: digest {run['program_digest'][:12]}" in finished[1]
    assert run["program_digest"] in (finished[0] / "report.html").read_text()


def test_run_says_what_it_does_and_what_came_out(finished: tuple[Path, str]) -> None:
    output = " ".join(finished[1].split())
    for words in (
        "small: image 16x32, 9 tokens of 24, 3 heads, 2 layers, 4 experts of 16 in 1, top-2",
        "tiny: 4 x 4 multiply-accumulates a cycle",
        "resized from 50x40 to 32x16 pixels",
        "converted from mode I;16",
        "bit-exact",
        "Waves: none were recorded, because nothing mismatched",
        "report.html",
    ):
        assert words in output, finished[1]


class _Page(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.links += [value or "" for name, value in attrs if name in ("src", "href")]


def test_page_is_self_contained(finished: tuple[Path, str]) -> None:
    text = (finished[0] / "report.html").read_text()
    page = _Page()
    page.feed(text)
    pictures = [link for link in page.links if not link.startswith("#")]
    assert len(pictures) == 12 and all(link.startswith("data:image/png;base64,") for link in pictures)
    places = [link.removeprefix("#") for link in page.links if link.startswith("#")]
    assert len(places) == 9 and all(f'<h2 id="{place}">' in text for place in places)
    assert (
        text.index("Bit-exact: all") < text.index('id="results"') < text.index('id="frame"') < text.index('id="made"')
    )
    assert not re.search(r"https?://|@import|url\(", text)
    assert "Bit-exact" in text and "simulated" in text and "layer01.experts" in text


def test_pictures_are_written_and_not_blank(finished: tuple[Path, str]) -> None:
    names = {path.name for path in finished[0].iterdir()}
    assert names == {
        *("run.json", "report.html", "timeline.json", "input.png", "segmentation.png", "depth.png"),
        *("errors-segmentation.png", "errors-depth.png", "routing.png", "loads.png", "rollout.png"),
        *("cycles-segmentation.png", "cycles-depth.png"),
        *("roofline-segmentation.png", "roofline-depth.png"),
    }
    for path in finished[0].glob("*.png"):
        pixels = np.asarray(Image.open(path).convert("RGB"))
        assert pixels.shape[0] > 80 and len(np.unique(pixels.reshape(-1, 3), axis=0)) > 20


def test_predictions_come_from_the_machines_output(finished: tuple[Path, str], small: Path) -> None:
    with np.load(finished[0].parent / "tensors.npz") as tensors:
        for task in ("segmentation", "depth"):
            assert np.array_equal(tensors[f"{task}/machine"], tensors[f"{task}/head.{task}"])
            for layer in ("layer00", "layer01"):
                rtl = tensors[f"rtl/{task}/{layer}"]
                assert np.isfinite(rtl).all() and np.array_equal(rtl, tensors[f"integer/{task}/{layer}"])
        assert tensors["segmentation/layer01.experts.expert_indices"].shape == (9, 2)


def _weight_byte(small: Path) -> str:
    """Address and bit of a weight that decides much: in the first layer's second MLP matrix."""
    program = compile_file(Target(model=small, preset="tiny"))
    command = next(command for command in program.commands if command.name == "layer00.residual")
    from tessera.hw.isa import decode

    fields = decode(program.command_bytes(command.index))[1]
    return f"{program.map.weights + fields['stream_address'] + fields['stream_bytes'] - 24:#x}:6"


def test_a_flipped_weight_bit_is_caught_and_placed(small: Path, tmp_path: Path) -> None:
    arguments = ["--model", str(small), "--preset", "tiny", "--flip", _weight_byte(small), "--out", str(tmp_path / "o")]
    dump = tmp_path / "tensors.npz"
    result = CliRunner().invoke(app, ["run", "--task", "depth", "--dump", str(dump), *arguments])
    assert result.exit_code == 1, result.output
    with np.load(dump) as tensors:
        assert not np.array_equal(tensors["depth/machine"], tensors["depth/head.depth"])
        assert not np.array_equal(tensors["rtl/depth/layer00"], tensors["integer/depth/layer00"])
    flat = " ".join(result.output.split())
    assert "NOT bit-exact" in flat and "layer00.residual" in flat and "cycle" in flat and "expected" in flat
    run = document(tmp_path / "o" / "run.json")
    assert run["tasks"]["depth"]["bit_exact"] is False
    assert run["tasks"]["depth"]["first_mismatch"]["command_name"] == "layer00.residual"
    assert "NOT bit-exact" in (tmp_path / "o" / "report.html").read_text()


def test_two_pictures_back_to_back_with_stalls(small: Path, tmp_path: Path) -> None:
    arguments = ["--images", "2", "--stalls", "60", "--memory-latency", "9", "--seed", "5", "--out", str(tmp_path)]
    result = CliRunner().invoke(app, ["verify", "--model", str(small), "--preset", "tiny", *arguments])
    assert result.exit_code == 0, result.output
    verdicts = document(tmp_path / "verify.json")
    frames = verdicts["runs"][0]["frames"]
    assert [(frame["picture"], frame["task"]) for frame in frames] == [
        *((0, "segmentation"), (0, "depth")),
        *((1, "segmentation"), (1, "depth")),
    ]
    assert all(frame["bit_exact"] for frame in frames)
    assert verdicts["runs"][0]["memory"] == {"read_latency": 9, "write_latency": 20, "stall": 60, "seed": 5}


def test_python_interface_does_the_same(small: Path, tmp_path: Path) -> None:
    stages = []
    result = execute.run(
        Target(model=small, preset="tiny"),
        task="depth,segmentation,depth",
        pictures=PictureChoice(scene=4),
        accuracy_scenes=0,
        on_progress=lambda stage, fraction, detail: stages.append((stage, fraction)),
    )
    assert result.bit_exact and [frame.task for frame in result.frames] == ["depth", "segmentation", "depth"]
    assert "float_depth_rmse_m" in result.frames[0].prediction.scores
    assert [stage for stage, _ in stages if stage in ("quantise", "simulate", "verify")]
    assert all(0 <= fraction <= 1 for _, fraction in stages)


def test_quantize_and_compile(small: Path, tmp_path: Path) -> None:
    quantised, program = tmp_path / "quantised.safetensors", tmp_path / "program.safetensors"
    arguments = ["--model", str(small), "--scenes", "3", "--errors", "2", "-o", str(quantised)]
    result = CliRunner().invoke(app, ["quantize", *arguments])
    assert result.exit_code == 0, result.output
    report = document(quantised.with_suffix(".json"))
    assert len(report["errors"]["depth"]["layers"]) == 2 and report["accuracy"]["scenes"] == 3
    arguments = ["--model", str(quantised), "--preset", "tiny", "-o", str(program)]
    result = CliRunner().invoke(app, ["compile", *arguments])
    assert result.exit_code == 0, result.output
    assert np.array_equal(Program.load(program).content, prepare(Target(model=small, preset="tiny")).program.content)


def test_quantize_measures_the_error_on_given_pictures(small: Path, tmp_path: Path) -> None:
    errors = {}
    for seed in (1, 2):
        picture, out = tmp_path / f"{seed}.float32.bin", tmp_path / f"{seed}.safetensors"
        pixels = np.random.default_rng(seed).integers(0, 256, (3, 16, 32))
        (pixels / 256).astype("<f4").tofile(picture)
        arguments = ["--model", str(small), "--scenes", "1", "--image", str(picture), "-o", str(out)]
        result = CliRunner().invoke(app, ["quantize", *arguments])
        assert result.exit_code == 0, result.output
        report = document(out.with_suffix(".json"))
        assert report["error_pictures"] == [str(picture)]
        errors[seed] = report["errors"]["depth"]["layers"][0]["relative_l2"]
        prepared = prepare(Target(model=small, preset="tiny"))
        golden = prepared.integer.run(pixels.astype(np.uint8), "depth")["layer00.residual"]
        capture: dict = {}
        with torch.no_grad():
            prepared.checkpoint.model.predict(torch.from_numpy(pixels.astype(np.uint8)[None]), "depth", capture=capture)
        expected = capture["layer00.residual"][0].double().numpy()
        error = prepared.integer.dequantise("layer00.residual", golden) - expected
        assert errors[seed] == pytest.approx(np.linalg.norm(error) / np.linalg.norm(expected))
    assert errors[1] != errors[2]


@pytest.mark.slow
def test_waves_of_the_window_around_a_mismatch(small: Path, tmp_path: Path) -> None:
    arguments = ["--model", str(small), "--preset", "tiny", "--flip", _weight_byte(small), "--out", str(tmp_path / "o")]
    result = CliRunner().invoke(app, ["run", "--task", "depth", "--waves", *arguments])
    assert result.exit_code == 1, result.output
    cycle = document(tmp_path / "o" / "run.json")["tasks"]["depth"]["first_mismatch"]["cycle"]
    text = (tmp_path / "o" / "mismatch.vcd").read_text()
    identifier = re.search(r"\$var wire 64 (\S+) cycle ", text)
    assert identifier is not None
    seen = [int(value, 2) for value in re.findall(rf"^b([01]+) {re.escape(identifier[1])}$", text, re.MULTILINE)]
    assert (min(seen), max(seen)) == (cycle - 200, cycle + 50)
    assert "$scope module softmax" in text


def test_help_of_every_command_has_an_example() -> None:
    for command in "doctor train import quantize evaluate compile run deploy verify selftest bench synth".split():
        result = CliRunner().invoke(app, [command, "--help"])
        assert result.exit_code == 0 and f"tessera {command}" in result.output.split("Example")[1]


@pytest.mark.parametrize("arguments", [["-h"], ["run", "-h"]], ids=" ".join)
def test_the_usage_names_the_program_however_it_was_started(arguments: list[str]) -> None:
    command = [sys.executable, "-m", "tessera", *arguments]
    shown = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert f"Usage: {' '.join(['tessera', *arguments[:-1]])} [" in shown and "python -m" not in shown


def test_doctor_answers() -> None:
    result = CliRunner().invoke(app, ["doctor"])
    assert result.exit_code == 0, result.output
    assert "C++ compiler" in result.output


def test_program_is_installed() -> None:
    result = subprocess.run([Path(sys.executable).with_name("tessera"), "--help"], capture_output=True, text=True)
    assert result.returncode == 0 and "doctor" in result.stdout
