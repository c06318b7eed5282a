"""The weight stream: blocks in exactly the order in which the machine consumes them."""

from __future__ import annotations

from hashlib import sha256

import numpy as np

from tessera.hw.config import AcceleratorConfig

BLOCK_ALIGNMENT = 64


def padded(size: int, unit: int) -> int:
    """``size`` rounded up to a multiple of ``unit``."""
    return -(-size // unit) * unit


def pad_axis(array: np.ndarray, axis: int, size: int) -> np.ndarray:
    """``array`` with zeros appended up to ``size`` along ``axis``."""
    widths = [(0, 0)] * array.ndim
    widths[axis] = (0, size - array.shape[axis])
    return np.pad(array, widths)


def spread(array: np.ndarray, axis: int, block: int, size: int) -> np.ndarray:
    """``array`` with every ``block`` entries along ``axis`` (one attention head) padded by zeros to ``size``."""
    shape = array.shape
    split = array.reshape(*shape[:axis], shape[axis] // block, block, *shape[axis + 1 :])
    return pad_axis(split, axis + 1, size).reshape(*shape[:axis], -1, *shape[axis + 1 :])


def parameter_bytes(bias: np.ndarray, multiplier: np.ndarray, shift: np.ndarray) -> np.ndarray:
    """Requantiser parameter sets, 8 bytes each: bias int32, multiplier in bits 32 to 48, shift in bits 56 to 61."""
    bias, multiplier, shift = (np.asarray(values, np.int64) for values in (bias, multiplier, shift))
    for name, values, low, high in (
        ("bias", bias, -(1 << 31), (1 << 31) - 1),
        ("multiplier", multiplier, 0, 1 << 16),
        ("shift", shift, 0, 63),
    ):
        if values.min() < low or values.max() > high:
            raise ValueError(f"{name} lies in {values.min()} to {values.max()}; the machine holds {low} to {high}")
    words = (bias.astype(np.uint64) & np.uint64(0xFFFFFFFF)) | multiplier.astype(np.uint64) << np.uint64(32)
    return (words | shift.astype(np.uint64) << np.uint64(56)).astype("<u8").view(np.uint8)


def chunked(data: np.ndarray, config: AcceleratorConfig) -> np.ndarray:
    """Bytes padded to whole chunks."""
    return pad_axis(data, 0, padded(len(data), config.chunk_bytes))


def tile_bytes(weight: np.ndarray, config: AcceleratorConfig) -> np.ndarray:
    """Weights (channels, inputs), channels a multiple of P: for each tile and reduction word, P words of T bytes.

    int8 weights take a byte a lane; int16 ones (wide) two, low byte first.
    """
    wide = np.ascontiguousarray(weight).view(np.uint8)
    tiles = wide.reshape(-1, config.elements, wide.shape[1] // config.lanes, config.lanes)
    return tiles.transpose(0, 2, 1, 3).reshape(-1)


class StreamBuilder:
    """Appends blocks to the weight stream and tells their addresses; one that is there already is read again."""

    def __init__(self) -> None:
        self._parts: list[np.ndarray] = []
        self._known: dict[bytes, int] = {}
        self._size = 0

    @property
    def size(self) -> int:
        """Bytes so far."""
        return self._size

    def append(self, block: np.ndarray) -> int:
        """Add a block on the next 64-byte boundary; returns its address relative to the weight base."""
        digest = sha256(block.tobytes()).digest()
        if digest in self._known:
            return self._known[digest]
        gap = padded(self._size, BLOCK_ALIGNMENT) - self._size
        address = self._size + gap
        self._parts += [np.zeros(gap, np.uint8), block]
        self._size = address + len(block)
        self._known[digest] = address
        return address

    def content(self) -> np.ndarray:
        """The stream's bytes."""
        return np.concatenate([np.zeros(0, np.uint8), *self._parts])
