"""What travels inside the image loader: lines of pixels, and words of patches."""

from __future__ import annotations

from amaranth.lib import data

from tessera.hw.config import AcceleratorConfig
from tessera.hw.interfaces.axi import beat_run_layout
from tessera.hw.interfaces.memory import scratch_write_layout

BLOCK_COLUMNS = 16
"""Patches beside each other of which one line is read at once."""


def run_tag_layout(config: AcceleratorConfig) -> data.StructLayout:
    """What the packer must know of a run of beats, which holds one line of a block of patches."""
    return data.StructLayout(
        {
            "offset": range(max(2, config.memory_bytes)),  # place of the first pixel in the first beat, in pixels
            "columns_minus_one": range(BLOCK_COLUMNS),  # number of patches, less one
            "patch_last": 1,  # the patches' last line
            "image_last": 1,  # the image's last line
        }
    )


def image_line_layout(config: AcceleratorConfig) -> data.StructLayout:
    """One line of a block of patches."""
    return data.StructLayout(
        {
            "run": beat_run_layout(),  # where it lies in memory
            "tag": run_tag_layout(config),  # what the packer must know of it
        }
    )


def patch_word_layout(config: AcceleratorConfig) -> data.StructLayout:
    """A finished word of a patch."""
    return data.StructLayout(
        {
            "write": scratch_write_layout(config),  # the word and its address
            "patch_last": 1,  # the patch's last word
            "image_last": 1,  # the image's last word
        }
    )
