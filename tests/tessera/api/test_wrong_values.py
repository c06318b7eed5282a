"""Values of a wrong kind, and places that cannot be written: said in words, before any work, by every function."""

import os
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

import tessera

SMALL = {"model": "pico", "preset": "tiny"}
ONE = tessera.Sweep(widths=(8,), scenes=1)
NO_KIND = (5, 2.5, [1], object())
"""What is neither a name nor a path, nor None."""


def kind(value) -> str:
    """A test's name for a value."""
    return type(value).__name__


@pytest.fixture(autouse=True)
def no_work(monkeypatch):
    """Whatever takes long fails the test."""

    def worked(*given, **options):
        pytest.fail("work began")

    monkeypatch.setattr("tessera.sw.run.prepare.quantise", worked)
    monkeypatch.setattr("tessera.sw.run.prepare.compile_model", worked)
    monkeypatch.setattr("tessera.sw.run.execute.machine_simulator", worked)
    monkeypatch.setattr("tessera.sw.fpga.measure.measure", worked)
    monkeypatch.setattr("tessera.sw.evaluate.evaluate.score", worked)


def said(function, *given, **options) -> str:
    """The refusal, in one piece of text that names no module of ours."""
    with pytest.raises(ValueError) as caught:
        function(*given, **options)
    return str(caught.value)


@pytest.mark.parametrize("value", [None, *NO_KIND], ids=kind)
@pytest.mark.parametrize("function", [tessera.run, tessera.compile, tessera.quantise, tessera.load, tessera.evaluate])
def test_a_model_is_a_name_or_a_path(function, value):
    told = said(function, value, progress=False)
    assert told.startswith("model is ") and "expected the name of a model, such as 'nano', or the path" in told
    assert "state_dict" not in told


def test_a_network_is_imported_first():
    network = torch.nn.Linear(2, 2)
    for given in (network, network.state_dict()):
        told = said(tessera.run, given)
        assert told.startswith("model is of the type ")
        assert "a network's state_dict() to a file with torch.save, and import that: `tessera import`" in told


TARGET = {
    "model": "expected the name of a model",
    "preset": "expected an AcceleratorConfig, or the name of a machine, one of: tiny",
    "activation_width": "expected a whole number",
    "routing": "expected None, or one of: balanced",
    "calibration": "expected the name of a rule, one of: max",
    "calibration_images": r"expected a folder of pictures, or a NumPy array of bytes",
}


@pytest.mark.parametrize("field", TARGET)
@pytest.mark.parametrize("value", [2.5, [1, 2], object()], ids=kind)
def test_the_fields_of_a_target_have_kinds(field, value):
    told = said(tessera.Target, **{**SMALL, field: value})
    assert told.startswith(f"{field} is ") and TARGET[field] in told


@pytest.mark.parametrize("field", ["model", "preset", "activation_width", "calibration"])
def test_what_a_target_must_have(field):
    assert said(tessera.Target, **{**SMALL, field: None}).startswith(f"{field} is None; expected")


def test_a_width_as_text_is_called_a_text():
    assert "activation_width is the text '8'; expected a whole number" in said(tessera.Target, activation_width="8")


@pytest.mark.parametrize("value", [5, [[1]], torch.zeros(3, 8, 8), b"x"], ids=lambda value: type(value).__name__)
def test_a_picture_is_a_path_or_bytes(value):
    told = said(tessera.run, tessera.Target(**SMALL), value)
    assert told.startswith("image is ") and "expected the path of a picture, a NumPy array of bytes" in told


@pytest.mark.parametrize(
    "values",
    [np.zeros((8, 8)), np.array([None]), *(np.zeros(shape, np.uint8) for shape in ((8,), (8, 8, 2), (0, 0, 3), ()))],
    ids=lambda values: f"{values.dtype}{values.shape}",
)
def test_an_array_that_is_no_picture_is_refused_at_once(values):
    assert "the picture is an array of" in said(tessera.PictureChoice, image=values)


@pytest.mark.parametrize("field", ["scene", "frames"])
@pytest.mark.parametrize("value", ["1", 1.0, None], ids=repr)
def test_pictures_are_counted_in_whole_numbers(field, value):
    assert said(tessera.PictureChoice, **{field: value}).startswith(f"{field} is ")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"task": 5}, "task is 5, of the type int; expected 'all', the name of a task"),
        ({"task": ["task0"]}, "expected 'all', the name of a task"),
        ({"memory": "fast"}, "memory is the text 'fast'; expected a MemorySettings"),
        ({"accuracy_scenes": -1}, "accuracy_scenes is -1; expected a whole number of at least 0"),
        ({"accuracy_scenes": "1"}, "accuracy_scenes is the text '1'"),
        ({"out": 5}, "out is 5, of the type int; expected the path of a folder"),
        ({"progress": "yes"}, "progress is the text 'yes'; expected True, False, or a function"),
    ],
    ids=str,
)
def test_options_of_a_run_have_kinds(options, message):
    assert message in said(tessera.run, tessera.Target(**SMALL), **{"progress": False, **options})


def calls_with_a_folder(out):
    return [
        lambda: tessera.run(tessera.Target(**SMALL), out=out, progress=False),
        lambda: tessera.synthesise("tiny", out=out, progress=False),
    ]


@pytest.mark.parametrize("number", range(2), ids=["run", "synthesise"])
def test_a_folder_that_cannot_be_written_is_said_first(tmp_path, number):
    file = tmp_path / "v5.pth"
    file.write_bytes(b"kept")
    assert f"{file} is a file; give a folder for the results" in said(calls_with_a_folder(file)[number])
    assert "results cannot be written to" in said(calls_with_a_folder(str(file / "in"))[number])
    assert file.read_bytes() == b"kept" and list(tmp_path.iterdir()) == [file]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
@pytest.mark.parametrize("number", range(2), ids=["run", "synthesise"])
def test_a_folder_without_permission_is_said_first(tmp_path, number):
    tmp_path.chmod(0o500)
    assert "results cannot be written to" in said(calls_with_a_folder(tmp_path)[number])


@pytest.mark.parametrize("function", [tessera.figures, tessera.write_report])
def test_what_is_drawn_is_a_result(function, tmp_path):
    rest = () if function is tessera.figures else (tmp_path / "out",)
    assert said(function, None, *rest) == "result is None; expected what tessera.run gives"
    assert not list(tmp_path.iterdir())


VERIFY = [
    ({"presets": "tiny"}, "presets is the text 'tiny'; expected a list of the names of machines"),
    ({"presets": None}, "presets is None"),
    ({"presets": ["tiny", "tinny"]}, "unknown preset 'tinny'"),
    ({"presets": [5]}, "preset is 5, of the type int"),
    ({"activation_widths": 8}, "activation_widths is 8, of the type int; expected a list of bits"),
    ({"activation_widths": ["8"]}, "activation_width is the text '8'"),
    ({"activation_widths": [9]}, "activation_width is 9; choose one of 8, 12, 16"),
    ({"images": "street.png"}, "images is the text 'street.png'; expected a PictureChoice"),
    ({"memory": "fast"}, "memory is the text 'fast'; expected a MemorySettings"),
    ({"calibration_images": 5}, "calibration_images is 5"),
]


@pytest.mark.parametrize(("options", "message"), VERIFY, ids=str)
def test_options_of_verify_have_kinds(options, message):
    assert message in said(tessera.verify, "pico", **{"presets": ["tiny"], "progress": False, **options})


@pytest.mark.parametrize("name", ["data", "root", "sweep", "routing", "split", "calibration_images", "progress"])
def test_options_of_evaluate_have_kinds(name):
    for value in (5, [1]):
        assert said(tessera.evaluate, "pico", **{"sweep": ONE, "progress": False, name: value}).startswith(f"{name} is")


@pytest.mark.parametrize("options", [{"root": "data"}, {"split": "train"}], ids=str)
def test_scenes_have_no_folder_and_no_parts(options):
    assert "which generated scenes do not have" in said(tessera.evaluate, "pico", sweep=ONE, progress=False, **options)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("widths", 8, "widths is 8, of the type int; expected a list of bits"),
        ("widths", "8", "widths is the text '8'"),
        ("widths", [8.0], "a width is 8.0"),
        ("calibrations", "max", "calibrations is the text 'max'; expected a list of rules"),
        ("calibrations", ["maxx"], "unknown calibration 'maxx'"),
        ("preset", None, "preset is None"),
        ("scenes", "2", "scenes is the text '2'"),
        ("jobs", 1.5, "jobs is 1.5"),
        ("rtl_samples", None, "rtl_samples is None"),
    ],
)
def test_fields_of_a_sweep_have_kinds(field, value, message):
    assert message in said(tessera.Sweep, **{field: value})


def test_rules_of_a_sweep_may_be_names():
    assert tessera.Sweep(calibrations=["max"]) == tessera.Sweep(widths=[8, np.int64(12), 16])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"preset": 5}, "preset is 5"),
        ({"preset": ""}, "unknown preset ''"),
        ({"board": 5}, "board is 5, of the type int; expected the name of a board"),
        ({"board": ""}, "unknown board ''"),
        ({"activation_width": "8"}, "activation_width is the text '8'"),
        ({"lanes": 8.0}, "'8.0' is no whole number"),
        ({"lanes": None}, "'None' is no whole number"),
        ({"name": "mine"}, "no field 'name'"),
    ],
    ids=str,
)
def test_options_of_an_estimate_have_kinds(options, message):
    assert message in said(tessera.estimate, **options)


@pytest.mark.parametrize("name", ["preset", "family", "out"])
def test_options_of_a_synthesis_have_kinds(name):
    for value in (5, None, ["tiny"]):
        assert said(tessera.synthesise, **{"preset": "tiny", "progress": False, name: value}).startswith(f"{name} is ")


IMPORT = {
    "heads": "2",
    "top_k": 2.5,
    "image_size": 224,
    "trained_size": "224x224",
    "tasks": "classes",
    "pixels": 5,
    "mean": 0.5,
    "std": ["0.5"],
    "epsilon": "1e-6",
    "part": 5,
    "backbone_only": "no",
    "format": 5,
    "path": None,
    "out": 5,
}


@pytest.mark.parametrize("name", IMPORT)
def test_options_of_an_import_have_kinds(name, tmp_path):
    weights = tmp_path / "weights.pth"
    weights.write_bytes(b"")
    given = {"path": weights, "out": tmp_path / "ours.safetensors", "format": "timm-vit", name: IMPORT[name]}
    told = said(tessera.import_weights, **given)
    assert told.startswith(f"{name} is ") and "; expected" in told


@pytest.mark.parametrize("zipped", [True, False], ids=["archive", "pickle"])
def test_a_file_of_torch_is_to_be_imported_not_fetched_again(tmp_path, zipped):
    file = tmp_path / "v5.pth"
    torch.save({"a": torch.zeros(2)}, file, _use_new_zipfile_serialization=zipped)
    assert zipfile.is_zipfile(file) == zipped
    for function in (tessera.load, tessera.run):
        told = said(function, str(file), progress=False)
        assert "import it first, with `tessera import` or tessera.import_weights" in told and "truncated" not in told


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("read_latency", 1, "read_latency is 1; expected a whole number of at least 2"),
        ("write_latency", "20", "write_latency is the text '20'"),
        ("stall", 256, "stall is 256; a chance in 256 is 0 to 255"),
        ("stall", 1.5, "stall is 1.5"),
        ("seed", -1, "seed is -1"),
        ("seed", 1 << 31, "choose 0 to 2147483647"),
        ("drop_read_beat", -1, "drop_read_beat is -1"),
        ("error_window", 5, "error_window is 5, of the type int; expected a list of two whole numbers"),
        ("error_window", (5,), "error_window has 1 members; expected two"),
        ("flip", ("5", 1), "flip is the text '5'"),
    ],
)
def test_fields_of_memory_settings_have_kinds(field, value, message):
    assert message in said(tessera.MemorySettings, **{field: value})


@pytest.mark.parametrize("value", [5, None], ids=repr)
def test_a_program_is_read_from_a_path(value):
    assert said(tessera.Program.load, value).startswith("path is ")


def test_a_file_that_is_no_program(tmp_path):
    file = Path(tmp_path) / "x.program"
    file.write_bytes(b"nothing of the kind")
    assert f"{file} is not a compiled program; make one with" in said(tessera.Program.load, file)
