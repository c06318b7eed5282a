"""Parts of the analytical cycle model (``sw.cycle_model.predict``): times in cycles from the start of a frame."""

import warnings

from amaranth.hdl import UnusedElaboratable

# Units are made to ask them for their latencies; that they are never elaborated is the point.
warnings.filterwarnings("ignore", category=UnusedElaboratable)
