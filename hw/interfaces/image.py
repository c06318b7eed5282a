"""What travels inside the image loader."""

from __future__ import annotations

from amaranth.lib import data

from hw.config import AcceleratorConfig

BLOCK_COLUMNS = 16
"""Patches beside each other of which one line is read at once."""


def run_tag_layout(config: AcceleratorConfig) -> data.StructLayout:
    """What the packer must know of a run of beats.

    ``offset`` is the first pixel's place in the first beat. The run holds a line of ``columns_minus_one + 1`` patches,
    with ``patch_last`` their last one, with ``image_last`` the image's.
    """
    return data.StructLayout(
        {
            "offset": range(max(2, config.memory_bytes)),
            "columns_minus_one": range(BLOCK_COLUMNS),
            "patch_last": 1,
            "image_last": 1,
        }
    )
