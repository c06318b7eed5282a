"""Faults in the DRAM: weights, constants, the image. Each is a broken model, so the golden model knows what it does."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np

from tessera.golden.integer.parameters import (
    QuantisedExperts,
    QuantisedLayerNorm,
    QuantisedLinear,
    QuantisedProduct,
    QuantisedStream,
)
from tessera.sw.selftest.faults import MODEL, Fault, Place, Subject, element, with_parameters


def _first(candidates: Iterator[Fault | None]) -> Fault:
    """The first candidate that makes a difference."""
    fault = next((candidate for candidate in candidates if candidate is not None), None)
    if fault is None:
        raise ValueError("no candidate of this fault changes the tensor where it should show; choose another seed")
    return fault


def _flipped(value: int, bit: int) -> int:
    """An 8-bit weight with one bit inverted."""
    return ((int(value) & 0xFF ^ 1 << bit) ^ 0x80) - 0x80


def _linear(subject: Subject, name: str) -> QuantisedLinear:
    return subject.quantised.of(name, QuantisedProduct).linear


def _experts(subject: Subject) -> QuantisedExperts:
    return subject.quantised.of("layer01.residual", QuantisedExperts)


def weight_bit(s: Subject) -> Fault:
    """A weight that reads with one bit inverted."""

    def candidate(output: int) -> Fault | None:
        linear, at = _linear(s, "layer00.hidden"), (output, 7)
        weight = element(linear.weight, at, _flipped(linear.weight[at], 6))
        broken = with_parameters(s.quantised, "layer00.hidden", linear=replace(linear, weight=weight))
        fault = s.broken_model("weight bit", "", broken, "layer00.hidden", "layer00.hidden")
        if fault is None:
            return None
        ((address, _),) = fault.patches
        return replace(
            fault,
            injected=f"bit 6 of layer00.hidden weight {at} reads inverted, byte {address:#x}",
            patches=(),
            memory={"flip_address": address, "flip_bit": 6},
        )

    return _first(candidate(output) for output in range(5, 48))


def staged_weight(s: Subject) -> Fault:
    """A weight of V, which the machine stages on chip, reads with one bit inverted."""
    at = (9, 5)
    linear = _linear(s, "layer00.v")
    value = _flipped(linear.weight[at], 2)
    changed = replace(linear, weight=element(linear.weight, at, value))
    ((address, _),) = s.difference(with_parameters(s.quantised, "layer00.v", linear=changed))
    # Heads start at words of their own, so staged rows are padded per head.
    head, channel = divmod(at[0], MODEL.head_dim)
    _, _, layout = s.written("layer00.v.weights")
    rows = layout.shape[0] // MODEL.heads
    return Fault(
        kind="staged weight bit",
        injected=f"bit 2 of layer00.v weight {at} reads inverted, byte {address:#x}",
        expected=Place(
            command="layer00.v.weights",
            tensor="layer00.v.weights",
            index=(head * rows + channel, at[1]),
            got=value,
            error="NONE",
        ),
        memory={"flip_address": address, "flip_bit": 2},
    )


def _query(s: Subject, kind: str, text: str, change: Callable[[QuantisedLinear, int], QuantisedLinear]) -> Fault:
    """A changed parameter set of one channel of Q."""
    linear = _linear(s, "layer01.q")
    return _first(
        s.broken_model(
            kind,
            f"{text} of layer01.q channel {channel}",
            with_parameters(s.quantised, "layer01.q", linear=change(linear, channel)),
            "layer01.q",
            "layer01.q",
        )
        for channel in range(11, 24)
    )


def multiplier(s: Subject) -> Fault:
    """One requantiser multiplier in memory."""

    def change(linear: QuantisedLinear, channel: int) -> QuantisedLinear:
        value = int(linear.multiplier[channel]) ^ 1 << 14
        return replace(linear, multiplier=element(linear.multiplier, channel, value))

    return _query(s, "requantiser multiplier", "bit 14 of the multiplier", change)


def bias(s: Subject) -> Fault:
    """One bias in memory."""

    def change(linear: QuantisedLinear, channel: int) -> QuantisedLinear:
        value = int(linear.bias[channel]) ^ 1 << 11
        return replace(linear, bias=element(linear.bias, channel, value))

    return _query(s, "bias", "bit 11 of the bias", change)


def expert_weight(s: Subject) -> Fault:
    """A weight bit of an expert's first matrix: only tokens that were routed there suffer."""
    mlp = _experts(s)
    expert = s.busy_expert

    def candidate(output: int) -> Fault | None:
        experts, at = list(mlp.experts), (output, 3)
        first = experts[expert].first
        weight = element(first.weight, at, _flipped(first.weight[at], 6))
        experts[expert] = replace(experts[expert], first=replace(first, weight=weight))
        return s.broken_model(
            "expert weight bit",
            f"bit 6 of layer01 expert {expert} first weight {at}",
            with_parameters(s.quantised, "layer01.residual", experts=tuple(experts)),
            "layer01.experts",
            "layer01.experts.expert_hidden",
        )

    return _first(candidate(output) for output in range(16))


def gate_weight(s: Subject) -> Fault:
    """A 16-bit weight of the gate."""
    mlp, at = _experts(s), (2, 13)
    gate = mlp.gates[s.task]
    weight = element(gate.weight, at, int(gate.weight[at]) ^ 1 << 12)
    gates = element(np.array(mlp.gates, object), s.task, 0)
    gates[s.task] = replace(gate, weight=weight)
    return _first(
        iter(
            [
                s.broken_model(
                    "gate weight bit",
                    f"bit 12 of layer01.experts.gate.segmentation weight {at}",
                    with_parameters(s.quantised, "layer01.residual", gates=tuple(gates)),
                    "layer01.experts.gate.segmentation",
                    "layer01.experts.gate_scores",
                )
            ]
        )
    )


def position(s: Subject) -> Fault:
    """A word of the position embedding."""
    at = (3, 10)
    values = s.quantised.of("embed.init", QuantisedStream).values
    values = element(values, at, int(values[at]) ^ 1 << 9)
    return _first(
        iter(
            [
                s.broken_model(
                    "position embedding",
                    f"bit 9 of the word of token {at[0]}, channel {at[1]}",
                    with_parameters(s.quantised, "embed.init", values=values),
                    "embed.init",
                    "embed.init",
                )
            ]
        )
    )


def channel_shift(s: Subject) -> Fault:
    """A LayerNorm channel shift."""
    norm = s.quantised.of("layer01.norm2", QuantisedLayerNorm)

    def candidate(channel: int) -> Fault | None:
        shift = element(norm.channel_shift, channel, int(norm.channel_shift[channel]) ^ 1)
        broken = with_parameters(s.quantised, "layer01.norm2", channel_shift=shift)
        text = f"bit 0 of the shift of layer01.norm2 channel {channel}"
        return s.broken_model("LayerNorm channel shift", text, broken, "layer01.norm2", "layer01.norm2")

    return _first(candidate(channel) for channel in range(6, 24))


def pixel(s: Subject) -> Fault:
    """A pixel of the image, after the golden model saw it."""
    channel, row, column = 1, 10, 21
    offset = int(np.ravel_multi_index((channel, row, column), s.image.shape))
    image = s.image.copy()
    image[channel, row, column] ^= 0x20
    place = s.first_difference(s.golden(s.task, image=image), "pixels", "pixels")
    assert place is not None
    return Fault(
        kind="pixel",
        injected=f"bit 5 of the image byte at channel {channel}, row {row}, column {column}",
        expected=place,
        patches=[(s.program.map.image + offset, image[channel, row, column].tobytes())],
    )
