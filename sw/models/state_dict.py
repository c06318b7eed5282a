"""State dicts of PyTorch models: files of several kinds to tensors by name, and what is wrong with their names."""

from __future__ import annotations

import argparse
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from tessera.common.progress import Progress

Tensors = dict[str, Tensor]

PREFIXES = ("module.", "backbone.", "_orig_mod.")
"""What wrappers put in front of every name: data parallelism, multi-task models, compilation."""

_NESTS = ("state_dict", "model", "model_state_dict", "model_ema", "net")
"""Keys under which training scripts keep the state dict."""

_EXPERTS = re.compile(r"\.mlp\.experts\.(htoh4|h4toh)\.")


def read_state_dict(path: Path, on_progress: Progress) -> Tensors:
    """Tensors by name, without wrappers' prefixes.

    ``path`` is a ``.safetensors`` file, a file of ``torch.save`` (its state dict, or a dictionary that holds it), or
    the folder of ``0.pth``, ``1.pth``, ... that expert-parallel training writes, each with its share of the experts.

    Raises
    ------
    ValueError
        If there is no such file, it is damaged, holds no state dict, or more than data.
    """
    if path.is_dir():
        ranks = sorted(path.glob("*.pth"), key=lambda file: (len(file.name), file.name))
        if not ranks or [file.name for file in ranks] != [f"{rank}.pth" for rank in range(len(ranks))]:
            raise ValueError(
                f"{path} is a folder without 0.pth, 1.pth, ... of expert-parallel training; give the checkpoint file"
            )
    elif path.is_file():
        ranks = [path]
    else:
        raise ValueError(f"no checkpoint at {path}; give a .pth, .pt, .bin or .safetensors file")
    merged: Tensors = {}
    for number, file in enumerate(ranks):
        on_progress("read", number / len(ranks), file.name)
        for name, tensor in without_prefixes(_read(file)).items():
            if number == 0:
                merged[name] = tensor
            elif _EXPERTS.search(name) and name in merged:
                merged[name] = torch.cat([merged[name], tensor])
    return {name: tensor.float() for name, tensor in merged.items()}


def without_prefixes(tensors: Mapping[str, Tensor]) -> Tensors:
    """The same under names without any of ``PREFIXES``; ValueError if that makes two names equal."""
    pattern = re.compile(rf"^(?:{'|'.join(map(re.escape, PREFIXES))})+")
    found = {pattern.sub("", name): tensor for name, tensor in tensors.items()}
    if len(found) < len(tensors):
        raise ValueError(f"names differ by nothing but the prefixes {', '.join(PREFIXES)}: keep one model of them")
    return found


def _read(path: Path) -> Tensors:
    if path.suffix == ".safetensors":
        try:
            return load_file(path)
        except (SafetensorError, OSError) as error:
            raise ValueError(f"{path} is not a whole safetensors file ({error}): fetch it again") from error
    # Numbers that training scripts keep beside the weights; they are data, like tensors.
    scalar = np.float64(0).__reduce__()[0]
    harmless: list[Any] = [argparse.Namespace, scalar, np.dtype, type(np.dtype(np.float64)), type(np.dtype(np.float32))]
    try:
        with torch.serialization.safe_globals(harmless):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises whatever a broken file leads it to
        if "Unsupported global" in str(error) or "Unsupported class" in str(error):
            raise ValueError(
                f"{path} holds Python objects besides tensors, which could run code when read: where you trust it, "
                "save its tensors alone with torch.save(torch.load(path, weights_only=False)['model'], other)"
            ) from error
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(f"{path} is not a whole file of torch.save ({reason}): fetch it again") from error
    return _tensors_in(content, path)


def _tensors_in(content: Any, path: Path) -> Tensors:
    for _ in range(3):
        if isinstance(content, Mapping):
            tensors = {str(name): value for name, value in content.items() if isinstance(value, Tensor)}
            if tensors:
                return tensors
            content = next((content[nest] for nest in _NESTS if isinstance(content.get(nest), Mapping)), None)
    raise ValueError(f"{path} holds no state dict, neither by itself nor under {', '.join(_NESTS)}")


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
    """A kind of block that neither float model nor machine has: names of its tensors, what it is, what to use."""

    pattern: str
    what: str
    instead: str


def problems(
    tensors: Mapping[str, Tensor], expected: Mapping[str, Sequence[int]], unsupported: Sequence[Unsupported]
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
    """
    surplus = [name for name in tensors if name not in expected]
    lines = []
    for kind in unsupported:
        matching = [name for name in surplus if re.search(kind.pattern, name)]
        if matching:
            more = f" and {len(matching) - 1:,} more" if len(matching) > 1 else ""
            lines.append(f"unsupported: {kind.what} ({matching[0]}{more}); nearest: {kind.instead}")
            surplus = [name for name in surplus if name not in set(matching)]
    for name, shape in expected.items():
        if name not in tensors:
            lines.append(f"missing: {name} {tuple(shape)}")
        elif tuple(tensors[name].shape) != tuple(shape):
            lines.append(f"wrong shape: {name} is {tuple(tensors[name].shape)}, expected {tuple(shape)}")
        elif not torch.isfinite(tensors[name]).all():
            lines.append(f"not finite: {name}")
    return lines + [f"unexpected: {name} {tuple(tensors[name].shape)}" for name in surplus]
