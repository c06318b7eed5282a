"""What travels inside LayerNorm: sums of a row, its scale, and the constants of lanes."""

from __future__ import annotations

from amaranth.hdl import signed, unsigned
from amaranth.lib import data

from hw.config import MAX_CHANNELS, AcceleratorConfig


def wide_channels(config: AcceleratorConfig) -> int:
    """Channels a beat takes for the wide output: no more than fill one wide word."""
    return min(config.layernorm_lanes, config.lanes // 2)


def layernorm_beat_layout(config: AcceleratorConfig) -> data.StructLayout:
    """Some channels of a row: ``part`` of its word, ``channel`` the first one's number.

    ``statistics`` beats are summed from ``first`` to ``last`` of a row; the others are normalised, with 16 bits when
    ``wide``. ``emit`` marks the beat that completes an output word.
    """
    return data.StructLayout(
        {
            "statistics": 1,
            "wide": 1,
            "part": range(max(2, config.lanes // wide_channels(config))),
            "channel": range(MAX_CHANNELS),
            "first": 1,
            "last": 1,
            "emit": 1,
        }
    )


def lane_constants_layout() -> data.StructLayout:
    """Constants of a job, named as in ``hw.isa``'s LAYERNORM."""
    return data.StructLayout({"channels": range(MAX_CHANNELS + 1), "shift": 6, "wide_shift": 6})


CHANNEL_BITS = MAX_CHANNELS.bit_length()


def row_sum_width(config: AcceleratorConfig) -> int:
    """Bits of a row's signed sum."""
    return config.numerics.residual.width + CHANNEL_BITS - 1


def row_square_sum_width(config: AcceleratorConfig) -> int:
    """Bits of a row's unsigned sum of squares."""
    return 2 * (config.numerics.residual.width - 1) + CHANNEL_BITS


def row_sums_layout(config: AcceleratorConfig) -> data.StructLayout:
    """Sum (signed) and sum of squares (unsigned) of a row of residual integers."""
    return data.StructLayout({"total": signed(row_sum_width(config)), "squares": row_square_sum_width(config)})


def row_constants_layout() -> data.StructLayout:
    """Constants of a job, named as in ``hw.isa``'s LAYERNORM."""
    return data.StructLayout(
        {
            "channels": CHANNEL_BITS,
            "mean_multiplier": 17,
            "mean_shift": 6,
            "epsilon": 32,
            "scale_multiplier": 17,
        }
    )


def row_scale_layout(config: AcceleratorConfig) -> data.StructLayout:
    """What normalises a row: its mean (a bit wider than the residual) and ``scale * 2**-exponent`` (1 / deviation)."""
    return data.StructLayout({"mean": signed(config.numerics.residual.width + 1), "scale": 17, "exponent": 6})


def shift_write_layout(config: AcceleratorConfig) -> data.StructLayout:
    """One chunk of LayerNorm's channel shifts: ``address`` counts chunks, channel = address * chunk_bytes + index."""
    return data.StructLayout({"address": 16, "shifts": data.ArrayLayout(unsigned(3), config.chunk_bytes)})
