"""The Python API does what the command line does, says it in a few lines, and its examples are true."""

import doctest
import subprocess
import sys
from dataclasses import fields, replace

import numpy as np
import pytest
from safetensors.torch import save_file

import tessera
from tessera.api import hardware, machine, models
from tessera.golden.integer.parameters import QuantisedStream
from tessera.sw.data.pictures import PictureChoice
from tessera.sw.quantiser.quantise import calibration_images
from tests.helpers.schemas import document
from tests.helpers.timm_states import timm_state

SMALL = tessera.Target(model="pico", preset="tiny")


def test_every_public_name_is_there_and_documented():
    for name in tessera.__all__:
        found = getattr(tessera, name)
        assert name in ("__version__", "PRESETS") or found.__doc__
    assert set(tessera.__all__) <= set(dir(tessera))


def test_a_name_that_is_not_there_lists_what_is():
    with pytest.raises(AttributeError, match="tessera has no 'train'; it has load, from_torch, import_weights"):
        _ = tessera.train


def test_the_hardware_needs_no_torch():
    code = "import sys, tessera.hw.accelerator; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_importing_offers_no_other_name():
    """The floors are reached through the package alone."""
    code = "import sys, tessera; tessera.run; sys.exit(any(n in sys.modules for n in ('hw', 'sw', 'sim', 'golden')))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("module", [models, machine, hardware], ids=lambda module: module.__name__)
def test_examples_are_true(module):
    outcome = doctest.testmod(module)
    assert outcome.attempted and not outcome.failed


def test_a_run_shows_itself_in_a_few_lines(tmp_path):
    result = tessera.run(SMALL, task="task0", out=tmp_path / "report", progress=False)
    assert result.bit_exact
    assert "bit-exact" in repr(result) and len(repr(result).splitlines()) < 12
    assert result._repr_html_().startswith("<table>") and "task0" in result._repr_html_()
    assert repr(result.frames[0]).startswith("pico on tiny, task0")
    written = document(tmp_path / "report" / "run.json")
    assert written["program_digest"] == result.to_dict()["program_digest"] == tessera.compile(SMALL).digest
    assert {"input", "routing", "cycles-task0"} <= set(tessera.figures(result))
    assert tessera.write_report(result, str(tmp_path / "again"))[0] == tmp_path / "again" / "report.html"
    with pytest.raises(ValueError, match="is a file; give a folder"):
        tessera.write_report(result, tmp_path / "again" / "run.json")


def test_progress_is_shown_unless_it_is_switched_off(capsys):
    told = []
    tessera.compile(SMALL, progress=lambda *step: told.append(step[0]))
    assert {"load", "quantise", "compile"} <= set(told) and not capsys.readouterr().out
    tessera.compile(SMALL)
    assert "compile" in capsys.readouterr().out
    tessera.compile(SMALL, progress=False)
    assert not capsys.readouterr().out


def test_weights_are_imported(tmp_path):
    weights, out = tmp_path / "vit.safetensors", tmp_path / "ours.safetensors"
    save_file(timm_state(), weights)
    made = tessera.import_weights(weights, out, format="timm-vit", heads=3)
    assert made.geometry is not None and made.geometry.heads == 3 and any("epsilon" in line for line in made.assumed)
    assert tessera.load(out).network == made.network and "imported (timm-vit)" in repr(made)


@pytest.mark.parametrize(
    ("out", "options", "message"),
    [
        ("ours.safetensors", {"head": 3}, "no option 'head'; choose one of: .*heads"),
        ("ours.safetensors", {"pixels": "ones"}, "unknown normalisation of pixels 'ones'"),
        ("ours.pth", {}, "give the name of a file that ends in .safetensors"),
        ("vit.safetensors", {}, "is the model itself, which would be lost"),
    ],
)
def test_an_import_that_cannot_be_leaves_nothing(tmp_path, out, options, message):
    weights = tmp_path / "vit.safetensors"
    save_file(timm_state(), weights)
    before = weights.read_bytes()
    with pytest.raises(ValueError, match=message):
        tessera.import_weights(weights, tmp_path / out, format="timm-vit", **options)
    assert list(tmp_path.iterdir()) == [weights] and weights.read_bytes() == before


def test_verify_compares_every_machine_and_width():
    found = tessera.verify("pico", presets=["tiny"], activation_widths=[8], progress=False)
    assert found.bit_exact and len(found.runs) == 1 and len(found.summary().rows) == 2
    assert found.to_dict()["bit_exact"]
    with pytest.raises(ValueError, match="at least one preset"):
        tessera.verify("pico", presets=[])


def test_own_pictures_calibrate():
    model = tessera.load("pico").model
    usual = tessera.quantise(SMALL, progress=False)
    same = tessera.quantise(replace(SMALL, calibration_images=calibration_images(model.network)), progress=False)
    other = tessera.quantise(replace(SMALL, calibration_images=calibration_images(model.network) // 4), progress=False)
    streams = [made.of("embed.init", QuantisedStream).values for made in (same, usual)]
    assert np.array_equal(*streams)
    assert {name: scale.tolist() for name, scale in same.scales.items()} == {
        name: scale.tolist() for name, scale in usual.scales.items()
    }
    assert any(not np.array_equal(scale, usual.scales[name]) for name, scale in other.scales.items())
    assert repr(usual).startswith("pico, quantised")


def test_scores_and_costs():
    scored = tessera.evaluate("nano", sweep=tessera.Sweep(widths=(8,), scenes=2), progress=False)
    assert scored.to_dict()["results"][0]["scenes"] == 2 and "mIoU" in repr(scored)
    cost = tessera.estimate("tiny", lanes=8)
    assert cost.config.lanes == 8 and "estimated" in repr(cost)
    with pytest.raises(ValueError, match="no field 'lane'; choose one of"):
        tessera.estimate("tiny", lane=8)


def test_mistakes_are_said():
    with pytest.raises(ValueError, match="unknown model 'nono'"):
        tessera.load("nono")
    with pytest.raises(ValueError, match="tiny"):
        tessera.Target(preset="small")
    with pytest.raises(ValueError, match="no picture at"):
        tessera.run(SMALL, "absent.png", progress=False)
    assert {field.name for field in fields(PictureChoice)} >= {"image", "scene"}
