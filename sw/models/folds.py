"""What a network has and ours has not, folded into the weights before it, so that both compute the same.

Folding is exact: in float64 from the weights as they were stored, rounded once to float32 at the end.
"""

from __future__ import annotations

import re

import torch
from torch import Tensor

from tessera.golden.network.compute import PIXEL_SCALE
from tessera.sw.models.networks import Tensors
from tessera.sw.models.options import NORMALISATIONS, Options
from tessera.sw.models.state_dict import Finding

LUMA = (0.299, 0.587, 0.114)
"""Shares of red, green and blue in grey (ITU-R BT.601), by which pictures are converted to it."""

_LINEAR = re.compile(r"blocks\.\d+\.((?:attn|mlp)\.(?:qkv|proj|fc1|fc2))\.(weight|bias)")
_SCALE = re.compile(
    r"(blocks\.\d+)\.(?:ls|gamma_|lambda_|layer_?scale_?)([12])(?:\.(?:gamma|scale|weight|lambda1|lambda_1))?"
)
_SCALED = {"1": ("attn.proj",), "2": ("mlp.fc2", "mlp.experts.h4toh")}
"""Where the output that a LayerScale multiplies comes from."""

_TITLES = {"raw": "as bytes / 256", "imagenet": "by ImageNet's mean and deviation", "half": "to -1 to 1"}


def joined_biases(tensors: Tensors) -> None:
    """Q's and V's biases where K has none, as in BEiT, as one of all three: K's is 0."""
    for name in [name for name in tensors if re.fullmatch(r"blocks\.\d+\.attn\.q_bias", name)]:
        query, value = tensors[name], tensors.get(name.replace("q_bias", "v_bias"))
        whole = name.replace("q_bias", "qkv.bias")
        if value is not None and query.shape == value.shape and whole not in tensors:
            key = tensors.pop(name.replace("q_bias", "k_bias"), torch.zeros_like(query))
            tensors[whole] = torch.cat([tensors.pop(name), key, tensors.pop(name.replace("q_bias", "v_bias"))])


def filled_biases(tensors: Tensors) -> list[str]:
    """Zeros for the biases of a kind of layer that was made without any; a notice says for which."""
    found = [match for match in map(_LINEAR.fullmatch, tensors) if match]
    without = {m[1] for m in found} - {m[1] for m in found if m[2] == "bias"}
    for match in found:
        if match[1] in without:
            tensors[match[0].removesuffix("weight") + "bias"] = torch.zeros(tensors[match[0]].shape[:1])
    return [f"no biases in {', '.join(sorted(without))}: taken as 0"] if without else []


def folded_layer_scale(tensors: Tensors) -> tuple[list[str], list[Finding]]:
    """Multiply LayerScale into the layer before it, rows of the weight and bias alike.

    Returns
    -------
    tuple
        A notice that it was done; what is wrong with factors that have no such layer, another width or no finite value.
    """
    count, wrong = 0, _scales_that_lack(tensors)
    for match in [match for match in map(_SCALE.fullmatch, list(tensors)) if match]:
        gamma = tensors[match[0]].double().flatten()
        layer = next((f"{match[1]}.{part}" for part in _SCALED[match[2]] if f"{match[1]}.{part}.weight" in tensors), "")
        weight, bias = tensors.get(f"{layer}.weight"), tensors.get(f"{layer}.bias")
        fits = weight is not None and weight.ndim >= 2 and weight.shape[-2] == len(gamma)
        if not fits or weight is None or (bias is not None and bias.shape[-1] != len(gamma)):
            shape = tuple(tensors[match[0]].shape)
            line = f"wrong shape: {match[0]} is {shape}, which fits no layer before it"
            wrong.append(Finding(about=match[0], line=line, explains="$^"))
            continue
        if not torch.isfinite(gamma).all():
            wrong.append(Finding(about=match[0], line=f"not finite: {match[0]}", explains="$^"))
            continue
        tensors[f"{layer}.weight"] = (weight.double() * gamma[:, None]).float()
        if bias is not None:
            tensors[f"{layer}.bias"] = (bias.double() * gamma).float()
        del tensors[match[0]]
        count += 1
    notices = [f"LayerScale folded into the {count} layers before it, which changes nothing"] if count else []
    return notices, wrong


def _scales_that_lack(tensors: Tensors) -> list[Finding]:
    """Blocks without a LayerScale that others have."""
    blocks = {match[0] for match in (re.match(r"blocks\.\d+(?=\.)", name) for name in tensors) if match}
    wrong = []
    for number in _SCALED:
        found = {match[1]: match[0] for match in map(_SCALE.fullmatch, tensors) if match and match[2] == number}
        for block in sorted(blocks - found.keys() if found else ()):
            like = next(iter(found.values()))
            name = block + like.removeprefix(next(iter(found)))
            wrong.append(Finding(about=name, line=f"missing: {name}, while there is {like}", explains="$^"))
    return wrong


def three_colours(tensors: Tensors) -> list[str]:
    """Spread a patch embedding of one channel over three, so that it sees a picture's grey; a notice says so."""
    weight = tensors.get("patch_embed.proj.weight")
    if weight is None or weight.ndim != 4 or weight.shape[1] != 1:
        return []
    shares = torch.tensor(LUMA, dtype=torch.float64)[None, :, None, None]
    tensors["patch_embed.proj.weight"] = (weight.double() * shares).float()
    return ["one channel: the patch embedding reads a picture's grey, 0.299 red + 0.587 green + 0.114 blue"]


def take_bytes(tensors: Tensors, options: Options, usual: str, whose: str) -> list[str]:
    """Fold the normalisation of pixels into the patch embedding, so that it takes bytes / 256 as our model does.

    Parameters
    ----------
    tensors:
        Changed in place.
    options:
        Which normalisation; its ``pixels`` or ``mean`` and ``std``.
    usual:
        One of ``NORMALISATIONS``, where ``options`` say nothing.
    whose:
        Whose way that is, for the notice.

    Returns
    -------
    list
        A notice of what was assumed.
    """
    mean, deviation = NORMALISATIONS[options.pixels or usual]
    if options.mean is not None and options.std is not None:
        mean, deviation = options.mean, options.std
    if deviation is not None:
        weight = tensors["patch_embed.proj.weight"].double() / _by_colour(deviation)
        shift = (weight.sum(dim=(2, 3), keepdim=True) * _by_colour(mean)).sum(dim=(1, 2, 3))
        tensors["patch_embed.proj.bias"] = (tensors["patch_embed.proj.bias"].double() - shift).float()
        tensors["patch_embed.proj.weight"] = (weight / (255 * PIXEL_SCALE)).float()
    if options.pixels or options.mean:
        return []
    return [f"pixels normalised {_TITLES[usual]}, as {whose} does: --pixels for another way, or --mean and --std"]


def _by_colour(values: tuple[float, ...]) -> Tensor:
    return torch.tensor(values * (1 if len(values) == 3 else 3), dtype=torch.float64)[None, :, None, None]
