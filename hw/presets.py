"""Presets: the named configurations that tests, simulation, synthesis and boards share."""

from __future__ import annotations

from dataclasses import replace

from tessera.common.expected import expect
from tessera.hw.config import AcceleratorConfig

_TINY = AcceleratorConfig(name="tiny", elements=4, lanes=4, memory_bytes=4)
"""The smallest machine that has every unit: for tests."""

_ECP5 = AcceleratorConfig(
    name="ecp5-85f",
    elements=8,
    lanes=8,
    memory_bytes=2,
    scratchpad_words=20480,
    # 197 tokens of 192 channels (DeiT-Tiny) need 4,728; the block RAM of an LFE5U-85F has room for more.
    residual_words=5120,
    stream_beats=1024,
)
"""The machine of the boards."""

_ECP5_WIDE = replace(_ECP5, name="ecp5-wide", lanes=16, scratchpad_words=10240, residual_words=2560)
"""Twice the MACs. It uses nearly all multipliers of the device, which are too far apart for the clock of a board."""

_EDGE = AcceleratorConfig(
    name="edge",
    elements=16,
    lanes=16,
    memory_bytes=32,
    requantise_lanes=8,
    exponential_lanes=8,
    layernorm_lanes=16,
    layernorm_row_buffer=True,
    layernorm_channels=2048,
    # Two heads that make maps of 128 x 256 are 3,432 commands, hierarchical networks at 224 x 224 up to 1,800.
    max_commands=4096,
    # 197 tokens of 384 channels (DeiT-Small) need 4,728.
    residual_words=5120,
    parameter_entries=2048,
)
"""256 MACs and a bus that feeds them: the machine that is compared with published ones."""

_EDGE_8 = replace(_EDGE, name="edge-8", memory_bytes=8, stream_beats=4096)
"""A quarter of the bus. Expert layers are bound by the memory, so prefetching has more room."""

_EDGE_LARGE = replace(_EDGE, name="edge-large", scratchpad_words=32768, residual_words=8192)
"""Room for all heads of 197 tokens of 384 channels at once, and for an MLP of 1536 channels."""

PRESETS = {preset.name: preset for preset in (_TINY, _ECP5, _ECP5_WIDE, _EDGE, _EDGE_8, _EDGE_LARGE)}
"""Every preset by its name."""


def preset(name: str) -> AcceleratorConfig:
    """Look a preset up by name; raises ValueError listing the known ones."""
    expect("preset", name, str, f"the name of a machine, one of: {', '.join(PRESETS)}")
    if name not in PRESETS:
        raise ValueError(f"unknown preset '{name}'; choose one of: {', '.join(PRESETS)}")
    return PRESETS[name]
