"""What is cut where a network's tensors do not fit on chip at once."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Cut:
    """What of a segment is on chip at once.

    Parameters
    ----------
    head_groups:
        Groups of heads of its attention: Q, K and V of one are made and used up before those of the next. Every weight
        is still read once.
    blocks:
        Blocks of rows that go through it one after the other. Each reads all of its weights.
    ahead:
        Whether the rows of a block are loaded while the block before is computed.
    """

    head_groups: int = 1
    blocks: int = 1
    ahead: bool = True


@dataclass(frozen=True, kw_only=True)
class Cuts:
    """What of a frame is on chip at once, where the scratchpad does not hold it all.

    Parameters
    ----------
    segments:
        The cut of each segment.
    pixels_apart:
        The first norm waits until the patch embedding has read all pixels, and may take their place.
    streams_outside:
        Residual streams wait in external memory where there is no room for all.
    in_pieces:
        Rows of such that nothing but a norm reads are loaded a few at a time, where all would take much room.
    """

    segments: tuple[Cut, ...]
    pixels_apart: bool = False
    streams_outside: bool = False
    in_pieces: bool = False

    @property
    def none(self) -> bool:
        """Whether everything is on chip at once."""
        return not self.pixels_apart and not self.streams_outside and all(one == Cut() for one in self.segments)

    def describe(self) -> str:
        """The cuts in words."""
        found = []
        for what, counts in (
            ("heads", Counter(one.head_groups for one in self.segments)),
            ("rows", Counter(one.blocks for one in self.segments)),
        ):
            found += [
                f"{what} in {parts} parts ({times} times)" for parts, times in sorted(counts.items()) if parts > 1
            ]
        return f"with {', '.join(found)}" if found else "with nothing in parts"


def parts(count: int, wanted: int) -> list[range]:
    """``count`` things in at most ``wanted`` parts of one size, of which the last may be smaller."""
    size = -(-count // wanted)
    return [range(first, min(first + size, count)) for first in range(0, count, size)]


def sizes(count: int) -> list[int]:
    """Numbers of parts of ``count`` things, each the least for the size of its largest part."""
    return sorted({-(-count // size) for size in range(1, count + 1)})
