"""What a network is made of, in a line for people."""

from __future__ import annotations

import re

from tessera.golden.network.network import Network
from tessera.golden.network.operators import Attend, Convolution, Linear, MixExperts

_LAYER = re.compile(r"layer\d{2,}")
"""Places of the layers of this project's own transformers."""
_MOST_SIZES = 3
"""Sizes of attention that a line names."""


def layers(network: Network) -> int:
    """How many layers a transformer of this project has; 0 for others, whose modules do not say what a layer is."""
    return sum(_LAYER.fullmatch(place) is not None for place in network.places)


def geometry(network: Network) -> str:
    """Tokens, layers and experts of a transformer of this project; of others the operators and what they are."""
    if not layers(network):
        return f"{len(network.operators)} operators: {made_of(network)}"
    mixtures, words = network.of_kind(MixExperts), "no experts"
    if mixtures:
        one, weights = mixtures[0], network.weights
        words = f"{one.experts(weights)} experts of {one.hidden(weights)} in {len(mixtures)}, top-{one.top_k}"
    return ", ".join(filter(None, [_attention(network), f"{layers(network)} layers", words]))


def made_of(network: Network) -> str:
    """The operators that do most of the work of any network, such as ``2 convolutions, 1 linear layer``."""
    words = [
        _counted(len(network.of_kind(Convolution)), "convolution"),
        _counted(len(network.of_kind(Linear)), "linear layer"),
    ]
    if attentions := len(network.of_kind(Attend)):
        words.append(f"{_counted(attentions, 'attention')} ({_attention(network)})")
    if mixtures := network.of_kind(MixExperts):
        one, weights = mixtures[0], network.weights
        inside = f"{one.experts(weights)} experts of {one.hidden(weights)}, top-{one.top_k}"
        words.append(f"{_counted(len(mixtures), 'mixture')} of experts ({inside})")
    return ", ".join(filter(None, words)) or "no convolution, linear layer or attention"


def _attention(network: Network) -> str:
    """Queries, channels and heads, in each size that there is."""
    found = network.of_kind(Attend)
    sizes = sorted({(*network.shapes[one.name][-2:], one.heads) for one in found}, reverse=True)
    words = [f"{rows} tokens of {channels}, {_counted(heads, 'head')}" for rows, channels, heads in sizes[:_MOST_SIZES]]
    return ", ".join([*words, "..."] if len(sizes) > _MOST_SIZES else words)


def _counted(number: int, what: str) -> str:
    """A number with its word; nothing for none."""
    return f"{number} {what}{'' if number == 1 else 's'}" if number else ""
