"""Which tensors of a file are the network: state dicts under any key, and names behind any prefix.

Training scripts keep the network beside optimisers, averages and counters, and wrappers put their own names before the
network's. Both are told by the patch embedding, which every vision transformer has.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

Tensors = dict[str, Tensor]

PREFIXES = ("module.", "backbone.", "_orig_mod.")
"""What wrappers put in front of every name: data parallelism, multi-task models, compilation."""

_INSIDE = re.compile(r"(?:^|(?<=\.))(?:_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.")
"""What wrappers put in front of the names of parts."""

_USUAL = ("state_dict", "model", "model_state_dict", "net", "network")
"""Keys under which training scripts keep the network that they train, before its averages."""

_ASIDE = re.compile(r"(?<![a-z])(ema|swa)(?![a-z])|teacher|student|momentum|target|average|decoder", re.IGNORECASE)
"""Keys and prefixes of copies and helpers of the network."""

_DEPTH, _LONGEST = 4, 64
"""How deep a file's containers are searched, and the longest list in which a state dict is looked for."""

_PATCHES = r"(?:patch_embed\.proj|conv_proj|embeddings\.patch_embeddings\.projection)\.(?:weight|bias)"
_FIRST_BLOCK = (
    r"(?:blocks\.0|encoder\.layers\.encoder_layer_0|encoder\.layer\.0)\."
    r"(?:norm1|ln_1|layernorm_before)\.weight"
)


@dataclass(frozen=True, kw_only=True)
class NetworkTensors:
    """Tensors that look like a network.

    Parameters
    ----------
    key:
        Keys of the containers that hold them, from the outside.
    prefix:
        What all of its names begin with; empty, or ends with a dot.
    tensors:
        By name, without the prefix.
    outside:
        Tensors of the same container that do not begin with it, without what their names share with the prefix.
    """

    key: tuple[str, ...]
    prefix: str
    tensors: Tensors
    outside: Tensors

    @property
    def parts(self) -> tuple[str, ...]:
        """Every word that tells it from the others."""
        return (*self.key, *self.prefix.split(".")[:-1])

    @property
    def place(self) -> str:
        """Where it lies, in words; empty if it is all that the file holds."""
        places = ["under " + ".".join(f"'{key}'" for key in self.key)] if self.key else []
        return ", ".join([*places, *([f"behind the prefix '{self.prefix}'"] if self.prefix else [])])


def find_network(content: Any, part: str | None, path: Path) -> tuple[NetworkTensors, list[str]]:
    """The network among all that a file holds, and a notice that says which if there was a choice.

    Parameters
    ----------
    content:
        What :func:`tessera.sw.models.weight_files.read_content` gave.
    part:
        Key or prefix of the one to take, such as ``teacher``; None for the one that is trained.
    path:
        The file, for messages.

    Raises
    ------
    ValueError
        If there is none, none of that name, or several that could be meant; the message lists them.
    """
    held = list(_containers(content, (), _DEPTH))
    if not held:
        raise ValueError(f"{path} holds no state dict, neither by itself nor under any key")
    found = [network for key, tensors in held for network in _networks(key, tensors)]
    if not found:
        most = max(len(tensors) for _, tensors in held)
        found = [_whole(key, tensors) for key, tensors in held if len(tensors) == most or part in key]
    chosen = _named(found, part, path) if part else found
    best = _preferred(chosen)
    if best is None:
        raise ValueError(
            f"{path} holds {len(chosen)} networks: {_listed(chosen)}; choose one with --part, such as "
            f"--part {_telling(chosen[-1], chosen)}"
        )
    others = [network for network in found if network is not best]
    notices = [f"weights taken from those {best.place}"] if best.place else []
    if others and not part:
        notices[-1:] = [
            f"weights taken from those {best.place or 'at the top'}, not from {_listed(others)}: --part for another"
        ]
    return best, notices


def without_prefixes(tensors: Mapping[str, Tensor]) -> Tensors:
    """The same under names without any of ``PREFIXES``; ValueError if that makes two names equal."""
    pattern = re.compile(rf"^(?:{'|'.join(map(re.escape, PREFIXES))})+")
    found = {_INSIDE.sub("", pattern.sub("", name)): tensor for name, tensor in tensors.items()}
    if len(found) < len(tensors):
        raise ValueError(f"names differ by nothing but the prefixes {', '.join(PREFIXES)}: keep one model of them")
    return found


def _containers(content: Any, key: tuple[str, ...], depth: int) -> Iterator[tuple[tuple[str, ...], Tensors]]:
    """Every dictionary that holds tensors by name, with its keys from the outside."""
    if isinstance(content, Mapping):
        items: list[tuple[Any, Any]] = list(content.items())
    elif isinstance(content, (list, tuple)) and len(content) <= _LONGEST:
        items = list(enumerate(content))
    else:
        return
    tensors = {name: value for name, value in items if isinstance(name, str) and isinstance(value, Tensor)}
    if tensors:
        yield key, tensors
    if depth:
        for name, value in items:
            yield from _containers(value, (*key, str(name)), depth - 1)


def _networks(key: tuple[str, ...], tensors: Tensors) -> list[NetworkTensors]:
    """Every network in one dictionary: one for each prefix before a patch embedding, or else before a first block."""
    tensors = without_prefixes(tensors)
    for sign in (_PATCHES, _FIRST_BLOCK):
        pattern = re.compile(rf"((?:[^.]+\.)*?){sign}")
        prefixes = {match[1] for match in map(pattern.fullmatch, tensors) if match}
        if prefixes:
            return [_behind(key, prefix, tensors) for prefix in sorted(prefixes)]
    return []


def _behind(key: tuple[str, ...], prefix: str, tensors: Tensors) -> NetworkTensors:
    inside = {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}
    words = prefix.split(".")[:-1]
    outside = {}
    for name, tensor in tensors.items():
        if not name.startswith(prefix):
            theirs = name.split(".")
            shared = next((i for i, word in enumerate(words) if i >= len(theirs) or theirs[i] != word), len(words))
            outside[".".join(theirs[shared:])] = tensor
    return NetworkTensors(key=key, prefix=prefix, tensors=inside, outside=outside)


def _whole(key: tuple[str, ...], tensors: Tensors) -> NetworkTensors:
    return NetworkTensors(key=key, prefix="", tensors=without_prefixes(tensors), outside={})


def _named(found: Sequence[NetworkTensors], part: str, path: Path) -> list[NetworkTensors]:
    chosen = [network for network in found if part in network.parts or part == network.prefix.rstrip(".")]
    if not chosen:
        raise ValueError(f"{path} holds no network called '{part}'; it has: {_listed(found)}")
    return chosen


def _preferred(found: Sequence[NetworkTensors]) -> NetworkTensors | None:
    """The network that is trained, without its copies; None if several could be meant."""
    own = [network for network in found if not any(map(_ASIDE.search, network.parts))] or list(found)
    if len(own) == 1:
        return own[0]
    for usual in ((), *((key,) for key in _USUAL)):
        named = [network for network in own if network.key == usual]
        if len(named) == 1:
            return named[0]
    return None


def _telling(network: NetworkTensors, among: Sequence[NetworkTensors]) -> str:
    """The first of its words that no other of them has."""
    shared = [set(other.parts) for other in among if other is not network]
    return next((word for word in network.parts if not any(word in words for words in shared)), network.prefix)


def _listed(networks: Sequence[NetworkTensors]) -> str:
    return "; ".join(f"{len(network.tensors):,} tensors {network.place or 'at the top'}" for network in networks)
