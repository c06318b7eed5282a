"""Cycles of a frame: the bound, the analytical model, and where a run's cycles went."""

import warnings

from amaranth.hdl import UnusedElaboratable

# Units are made to ask them for their latencies; that they are never elaborated is the point.
warnings.filterwarnings("ignore", category=UnusedElaboratable)
