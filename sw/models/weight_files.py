"""Files of weights: what one is, told by its content whatever its name, and what it holds, read as data alone.

Nothing in a file is ever run. Classes of training scripts' settings are read as plain dictionaries; a file with any
other Python object is refused by the object's name.
"""

from __future__ import annotations

import argparse
import re
import warnings
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open

_SIGNATURES = (
    (b"version https://git-lfs", "a pointer of Git LFS: run `git lfs pull` where it was cloned"),
    (b"\x89HDF", "an HDF5 file, as Keras writes it: save a PyTorch state dict instead"),
    (b"\x93NUMPY", "a NumPy array: give the state dict of a whole model"),
    (b"GGUF", "a GGUF file of quantised weights: give the floating-point checkpoint that it was made from"),
    (b"\x1f\x8b", "compressed by gzip: unpack it first"),
    (b"BZh", "compressed by bzip2: unpack it first"),
    (b"\xfd7zXZ", "compressed by xz: unpack it first"),
    (b"\x28\xb5\x2f\xfd", "compressed by zstd: unpack it first"),
    (b"7z\xbc\xaf", "a 7z archive: unpack it first"),
    (b"Rar!", "a RAR archive: unpack it first"),
    (b"\x89PNG", "a picture: give the file of weights"),
    (b"\xff\xd8\xff", "a picture: give the file of weights"),
    (b"%PDF", "a PDF: give the file of weights"),
)
"""First bytes of files that are no weights: what they are, and what to do."""

_ARCHIVES = (
    (
        r"(^|/)code/|(^|/)constants\.pkl$",
        "TorchScript, a compiled program: save the state_dict() of its module",
    ),
    (r"(^|/)archive_format$", "a program of torch.export (.pt2): import it without --format"),
    (r"\.npy$", "an archive of NumPy arrays, as JAX's models are kept in: convert it to timm's state dict first"),
    (r"\.weights\.h5$", "a Keras model: save a PyTorch state dict instead"),
)
"""Members of zip archives that torch.save did not write."""

_LEGACY = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
"""How files of torch.save began before PyTorch 1.6."""

_SETTINGS = (
    "omegaconf.", "pytorch_lightning.", "lightning.", "lightning_fabric.", "pathlib.", "datetime.", "typing.",
    "collections.defaultdict", "builtins.", "__builtin__.", "yacs.", "easydict.", "addict.", "ml_collections.",
    "mmengine.", "mmcv.", "enum.", "box.", "fractions.", "decimal.", "uuid.",
)  # fmt: skip
"""Where classes of settings and logs come from that training scripts save beside the weights."""
_MOST_SETTINGS = 64
_CHUNK = 1 << 24


class _SetAside:
    """Stands for a class of settings: whatever is made of it is a dictionary, and no code of its own runs."""

    def __new__(cls, *_: Any, **__: Any) -> Any:
        return OrderedDict()


def read_content(path: Path) -> Any:
    """What a file of weights holds: tensors by name, or what ``torch.save`` was given.

    Raises
    ------
    ValueError
        If the file is of another kind, damaged, or holds Python objects besides tensors and numbers.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        begin = file.read(512)
    if begin.startswith(b"PK"):
        _check_archive(path)
    elif _header_bytes(begin):
        if _header_bytes(begin) + 8 > size:
            raise _damaged(path, f"cut off after {size:,} bytes", "safetensors")
        return _safetensors(path)
    elif not begin.startswith(_LEGACY):
        raise _damaged(path, _foreign(begin) or "not known by its first bytes")
    return _torch_save(path)


def _damaged(path: Path, state: str, kind: str = "torch.save or safetensors") -> ValueError:
    way = "" if ":" in state else ": fetch it again"
    return ValueError(f"{path} is not a whole file of {kind}; it is {state}{way}")


def _foreign(begin: bytes) -> str:
    """What a file is that begins so, and is none of weights; empty if that is not known."""
    for signature, what in _SIGNATURES:
        if begin.startswith(signature):
            return what
    if not begin.strip(b"\0"):
        return "filled with zeros" if begin else "empty"
    text = begin.decode("utf-8", errors="replace").lstrip("\ufeff \t\r\n")
    if text[:1] == "<":
        return "a web page: the server gave a message instead of the file; fetch the file itself"
    if begin[257:262] == b"ustar":
        return "a tar archive: unpack it and give the checkpoint in it"
    if begin[4:8] == b"TFL3":
        return "a TensorFlow Lite model: give the floating-point checkpoint that it was made from"
    if begin.startswith(b"\x08") and b"pytorch" in begin:
        return "an ONNX model: give the state dict that it was exported from"
    if begin[:1] == b"\x80" and begin[1:2] <= b"\x05":
        return "a plain pickle, which could run code when read: write the tensors with torch.save or safetensors"
    if "weight_map" in text:
        return "the index of a checkpoint in several files: give the folder that holds them"
    if text.isprintable() or all(c.isprintable() or c.isspace() for c in text):
        return f"a text that begins with '{' '.join(text.split())[:40]}': fetch the file itself"
    return ""


def _check_archive(path: Path) -> None:
    """ValueError unless a zip archive is whole and is what ``torch.save`` writes."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            damaged = _damaged_members(archive)
    except (zipfile.BadZipFile, OSError) as error:
        raise _damaged(path, "cut off, or changed, before its end", "torch.save") from error
    for pattern, what in _ARCHIVES:
        if any(re.search(pattern, name) for name in names):
            raise _damaged(path, what)
    if not any(name.endswith("data.pkl") for name in names):
        raise _damaged(path, "a zip archive: unpack it and give the checkpoint in it")
    if damaged:
        raise _damaged(path, f"changed in {damaged[0]}, whose checksum is wrong", "torch.save")


def _damaged_members(archive: zipfile.ZipFile) -> list[str]:
    """Members whose checksum is wrong; a checksum of 0 was left out, which PyTorch can be told."""
    wrong = []
    for member in (member for member in archive.infolist() if member.CRC):
        try:
            with archive.open(member) as file:
                while file.read(_CHUNK):
                    pass
        except zipfile.BadZipFile:
            wrong.append(member.filename)
    return wrong


def _header_bytes(begin: bytes) -> int:
    """Length of the JSON header of a safetensors file that begins so; 0 if it is none."""
    return int.from_bytes(begin[:8], "little") if begin[8:10] == b'{"' or begin[8:10] == b"{}" else 0


def _safetensors(path: Path) -> dict[str, torch.Tensor]:
    try:
        with safe_open(path, framework="pt") as file:
            ours = (file.metadata() or {}).get("format", "")
            if ours.startswith("tessera-"):
                raise ValueError(f"{path} is of this project already ({ours}): give it to --model as it is")
            return {name: file.get_tensor(name) for name in file.keys()}
    except (SafetensorError, OSError) as error:
        raise _damaged(path, "damaged inside", "safetensors") from error


def _numbers() -> list[Any]:
    """NumPy's scalars and arrays of numbers and text, which are data; under the names of NumPy 1 and 2."""
    makers = {"scalar": np.float64(0).__reduce__()[0], "_reconstruct": np.zeros(1).__reduce__()[0]}
    named = [(m, f"numpy.{core}.multiarray.{name}") for name, m in makers.items() for core in ("core", "_core")]
    codes = np.typecodes["AllInteger"] + np.typecodes["AllFloat"] + "?SUMm"
    return [*named, np.ndarray, np.dtype, *{type(np.dtype(code)) for code in codes}]


def _torch_save(path: Path) -> Any:
    known: list[Any] = [argparse.Namespace, *_numbers()]
    for _ in range(_MOST_SETTINGS):
        try:
            with warnings.catch_warnings(), torch.serialization.safe_globals(known), path.open("rb") as file:
                warnings.simplefilter("ignore")  # of PyTorch's own old classes: for its authors
                return torch.load(file, map_location="cpu", weights_only=True)
        except Exception as error:  # torch raises whatever a broken file leads it to
            named = re.search(r"GLOBAL ([\w.]+)|class '([\w.]+)'", str(error))
            if named is None:
                raise _unreadable(path, str(error)) from error
            unknown = _unknown(path, known) or [named[1] or named[2]]
            if not all(name.startswith(_SETTINGS) or "." not in name for name in unknown):
                raise _objects(path, unknown) from error
            known += [(_SetAside, full) for name in unknown for full in (name, f"builtins.{name}")]
    raise _objects(path, unknown)


def _unknown(path: Path, known: list[Any]) -> list[str]:
    """Names of classes and functions in the file that neither PyTorch takes as data nor are ``known``; may be empty."""
    try:
        with torch.serialization.safe_globals(known), path.open("rb") as file:
            return sorted(torch.serialization.get_unsafe_globals_in_checkpoint(file))
    except Exception:  # a file of before PyTorch 1.6, of which the first name must do
        return []


def _objects(path: Path, names: list[str]) -> ValueError:
    shown = ", ".join(names[:3]) + (f" and {len(names) - 3:,} more" if len(names) > 3 else "")
    whole = any(".nn.modules." in name for name in names)
    what = f"is a whole pickled module ({shown})" if whole else f"holds Python objects besides tensors ({shown})"
    return ValueError(
        f"{path} {what}, which could run code when read: where it was made, save the tensors alone with "
        "torch.save(model.state_dict(), 'weights.pth')"
    )


def _unreadable(path: Path, reason: str) -> ValueError:
    protocol = re.search(r"Unsupported operand \d+|unsupported pickle protocol|protocol", reason)
    if protocol and "memory" not in reason:
        return ValueError(f"{path} has another pickle protocol than torch.save's own: save it again with its default")
    return _damaged(path, "damaged inside", "torch.save")
