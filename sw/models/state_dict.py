"""State dicts of PyTorch models: files and folders of several kinds to tensors by name, and what is wrong with them."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from tessera.common.progress import Progress
from tessera.sw.models.networks import NetworkTensors, Tensors, find_network
from tessera.sw.models.weight_files import read_content

_EXPERTS = re.compile(r"\.mlp\.experts\.(htoh4|h4toh)\.")
WHOLE_FILES = ("model.safetensors", "pytorch_model.bin")
"""What Hugging Face's folders call a checkpoint in one file; one in several has an index beside them."""


@dataclass(frozen=True, kw_only=True)
class StateDict:
    """The network of a file or folder.

    Members: ``tensors`` by name without prefixes; ``outside``, those of the same dictionary that are not behind the
    network's prefix; ``notices``, which of several networks it is.
    """

    tensors: Tensors
    outside: Tensors
    notices: tuple[str, ...]


def read_state_dict(path: Path, part: str | None, on_progress: Progress) -> StateDict:
    """Read the tensors of a network, floating-point ones as float32.

    Parameters
    ----------
    path:
        A file of ``torch.save`` or safetensors; a folder of Hugging Face; or the folder of ``0.pth``, ``1.pth``, ...
        that expert-parallel training writes, each with its share of the experts.
    part:
        Which of several networks to take; see :func:`tessera.sw.models.networks.find_network`.
    on_progress:
        Callback for the stage ``read``.

    Raises
    ------
    ValueError
        If there is no such file, it is damaged, holds no state dict, or more than data.
    """
    if path.is_dir():
        network, notices = _folder(path, part, on_progress)
    elif path.is_file():
        on_progress("read", 0.0, path.name)
        network, notices = find_network(read_content(path), part, path)
    else:
        raise ValueError(f"no checkpoint at {path}; give a .pth, .pt, .bin or .safetensors file")
    return StateDict(tensors=_single(network.tensors), outside=_single(network.outside), notices=tuple(notices))


def _single(tensors: Tensors) -> Tensors:
    """Floating-point tensors as float32; others as they are, for :func:`problems` to name."""
    return {name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in tensors.items()}


def _folder(folder: Path, part: str | None, on_progress: Progress) -> tuple[NetworkTensors, list[str]]:
    """The network of a folder: in one file, in several that an index lists, or in one for each rank of a training."""
    for name in WHOLE_FILES:
        index = folder / f"{name}.index.json"
        if (folder / name).is_file() or index.is_file():
            files = [folder / name] if (folder / name).is_file() else _indexed(index)
            content: Tensors = {}
            for number, file in enumerate(files):
                on_progress("read", number / len(files), file.name)
                content |= read_content(file)
            return find_network(content, part, folder)
    ranks = sorted(folder.glob("*.pth"), key=lambda file: (len(file.name), file.name))
    if not ranks or [file.name for file in ranks] != [f"{rank}.pth" for rank in range(len(ranks))]:
        raise ValueError(
            f"{folder} is a folder without 0.pth, 1.pth, ... of expert-parallel training and without "
            f"{' or '.join(WHOLE_FILES)}; give the checkpoint file"
        )
    on_progress("read", 0.0, ranks[0].name)
    first, notices = find_network(read_content(ranks[0]), part, ranks[0])
    for number, file in enumerate(ranks[1:], start=1):
        on_progress("read", number / len(ranks), file.name)
        for name, tensor in find_network(read_content(file), part, file)[0].tensors.items():
            if _EXPERTS.search(name) and name in first.tensors:
                first.tensors[name] = torch.cat([first.tensors[name], tensor])
    return first, notices


def _indexed(index: Path) -> list[Path]:
    """The files that an index lists; ValueError if one is missing or the index cannot be read."""
    try:
        names = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
        files = [index.parent / Path(name).name for name in names]
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
        raise ValueError(f"{index} is no readable index of a checkpoint: fetch it again") from error
    missing = [file.name for file in files if not file.is_file()]
    if missing:
        raise ValueError(f"{index} lists {len(files)} files; missing: {', '.join(missing)}: fetch them too")
    return files


def common(values: Iterable[int], default: int) -> int:
    """The commonest value, so that one wrong shape does not mislead; ``default`` if there is none."""
    counted = Counter(values)
    return counted.most_common(1)[0][0] if counted else default


def axis(tensors: Mapping[str, Tensor], pattern: str, number: int) -> list[int]:
    """Size of one axis of every tensor whose whole name matches ``pattern`` and that has that axis."""
    found = (tensor for name, tensor in tensors.items() if re.fullmatch(pattern, name))
    return [tensor.shape[number] for tensor in found if -tensor.ndim <= number < tensor.ndim]


@dataclass(frozen=True, kw_only=True)
class Unsupported:
    """A kind of block that neither float model nor machine has.

    Members: ``pattern`` of the names of its tensors; ``what`` it is; what to use ``instead``; ``explains``, a pattern
    of other tensors that are missing or of another shape because of it, and need no line of their own.
    """

    pattern: str
    what: str
    instead: str
    explains: str = "$^"


@dataclass(frozen=True, kw_only=True)
class Finding:
    """Something wrong that more than a name or a shape tells.

    Members: the tensor that it is ``about``; the ``line`` to say; ``explains``, as in :class:`Unsupported`.
    """

    about: str
    line: str
    explains: str


def problems(
    tensors: Mapping[str, Tensor],
    expected: Mapping[str, Sequence[int]],
    unsupported: Sequence[Unsupported],
    findings: Sequence[Finding] = (),
) -> list[str]:
    """Everything that is wrong with a state dict, a line each: unsupported blocks first, with what to use instead.

    Parameters
    ----------
    tensors:
        What was found.
    expected:
        Shapes by name.
    unsupported:
        Kinds of blocks to recognise among names that are not expected.
    findings:
        What is known to be wrong already.
    """
    known = {finding.about for finding in findings}
    surplus = [name for name in tensors if name not in expected and name not in known]
    lines, explained = [], ["$^"]
    for kind in unsupported:
        matching = [name for name in surplus if re.search(kind.pattern, name)]
        if matching:
            more = f" and {len(matching) - 1:,} more" if len(matching) > 1 else ""
            lines.append(f"unsupported: {kind.what} ({matching[0]}{more}); nearest: {kind.instead}")
            surplus = [name for name in surplus if name not in set(matching)]
            explained.append(kind.explains)
    told = [finding for finding in findings if not re.search("|".join(explained), finding.about)]
    lines += [finding.line for finding in told]
    follows = re.compile("|".join([*explained, *(finding.explains for finding in told)]))
    for name, shape in expected.items():
        if follows.search(name):
            continue
        if name not in tensors:
            lines.append(f"missing: {name} {tuple(shape)}")
        elif line := _trouble(name, tensors[name], shape):
            lines.append(line)
    return lines + [f"unexpected: {name} {tuple(tensors[name].shape)}" for name in surplus]


def _trouble(name: str, tensor: Tensor, shape: Sequence[int]) -> str:
    """What is wrong with a tensor of an expected name; empty if nothing is."""
    if not tensor.numel():
        return f"empty: {name} is {tuple(tensor.shape)}"
    if tuple(tensor.shape) != tuple(shape):
        return f"wrong shape: {name} is {tuple(tensor.shape)}, expected {tuple(shape)}"
    if tensor.is_meta:
        return f"no values: {name} was saved from a model that had none yet (device meta)"
    if not tensor.is_floating_point() or tensor.layout is not torch.strided:
        kind = str(tensor.dtype if tensor.layout is torch.strided else tensor.layout).removeprefix("torch.")
        return f"wrong type: {name} is {kind}, expected dense floating point"
    return "" if torch.isfinite(tensor).all() else f"not finite: {name}"
