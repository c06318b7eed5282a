"""A file of weights is told by its content, read as data alone, and what it is instead is said in our own words."""

from __future__ import annotations

import argparse
import datetime
import io
import pathlib
import pickle
import re
import sys
import types
import zipfile
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save, save_file
from torch import nn

from tessera.golden import checkpoint
from tessera.golden.model import seeded
from tessera.sw.models.importer import Options, import_weights
from tessera.sw.models.weight_files import read_content
from tests.helpers.small_checkpoints import SMALL
from tests.helpers.timm_states import HEADS, timm_state

STATE = timm_state()


def saved(content: object, **options: object) -> bytes:
    file = io.BytesIO()
    torch.save(content, file, **options)
    return file.getvalue()


def zipped(**members: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in members.items():
            archive.writestr(name.replace("__", "/"), content)
    return file.getvalue()


def script() -> bytes:
    file = io.BytesIO()
    torch.jit.save(torch.jit.script(nn.Linear(2, 2)), file)
    return file.getvalue()


def arrays() -> bytes:
    file = io.BytesIO()
    np.savez(file, a=np.zeros(3))
    return file.getvalue()


def numpy_1(content: bytes) -> bytes:
    """The same under the module's name before NumPy 2."""
    old, new = zipfile.ZipFile(io.BytesIO(content)), io.BytesIO()
    with zipfile.ZipFile(new, "w") as archive:
        for item in old.infolist():
            text = old.read(item.filename)
            archive.writestr(item.filename, text.replace(b"numpy._core.multiarray", b"numpy.core.multiarray"))
    return new.getvalue()


class Settings(dict):
    """A class of settings, as configuration libraries have them."""


Settings.__module__, Settings.__qualname__ = "yacs.config", "CfgNode"


NUMBERS = {
    "float64": np.float64(0.4),
    "int64": np.int64(4),
    "int32": np.int32(4),
    "float32": np.float32(0.1),
    "bool": np.bool_(True),
    "array": np.arange(5),
    "text": np.str_("best"),
}
SCRIPTS = {
    "namespace": argparse.Namespace(lr=0.1),
    "path": pathlib.PurePosixPath("/data"),
    "date": datetime.datetime(2020, 1, 1),
    "lists": defaultdict(list, {"loss": [0.1]}),
}


@pytest.mark.parametrize("old", [False, True])
@pytest.mark.parametrize("name", NUMBERS)
def test_numbers_of_numpy_beside_the_weights(tmp_path: Path, name: str, old: bool) -> None:
    content = saved({"model": STATE, "best": {"semseg": NUMBERS[name]}})
    assert not old or b"numpy.core" in numpy_1(content)
    (tmp_path / "m.pth").write_bytes(numpy_1(content) if old else content)
    assert torch.equal(read_content(tmp_path / "m.pth")["model"]["head.bias"], STATE["head.bias"])


@pytest.mark.parametrize("name", SCRIPTS)
@pytest.mark.parametrize("new", [True, False])
def test_settings_beside_the_weights(tmp_path: Path, name: str, new: bool) -> None:
    content = saved({"model": STATE, "hyper_parameters": SCRIPTS[name]}, _use_new_zipfile_serialization=new)
    (tmp_path / "m.pth").write_bytes(content)
    assert torch.equal(read_content(tmp_path / "m.pth")["model"]["head.bias"], STATE["head.bias"])


def test_a_class_of_settings_is_a_dictionary_and_never_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package, module = types.ModuleType("yacs"), types.ModuleType("yacs.config")
    module.CfgNode = Settings  # type: ignore[attr-defined]
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "yacs", package)
        patch.setitem(sys.modules, "yacs.config", module)
        content = saved({"state_dict": STATE, "hyper_parameters": Settings(lr=0.1)})
    (tmp_path / "m.ckpt").write_bytes(content)
    assert read_content(tmp_path / "m.ckpt")["hyper_parameters"] == {"lr": 0.1}


@pytest.mark.parametrize("suffix", [".bin", ".pth", ".safetensors", ""])
@pytest.mark.parametrize("kind", ["safetensors", "zip", "legacy"])
def test_the_kind_is_told_by_content(tmp_path: Path, suffix: str, kind: str) -> None:
    path = tmp_path / f"weights{suffix}"
    if kind == "safetensors":
        save_file(STATE, path)
    else:
        torch.save(STATE, path, _use_new_zipfile_serialization=kind == "zip")
    found = import_weights("timm-vit", path, options=Options(heads=HEADS))
    assert torch.equal(found.tensors["heads.classes.bias"], STATE["head.bias"])


LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 343261615\n"
OTHERS = {
    "empty": (b"", "it is empty: fetch it again"),
    "zeros": (bytes(5000), "it is filled with zeros"),
    "web page": (b"<!DOCTYPE html><html>404</html>", "it is a web page"),
    "web page later": (b"\n\n  <HTML><head>", "it is a web page"),
    "error": (b"<?xml version='1.0'?><Error><Code>AccessDenied", "it is a web page"),
    "lfs": (LFS, "it is a pointer of Git LFS: run `git lfs pull`"),
    "text": (b"Not Found\n", "it is a text that begins with 'Not Found': fetch the file itself"),
    "json": (b'{"error": "Repository not found"}', "it is a text that begins with"),
    "index": (b'{"metadata": {}, "weight_map": {"a": "b"}}', "it is the index of a checkpoint in several files"),
    "hdf5": (b"\x89HDF\r\n\x1a\n" + bytes(600), "it is an HDF5 file"),
    "numpy": (b"\x93NUMPY\x01\x00" + bytes(90), "it is a NumPy array"),
    "gzip": (b"\x1f\x8b\x08" + bytes(90), "it is compressed by gzip"),
    "tar": (b"model.pth".ljust(257, b"\0") + b"ustar\0" + bytes(300), "it is a tar archive"),
    "onnx": (b"\x08\x07\x12\x07pytorch\x1a\x052.0.0" + bytes(90), "it is an ONNX model"),
    "picture": (b"\x89PNG\r\n\x1a\n" + bytes(90), "it is a picture"),
    "plain pickle": (pickle.dumps({"a": 1}), "it is a plain pickle"),
    "script": (script(), "it is TorchScript, a compiled program"),
    "arrays": (arrays(), "it is an archive of NumPy arrays"),
    "archive": (zipped(a__b=b"1"), "it is a zip archive: unpack it"),
    "exported": (zipped(m__archive_format=b"pt2"), "it is a program of torch.export"),
    "cut zip": (saved(STATE)[:9000], "it is cut off, or changed, before its end: fetch it again"),
    "cut legacy": (saved(STATE, _use_new_zipfile_serialization=False)[:9000], "it is damaged inside: fetch it again"),
    "cut safetensors": (save(STATE)[:9000], "is not a whole file of safetensors; it is damaged inside"),
    "cut header": (save(STATE)[:900], "is not a whole file of safetensors; it is cut off after 900 bytes"),
    "noise": (np.random.default_rng(1).bytes(700), "it is not known by its first bytes"),
    "module": (saved(nn.Sequential(nn.Linear(2, 2))), "is a whole pickled module"),
    "object": (saved({"model": STATE, "hook": re.compile("x")}), "holds Python objects besides tensors (re._compile)"),
    "protocol": (saved({"model": STATE}, pickle_protocol=4), "has another pickle protocol than torch.save's own"),
}


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("name", OTHERS)
def test_what_it_is_instead_is_said(tmp_path: Path, name: str, suffix: str) -> None:
    content, words = OTHERS[name]
    path = tmp_path / f"weights{suffix}"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=re.escape(words)) as error:
        import_weights("timm-vit", path, options=Options(heads=HEADS))
    text = str(error.value)
    assert str(path) in text and "weights_only" not in text and "\n" not in text and len(text) < 400


def test_a_changed_value_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "m.pth"
    content = bytearray(saved(STATE))
    values = STATE["blocks.1.mlp.fc1.weight"].numpy().tobytes()
    content[content.index(values) + 40] ^= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"it is changed in .*/data/\d+, whose checksum is wrong: fetch it again"):
        read_content(path)


def test_a_file_without_checksums_is_read(tmp_path: Path) -> None:
    before = torch.serialization.get_crc32_options()
    torch.serialization.set_crc32_options(False)
    try:
        torch.save(STATE, tmp_path / "m.pth")
    finally:
        torch.serialization.set_crc32_options(before)
    assert read_content(tmp_path / "m.pth").keys() == STATE.keys()


def test_a_flipped_bit_is_noticed_or_harmless(tmp_path: Path) -> None:
    content = saved(STATE)
    for place in range(60, len(content), len(content) // 40):
        (tmp_path / "m.pth").write_bytes(content[:place] + bytes([content[place] ^ 0x10]) + content[place + 1 :])
        try:
            import_weights("timm-vit", tmp_path / "m.pth", options=Options(heads=HEADS))
        except ValueError as error:
            assert "weights_only" not in str(error)


def test_a_checkpoint_of_this_project_is_named(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    checkpoint.save(path, checkpoint.Checkpoint.of(seeded(SMALL, 1)))
    with pytest.raises(ValueError, match="is of this project already .*: give it to --model as it is"):
        import_weights("timm-vit", path)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda t: t.to(torch.int8), "wrong type: head.weight is int8, expected dense floating point"),
        (lambda t: t.to("meta"), "no values: head.weight was saved from a model that had none yet"),
        (lambda t: t.to_sparse(), "wrong type: head.weight is sparse_coo, expected dense floating point"),
        (lambda t: t.to(torch.complex64), "wrong type: head.weight is complex64"),
    ],
)
def test_tensors_without_usable_values(tmp_path: Path, change, words: str) -> None:
    torch.save(STATE | {"head.weight": change(STATE["head.weight"])}, tmp_path / "m.pth")
    with pytest.raises(ValueError, match=re.escape(words)):
        import_weights("timm-vit", tmp_path / "m.pth", options=Options(heads=HEADS))
