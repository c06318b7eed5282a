"""Reader of Edge-MoE's weight directory: M3ViT's backbone as Edge-MoE (ICCAD 2023) keeps it.

One file a tensor, ``NAME.float32.bin``: raw little-endian float32 in C order, without a header. The geometry is fixed:
``tessera.golden.config.M3VIT_BACKBONE``, twelve layers, experts in the odd ones, two tasks whose gates alone differ.
Neither a final norm nor heads belong to it: the result is the residual stream after layer 11. docs/formats.md has the
list of files.

Where the arrangement differs from ours: row 0 of ``pos_embed`` is the class token with its position already added, so
our class token is 0; gate matrices lie transposed, (experts, D).

The folder as it is published also holds a picture and what the original's first task makes of it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from tessera.common.progress import Progress
from tessera.golden.config import M3VIT_BACKBONE, ModelConfig
from tessera.sw.data.pictures import RAW_SUFFIX, read_raw
from tessera.sw.models.imported import Imported, ImportFormat, ImportProblems, Reference
from tessera.sw.models.options import Options

NAME = "edge-moe"
IMAGE = "image"
"""The test picture that lies among the weights; not needed here."""
_STREAM = re.compile(r"l(\d+)_x_post_(?:moe|mlp)")
"""The residual stream after a layer that the original's own model gave for the picture and the first task."""
_LFS = b"version https://git-lfs"


@dataclass(frozen=True)
class WeightFile:
    """One file: its name without the suffix, the shape it holds, our tensor, and whether that is the transpose."""

    name: str
    shape: tuple[int, ...]
    target: str
    transposed: bool = False

    @property
    def size(self) -> int:
        """Bytes of the file."""
        return 4 * int(np.prod(self.shape))


def weight_files(model: ModelConfig) -> Iterator[WeightFile]:
    """Every file of a model's directory, in the order of the network."""
    dim = model.dim

    def affine(name: str, shape: tuple[int, ...], target: str, bias: tuple[int, ...] | None = None) -> list[WeightFile]:
        """A weight and its bias, which has the weight's first axis unless given."""
        bias = bias or shape[:1]
        return [
            WeightFile(f"{name}_weight", shape, f"{target}.weight"),
            WeightFile(f"{name}_bias", bias, f"{target}.bias"),
        ]

    yield from affine("patch_embed", (dim, 3, model.patch, model.patch), "patch_embed.proj")
    yield WeightFile("pos_embed", (model.tokens, dim), "pos_embed")
    for layer in range(model.layers):
        ours = f"blocks.{layer}"
        yield from affine(f"l{layer}_norm1", (dim,), f"{ours}.norm1")
        yield from affine(f"l{layer}_qkv", (3 * dim, dim), f"{ours}.attn.qkv")
        yield from affine(f"l{layer}_attn_proj", (dim, dim), f"{ours}.attn.proj")
        yield from affine(f"l{layer}_norm2", (dim,), f"{ours}.norm2")
        if layer not in model.expert_layers:
            yield from affine(f"l{layer}_fc1", (model.mlp_hidden, dim), f"{ours}.mlp.fc1")
            yield from affine(f"l{layer}_fc2", (dim, model.mlp_hidden), f"{ours}.mlp.fc2")
            continue
        experts, hidden = model.experts, model.expert_hidden
        yield from affine(
            f"l{layer}_htoh4", (experts, hidden, dim), f"{ours}.mlp.experts.htoh4", bias=(experts, hidden)
        )
        yield from affine(f"l{layer}_h4toh", (experts, dim, hidden), f"{ours}.mlp.experts.h4toh", bias=(experts, dim))
        for task in range(len(model.tasks)):
            name = f"l{layer}_w_gate_T_task{task}"
            yield WeightFile(name, (experts, dim), f"{ours}.mlp.gate.{task}.w_gate", transposed=True)


def read_edge_moe(folder: Path, options: Options, on_progress: Progress) -> Imported:
    """Read a weight directory; it takes no options. See :func:`tessera.sw.models.importer.import_weights`."""
    model, files = M3VIT_BACKBONE, list(weight_files(M3VIT_BACKBONE))
    found = _listing(folder, len(files))
    names = {file.name for file in files}
    streams = {
        name: int(match[1]) for name in found if (match := _STREAM.fullmatch(name)) and int(match[1]) < model.layers
    }
    missing = [
        f"missing: {file.name}{RAW_SUFFIX}, {file.shape} float32, {file.size:,} bytes"
        for file in files
        if file.name not in found
    ]
    surplus = [
        f"unexpected: {name}{RAW_SUFFIX} is no tensor of '{model.name}'"
        for name in sorted(found - names - {IMAGE, *streams})
    ]
    tensors = {"cls_token": torch.zeros(1, 1, model.dim)}
    unusable = []
    for number, file in enumerate(files):
        if file.name in found:
            on_progress("read", number / len(files), file.name)
            try:
                tensors[file.target] = _tensor(folder / f"{file.name}{RAW_SUFFIX}", file)
            except (OSError, ValueError) as error:
                unusable.append(str(error))
    references = []
    for name, layer in sorted(streams.items(), key=lambda stream: stream[1]):
        try:
            values = _tensor(folder / f"{name}{RAW_SUFFIX}", WeightFile(name, (model.tokens, model.dim), name))
            references.append(Reference(name=name, task=0, layer=layer, values=values))
        except (OSError, ValueError) as error:
            unusable.append(str(error))
    picture = folder / f"{IMAGE}{RAW_SUFFIX}" if IMAGE in found else None
    if picture is not None:
        try:
            read_raw(picture, model)
        except (OSError, ValueError) as error:
            unusable.append(str(error))
    problems = [*missing, *surplus, *unusable]
    if problems:
        raise ImportProblems(
            f"{folder} does not hold the weights of '{model.name}' as Edge-MoE writes them",
            problems,
            "Nothing was written. Fetch what is missing or damaged again, move away what does not belong there; "
            "docs/formats.md lists every file.",
        )
    return Imported(config=model, tensors=tensors, source=NAME, picture=picture, references=tuple(references))


def _listing(folder: Path, expected: int) -> set[str]:
    """Names of the tensors in ``folder``."""
    if not folder.is_dir():
        state = "is a file" if folder.exists() else "does not exist"
        raise ValueError(f"{folder} {state}; give the folder that holds patch_embed_weight{RAW_SUFFIX} and the others")
    found = {path.name.removesuffix(RAW_SUFFIX) for path in folder.iterdir() if path.name.endswith(RAW_SUFFIX)}
    if not found:
        raise ValueError(
            f"{folder} holds no file called NAME{RAW_SUFFIX}, expected {expected} of them; give the folder that holds "
            f"patch_embed_weight{RAW_SUFFIX} and the others"
        )
    return found


def _tensor(path: Path, file: WeightFile) -> torch.Tensor:
    """The content of one file in our arrangement; ValueError says what is wrong with it."""
    if not path.is_file():
        raise ValueError(f"not a file: {path.name}")
    size = path.stat().st_size
    if size != file.size and path.read_bytes()[: len(_LFS)] == _LFS:
        raise ValueError(f"not fetched: {path.name} is a pointer of Git LFS: run `git lfs pull` where it was cloned")
    if size != file.size:
        state = "truncated" if size < file.size else "too long"
        raise ValueError(
            f"wrong size: {path.name} has {size:,} bytes, expected {file.size:,} for {file.shape} float32: {state}"
        )
    values = np.fromfile(path, "<f4").reshape(file.shape)
    finite = np.isfinite(values)
    if not finite.all():
        nan = int(np.isnan(values).sum())
        first = [int(index) for index in np.unravel_index(int((~finite).argmax()), file.shape)]
        raise ValueError(
            f"not finite: {path.name} has {nan:,} NaN and {int((~finite).sum()) - nan:,} infinite values of "
            f"{values.size:,}, the first at {first}"
        )
    values = values.astype(np.float32, copy=False)
    if file.name == "pos_embed":
        values = values[None]
    return torch.from_numpy(np.ascontiguousarray(values.T if file.transposed else values))


FORMAT = ImportFormat(
    name=NAME, what="folder of NAME.float32.bin files, the weights of Edge-MoE's M3ViT backbone", read=read_edge_moe
)
