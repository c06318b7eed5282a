"""Products of windows as CONVOLUTION commands: where taps lie in the scratchpad, and which channels go at a time.

Groups that are no whole words go together: as many as fill words make one group of the machine, whose matrix is 0 where
inputs and outputs belong to different groups. So a depthwise convolution has matrices of T x T with nothing beside
the diagonal. Where no number of groups fills words without reaching beyond a position, all groups are one.

A map is enlarged by four commands. Each makes the results on one side of all positions, which are every second one of
every second line.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import gcd, lcm

import numpy as np

from tessera.golden.integer.steps import ProductStep
from tessera.golden.integer.taps import Taps
from tessera.sw.compiler.sizes import Sizes

MOST_TILES, MOST_WORDS, MOST_POSITIONS = 32, 255, 511
"""Tiles of a group, words of a tap, and lines or positions of a map that a command can say."""


@dataclass(frozen=True, kw_only=True)
class Corner:
    """Results of an enlarged map on one side of all positions.

    Parameters
    ----------
    side:
        1 where they lie below their position, and right of it; 0 above and left.
    """

    side: tuple[int, int]

    @property
    def taps(self) -> list[int]:
        """The tap of a window that each tap of the command is, line by line."""
        down, across = self.side
        return [2 * (line == down) + (tap == across) for line in range(2) for tap in range(2)]

    def rows(self, made: tuple[int, int]) -> np.ndarray:
        """Their rows among all of a map with so many positions."""
        return np.arange(made[0] * made[1]).reshape(made)[self.side[0] :: 2, self.side[1] :: 2].reshape(-1)


CORNERS = tuple(Corner(side=(down, across)) for down in range(2) for across in range(2))
"""All that a position becomes."""


@dataclass(frozen=True, kw_only=True)
class Windows:
    """The windows of a product on a machine.

    Parameters
    ----------
    taps:
        The network's.
    sizes:
        Sizes on the machine.
    channels, outputs:
        Channels that a tap reads of all groups, and outputs.
    skipped:
        Words of a position before them.
    stride:
        Words of a position.
    """

    taps: Taps
    sizes: Sizes
    channels: int
    outputs: int
    skipped: int
    stride: int

    @classmethod
    def of(cls, step: ProductStep, sizes: Sizes) -> Windows:
        """Those of a product."""
        assert step.taps is not None
        channels, lanes = sizes.plan.by_name[step.source.tensor].channels, sizes.config.lanes
        first, stop = step.inputs or (0, channels)
        assert first % lanes == 0, f"{step.name}: its inputs begin within a word"
        return cls(
            taps=step.taps,
            sizes=sizes,
            channels=stop - first,
            outputs=step.matrix.stop - step.matrix.start,
            skipped=first // lanes,
            stride=sizes.row_words(step.source.tensor),
        )

    @property
    def together(self) -> int:
        """Groups of the network that are one group of the machine."""
        lanes, elements, groups = self.sizes.config.lanes, self.sizes.config.elements, self.taps.groups
        inputs, outputs = self.channels // groups, self.outputs // groups
        some = lcm(lanes // gcd(lanes, inputs), elements // gcd(elements, outputs))
        whole = -(-groups // some) * some * inputs <= self.sizes.channels(self.channels)
        return some if some < groups and whole else groups

    @property
    def tap_words(self) -> int:
        """Words that a tap reads."""
        return self.sizes.words(self.channels // self.taps.groups * self.together)

    @property
    def words(self) -> int:
        """Words of a group's window."""
        return self.taps.count * self.tap_words

    @property
    def tiles(self) -> int:
        """Tiles of outputs of a group; 0 if all outputs are of one."""
        if self.together == self.taps.groups:
            return 0
        return self.outputs // self.taps.groups * self.together // self.sizes.config.elements

    def matrix(self, weight: np.ndarray) -> np.ndarray:
        """Weights (outputs, inputs of a window) with 0 for the other groups' channels, and up to whole words."""
        own, together = self.channels // self.taps.groups, self.together
        group = np.arange(self.outputs) // (self.outputs // self.taps.groups)
        lane = (group % together * own)[:, None] + np.arange(own)
        spread = np.zeros((self.outputs, self.taps.count, self.tap_words * self.sizes.config.lanes), weight.dtype)
        np.put_along_axis(spread, lane[:, None], weight.reshape(self.outputs, self.taps.count, own), axis=2)
        return spread.reshape(self.outputs, -1)

    def corner_fields(
        self, corner: Corner, base: int, stationary_rows: int, destination: int, stride: int
    ) -> dict[str, int]:
        """Fields of the command that makes a corner of a map that begins at the word ``base``.

        All results begin at the word ``destination``; each has ``stride`` words.
        """
        taps, (down, across) = self.taps, corner.side
        # Where the map has a line above the first position, results above their position begin with that line.
        skipped = max(0, down - 1 - taps.padding[0])
        first = destination + (down * taps.made[1] + across) * stride
        fields = self.fields(base + skipped * taps.size[1] * self.stride, stationary_rows, first, 2 * stride)
        return fields | {
            "steps": taps.made[0] * taps.made[1] // 4,
            "input_rows": taps.size[0] - skipped,
            "pad_top": max(0, 1 - down + taps.padding[0]),
            "pad_left": 1 - across,
            "clamp": 1,
            "output_columns": taps.made[1] // 2,
            "destination_jump": (taps.made[1] + 2) * stride,
        }

    def fields(self, base: int, stationary_rows: int, destination: int, destination_stride: int) -> dict[str, int]:
        """Fields of the command that say where taps and results lie, for a map that begins at the word ``base``."""
        taps, grouped = self.taps, self.together < self.taps.groups
        return {
            "broadcast_base": base + self.skipped,
            "broadcast_stride": self.stride,
            "line_stride": taps.size[1] * self.stride,
            "tap_words": self.tap_words,
            "words": self.words,
            "steps": taps.made[0] * taps.made[1],
            "stationary_rows": stationary_rows,
            "destination_base": destination,
            "destination_stride": destination_stride,
            "destination_jump": destination_stride,
            "clamp": 0,
            "taps_y": taps.kernel[0],
            "taps_x": taps.kernel[1],
            "stride_y": taps.stride[0],
            "stride_x": taps.stride[1],
            "pad_top": taps.padding[0],
            "pad_left": taps.padding[1],
            "input_rows": taps.size[0],
            "input_columns": taps.size[1],
            "output_columns": taps.made[1],
            "group_words": self.tap_words if grouped else 0,
            "group_tiles": self.tiles % MOST_TILES,
        }
