"""What travels inside LayerNorm: beats, sums of a row, its scale, normalised channels, and the constants of a job."""

from __future__ import annotations

from amaranth.hdl import signed, unsigned
from amaranth.lib import data

from tessera.hw.config import AcceleratorConfig
from tessera.hw.formats import Numerics
from tessera.hw.isa import ADDRESS_WIDTH


def channel_bits(config: AcceleratorConfig) -> int:
    """Bits of a number of channels, of which a row may have 0 to ``layernorm_channels``."""
    return config.layernorm_channels.bit_length()


def wide_channels(config: AcceleratorConfig) -> int:
    """Channels that a beat takes for the wide output: no more than fill one wide word."""
    return min(config.layernorm_lanes, config.lanes // 2)


def layernorm_beat_layout(config: AcceleratorConfig) -> data.StructLayout:
    """What to do with some channels of a residual word."""
    return data.StructLayout(
        {
            "statistics": 1,  # the channels are summed; else they are normalised
            "wide": 1,  # they are normalised with 16 bits
            "part": range(max(2, config.lanes // wide_channels(config))),  # which channels of the word
            "channel": range(config.layernorm_channels),  # number of the first one in its row
            "first": 1,  # first beat of its row
            "last": 1,  # last beat of its row
            "emit": 1,  # an output word is complete after the beat
        }
    )


def normalised_layout(config: AcceleratorConfig) -> data.StructLayout:
    """Normalised channels of a beat."""
    return data.StructLayout(
        {
            "beat": layernorm_beat_layout(config),  # the beat that they belong to
            "values": data.ArrayLayout(
                signed(config.numerics.wide.width), config.layernorm_lanes
            ),  # saturated to activations, or to 16 bits if wide; the first `wide_channels` lanes of a wide beat count
        }
    )


def lane_constants_layout(config: AcceleratorConfig) -> data.StructLayout:
    """Constants of a job that the lanes need, named as in ``tessera.hw.isa``'s LAYERNORM."""
    return data.StructLayout(
        {
            "channels": channel_bits(config),  # channels that count; those beyond are normalised to 0
            "shift": Numerics.shift_width,  # right shift of the narrow output
            "wide_shift": Numerics.shift_width,  # right shift of the wide output
            "mode": 2,  # a NormMode
        }
    )


def row_sum_width(config: AcceleratorConfig) -> int:
    """Bits of a row's signed sum."""
    return config.numerics.residual.width + channel_bits(config) - 1


def row_square_sum_width(config: AcceleratorConfig) -> int:
    """Bits of a row's unsigned sum of squares."""
    return 2 * (config.numerics.residual.width - 1) + channel_bits(config)


def row_sums_layout(config: AcceleratorConfig) -> data.StructLayout:
    """Sums over a row of residual integers."""
    return data.StructLayout(
        {
            "total": signed(row_sum_width(config)),  # sum of the channels
            "squares": row_square_sum_width(config),  # sum of their squares
        }
    )


def row_constants_layout(config: AcceleratorConfig) -> data.StructLayout:
    """Constants of a job that the statistics need, named as in ``tessera.hw.isa``'s LAYERNORM."""
    return data.StructLayout(
        {
            "channels": channel_bits(config),  # number of channels D
            "mode": 2,  # a NormMode; unless it is LAYER, the sum of the channels counts as 0
            "mean_multiplier": Numerics.multiplier_width,  # 1 / D, as a requantiser's multiplier
            "mean_shift": Numerics.shift_width,  # and its right shift
            "epsilon": 32,  # added to the variance times D squared
            "scale_multiplier": Numerics.multiplier_width,  # factor of the reciprocal deviation, 16 fraction bits
        }
    )


def row_scale_layout(config: AcceleratorConfig) -> data.StructLayout:
    """What normalises a row."""
    return data.StructLayout(
        {
            "mean": signed(config.numerics.residual.width + 1),  # its mean, a bit wider than the residual
            "scale": Numerics.mantissa_fraction + 1,  # reciprocal deviation = scale * 2**-exponent
            "exponent": Numerics.shift_width,
        }
    )


def shift_write_layout(config: AcceleratorConfig) -> data.StructLayout:
    """One chunk of channel shifts."""
    return data.StructLayout(
        {
            "address": ADDRESS_WIDTH,  # number of the chunk: channel = address * chunk_bytes + index
            "shifts": data.ArrayLayout(
                unsigned(Numerics.channel_shift_width), config.chunk_bytes
            ),  # extra precision of each channel, in bits
        }
    )
