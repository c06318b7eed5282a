"""The configurations that the estimator is calibrated on, and those that are kept back to see how wrong it is.

Each differs from the others in several fields at once, so that few of them tell the fields' costs apart. The ones held
back were chosen before any model was fitted, are like none of the others, and have values between theirs.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from tessera.hw.config import AcceleratorConfig
from tessera.hw.presets import PRESETS

_TINY, _ECP5, _WIDE = (PRESETS[name] for name in ("tiny", "ecp5-85f", "ecp5-wide"))
# As it was when it was counted: the preset has more of both since.
_EDGE = replace(PRESETS["edge"], max_commands=512, layernorm_channels=1024)


def _sized(elements: int, lanes: int, memory_bytes: int, activation_width: int = 8, **fields: Any) -> AcceleratorConfig:
    """A configuration named after its sizes."""
    config = AcceleratorConfig(
        name=f"{elements}x{lanes}-{memory_bytes}-{activation_width}",
        elements=elements,
        lanes=lanes,
        memory_bytes=memory_bytes,
        **fields,
    )
    return config.with_activation_width(activation_width)


CALIBRATION = (
    _TINY,
    _ECP5,
    _WIDE,
    _sized(4, 8, 8, 12, residual_words=2048, scratchpad_words=8192, max_commands=256),
    _sized(8, 8, 4, 16, residual_words=2560, scratchpad_words=6144, exponential_lanes=4, stream_beats=256),
    _sized(2, 4, 2, 8, scratchpad_words=8192, bank_words=256, parameter_entries=512, max_tokens=128, max_experts=8),
    _sized(4, 4, 2, 12, layernorm_row_buffer=True, max_tokens=512, max_experts=32, bank_words=1024),
    _sized(4, 16, 16, 8, requantise_lanes=4, exponential_lanes=4, layernorm_lanes=8, layernorm_row_buffer=True),
    _sized(8, 8, 8, 8, requantise_lanes=8, layernorm_lanes=8, layernorm_row_buffer=True, bank_words=1024),
    _sized(2, 8, 4, 16, residual_words=3072, scratchpad_words=12288, max_top_k=8, max_experts=4, max_commands=1024),
    _sized(4, 4, 16, 16, stream_beats=128, max_tokens=1024, bank_words=2048, layernorm_lanes=2),
    _sized(8, 16, 4, 12, scratchpad_words=4096, residual_words=1024, layernorm_lanes=16, exponential_lanes=8),
    replace(
        _TINY,
        name="tiny-deep",
        stream_beats=4096,
        parameter_entries=4096,
        max_commands=2048,
        scratchpad_words=32768,
        residual_words=16384,
        bank_words=2048,
    ),
    replace(_ECP5, name="ecp5-85f-experts", max_experts=64, max_tokens=128, max_top_k=1),
    replace(_TINY, name="tiny-lanes", requantise_lanes=4, exponential_lanes=4, layernorm_row_buffer=True),
    _EDGE,
)

HELD_BACK = (
    _sized(4, 8, 2, 8, scratchpad_words=10240, residual_words=3072, max_experts=8, stream_beats=2048),
    _sized(8, 8, 4, 12, scratchpad_words=12288, residual_words=2048, requantise_lanes=4, bank_words=256),
    _sized(8, 16, 4, 8, scratchpad_words=6144, layernorm_lanes=8, layernorm_row_buffer=True, max_tokens=512),
    _sized(4, 16, 8, 16, scratchpad_words=4096, residual_words=1536, exponential_lanes=4, parameter_entries=512),
)
