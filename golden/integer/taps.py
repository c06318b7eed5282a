"""Taps of a convolution: which positions of a map each of its results reads, and its filters as a matrix of them.

A tap is a position of the kernel. A result's *window* is what its taps read, tap by tap, line by line, and of each tap
the channels of the group. So a convolution is a product of windows and a matrix.

The picture comes in blocks of b x b pixels, each a position with all its pixels as channels. A convolution over the
picture is one over the map of blocks: a larger kernel, whose filters are 0 where a block has more pixels than they.

An enlarged map has four results for each position. The window of each is that position, then its neighbours on the
result's side: beside it, above or below it, and beyond both. So all results have the same weights.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import gcd, prod

import numpy as np

from tessera.golden.network.operators import AveragePool, Convolution

Pair = tuple[int, int]

MOST_TAPS, MOST_PADDING = 15, 7
"""Taps of a kernel's edge, and lines of padding, that a command can say."""

_WORD = 16
"""Channels that are usually read at once: blocks are chosen so that a window of the picture has few such words."""


@dataclass(frozen=True, kw_only=True)
class Taps:
    """How windows lie in a map; pairs are down and across.

    Parameters
    ----------
    kernel:
        Taps of an edge.
    stride:
        Positions from one window to the next.
    padding:
        Positions of the first window above the map and left of it.
    size:
        Positions of the map.
    made:
        Windows.
    groups:
        Parts of the channels that do not mix.
    block:
        Edge of the blocks of pixels that are the map's positions; 1 for a map of channels.
    shift:
        Pixel of a block at which filters begin.
    enlarges:
        Whether two by two windows lie around each position. ``padding`` is then that of positions, at most 0: negative
        where the map has a line above the first. A neighbour beyond the map is the position itself.
    """

    kernel: Pair
    stride: Pair
    padding: Pair
    size: Pair
    made: Pair
    groups: int = 1
    block: int = 1
    shift: Pair = (0, 0)
    enlarges: bool = False

    @property
    def count(self) -> int:
        """Taps of a window."""
        return prod(self.kernel)

    @property
    def behind(self) -> Pair:
        """Positions of the last window below the map and right of it."""
        reached = [
            (made - 1) * stride - padding + kernel
            for made, stride, padding, kernel in zip(self.made, self.stride, self.padding, self.kernel, strict=True)
        ]
        return max(0, reached[0] - self.size[0]), max(0, reached[1] - self.size[1])

    @property
    def padded(self) -> bool:
        """Whether taps read anything beyond the map."""
        return not self.enlarges and any((*self.padding, *self.behind))

    @property
    def pointwise(self) -> bool:
        """Whether every window is one position, in their order: a product without any taps."""
        plain = self.count == self.groups == self.block == 1 and not any(self.padding)
        return plain and self.made == self.size

    def windows(self, values: np.ndarray, padding: float = 0) -> np.ndarray:
        """All windows (windows, groups, inputs) of a map's ``values`` (positions, channels).

        Taps beyond the map read ``padding``.
        """
        if self.enlarges:
            return self._enlarged(values)
        around = [*zip(self.padding, self.behind, strict=True), (0, 0)]
        surrounded = np.pad(values.reshape(*self.size, -1), around, constant_values=padding)
        seen = np.lib.stride_tricks.sliding_window_view(surrounded, self.kernel, (0, 1))
        seen = seen[:: self.stride[0], :: self.stride[1]][: self.made[0], : self.made[1]]
        parts = seen.reshape(*self.made, self.groups, -1, *self.kernel)
        return parts.transpose(0, 1, 2, 4, 5, 3).reshape(prod(self.made), self.groups, -1)

    def _enlarged(self, values: np.ndarray) -> np.ndarray:
        """The same of an enlarged map."""
        grid = values.reshape(*self.size, -1)
        lines, columns = list(self._neighbours(0)), list(self._neighbours(1))
        seen = np.stack([grid[line[:, None], column] for line in lines for column in columns], axis=2)
        parts = seen.reshape(*self.made, self.count, self.groups, -1)
        return parts.transpose(0, 1, 3, 2, 4).reshape(prod(self.made), self.groups, -1)

    def _neighbours(self, axis: int) -> Iterator[np.ndarray]:
        """Lines, or columns, of the position and of the neighbour that each result of an enlarged map lies between."""
        side = np.arange(self.made[axis])
        position = side // 2 - self.padding[axis]
        yield position
        yield np.clip(position + np.where(side % 2, 1, -1), 0, self.size[axis] - 1)

    def matrix(self, filters: np.ndarray) -> np.ndarray:
        """The matrix (outputs, inputs of a window) of filters (outputs, channels of a group, lines, taps of a line)."""
        outputs, channels, *edges = filters.shape
        (lines, across), block, (down, right) = self.kernel, self.block, self.shift
        spread = np.zeros((outputs, channels, lines * block, across * block), filters.dtype)
        spread[:, :, down : down + edges[0], right : right + edges[1]] = filters
        split = spread.reshape(outputs, channels, lines, block, across, block)
        return split.transpose(0, 2, 4, 1, 3, 5).reshape(outputs, -1)


def taps_over(operator: Convolution | AveragePool, kernel: Pair, size: Pair, made: Pair, channels: int) -> Taps:
    """Taps of an operator over a map of positions with so many channels."""
    return Taps(
        kernel=kernel,
        stride=operator.stride,
        padding=(operator.padding[0], operator.padding[1]),
        size=size,
        made=made,
        groups=operator.groups if isinstance(operator, Convolution) else channels,
    )


def taps_around(size: Pair, channels: int) -> Taps:
    """Taps of a map of so many positions that becomes twice as high and wide."""
    made = (2 * size[0], 2 * size[1])
    return Taps(kernel=(2, 2), stride=(1, 1), padding=(0, 0), size=size, made=made, groups=channels, enlarges=True)


def taps_over_blocks(operator: Convolution, kernel: Pair, picture: Pair, made: Pair) -> Taps | None:
    """Taps of a convolution over a picture in those blocks with which windows have the fewest words.

    None if there are none: with blocks that divide the stride, the kernel or the padding is too large.
    """
    found = list(_over_blocks(operator, kernel, picture, made))
    return min(found, key=lambda taps: (taps.count * -(-3 * taps.block**2 // _WORD), -taps.block), default=None)


def _over_blocks(operator: Convolution, kernel: Pair, picture: Pair, made: Pair) -> Iterator[Taps]:
    stride, block = operator.stride, 1
    while gcd(*stride) % block == 0 and block <= min(picture):
        before = (-(-operator.padding[0] // block), -(-operator.padding[1] // block))
        shift = (before[0] * block - operator.padding[0], before[1] * block - operator.padding[1])
        blocks = (-(-(shift[0] + kernel[0]) // block), -(-(shift[1] + kernel[1]) // block))
        taps = Taps(
            kernel=blocks,
            stride=(stride[0] // block, stride[1] // block),
            padding=before,
            size=(picture[0] // block, picture[1] // block),
            made=made,
            block=block,
            shift=shift,
        )
        # Pixels behind the last whole block are not there: no filter may read one.
        last = [(made[axis] - 1) * stride[axis] - operator.padding[axis] + kernel[axis] for axis in range(2)]
        whole = all(min(last[axis], picture[axis]) <= taps.size[axis] * block for axis in range(2))
        if whole and max(*blocks, *taps.stride) <= MOST_TAPS and max(before) <= MOST_PADDING:
            yield taps
        block *= 2
