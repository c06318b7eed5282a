"""A board of your own: pins and clock from amaranth-boards, the rest from an entry of ``BOARDS``.

This one is a ULX3S with a slower clock. An entry in ``hw/boards/board.py`` makes it known to the command line.
"""

from dataclasses import replace

import tessera
from tessera.hw.boards.board import BOARDS

BOARDS["mine"] = replace(BOARDS["ulx3s-85f"], name="mine", title="ULX3S at 50 MHz", clock_hz=50_000_000, preset="tiny")

cost = tessera.estimate(board="mine")
print(cost)
assert not cost.too_many, "it fits"
